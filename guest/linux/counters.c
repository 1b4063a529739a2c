// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* What the driver has done: debugfs, aerostat_balloon/counters. */
#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/seq_file.h>

#include "balloon.h"

static const char *const names[COUNTERS] = {
	[COUNT_CONFIG_READS] = "config_reads",
	[COUNT_CONFIG_WRITES] = "config_writes",
	[COUNT_KICKS] = "kicks",
	[COUNT_INTERRUPTS] = "interrupts",
	[COUNT_REQUESTS] = "requests",
	[COUNT_REPORTS] = "reports",
	[COUNT_SIGNS] = "signs",
	[COUNT_HINTS] = "hints",
	[COUNT_HINTED_PAGES] = "hinted_pages",
	[COUNT_TAKEN_BACK] = "taken_back",
	[COUNT_RELEASES] = "releases",
	[COUNT_FULL] = "full",
	[COUNT_BUFFERS] = "buffers",
	[COUNT_BATCHES] = "batches",
	[COUNT_MOST_INFLATING] = "most_inflating",
	[COUNT_MOST_DEFLATING] = "most_deflating",
	[COUNT_INFLATED] = "inflated",
	[COUNT_DEFLATED] = "deflated",
	[COUNT_OOM_DEFLATED] = "oom_deflated",
	[COUNT_REPORTED_PAGES] = "reported_pages",
	[COUNT_STATISTICS] = "statistics",
};

static atomic64_t values[COUNTERS];
static struct dentry *directory;

void balloon_count(enum balloon_counter counter, u64 by)
{
	atomic64_add(by, &values[counter]);
}

void balloon_count_most(enum balloon_counter counter, u64 value)
{
	s64 most = atomic64_read(&values[counter]);

	while ((s64)value > most &&
	       !atomic64_try_cmpxchg(&values[counter], &most, value))
		;
}

static int counters_show(struct seq_file *file, void *unused)
{
	int i;

	for (i = 0; i < COUNTERS; i++)
		seq_printf(file, "%s %lld\n", names[i],
			   (long long)atomic64_read(&values[i]));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

/* The driver works as well where there is no debugfs. */
void balloon_counters_init(void)
{
	directory = debugfs_create_dir("aerostat_balloon", NULL);
	debugfs_create_file("counters", 0444, directory, NULL, &counters_fops);
}

void balloon_counters_exit(void)
{
	debugfs_remove(directory);
}
