// SPDX-License-Identifier: MIT
/*
 * The free page queue's device, alone: hints of 4 MiB, as Linux sends them,
 * through the real queue into the set of a report; alone, or beside a thread that
 * does what a migration's sender does with that set meanwhile.
 *
 *   hints alone|sender GIB REPORTS
 *
 * Prints "HINTS NANOSECONDS RUNS": hints of so much memory, in each of so many
 * reports; the device's time for them, and how many runs of pages to be sent the
 * sender found meanwhile. Exit status 1 when a hint or a page of one is lost, or
 * is not left out by a sender that comes by afterwards.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#include "rig.h"

#define HINT_BYTES (4 * MIB)
#define HINT_PAGES (HINT_BYTES >> GUEST_PAGE_SHIFT)
#define WORD_AT 0x8000ull /* an id, in guest memory */
#define LONGEST_RUN 1024  /* pages of a record */

struct sender {
	const struct page_set *to_send, *hinted;
	_Atomic bool stop;
	_Atomic uint64_t runs; /* found, by all walks */
	uint64_t left;	       /* pages that the last walk found */
};

/* As send_all() of src/migration/source_pages.c, but that nothing is sent and
 * so the next walk finds the same again, less what was hinted. */
static void walk(struct sender *sender)
{
	uint64_t from = 0, pages = 0;
	struct page_run run;

	while (page_set_next_run_without(sender->to_send, sender->hinted, from,
					 LONGEST_RUN, &run)) {
		pages += run.count;
		from = run.first + run.count;
		if (atomic_load_explicit(&sender->stop, memory_order_relaxed))
			break;
		atomic_store_explicit(&sender->runs, sender->runs + 1,
				      memory_order_relaxed);
	}
	sender->left = pages;
}

/* Each thread has its CPU where there are two: else they would take turns. */
static cpu_set_t cpus; /* that we may use */

static void stay_on(unsigned int which)
{
	cpu_set_t one;
	int cpu = 0;

	if (CPU_COUNT(&cpus) < 2)
		return;
	while (!CPU_ISSET(cpu, &cpus) || which--)
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static void *send_pages(void *argument)
{
	struct sender *sender = argument;

	stay_on(1);
	while (!atomic_load(&sender->stop))
		walk(sender);
	return NULL;
}

static void begin_report(struct rig *rig)
{
	uint8_t *word = rig->memory.region[0].host + WORD_AT;
	uint32_t id;

	if (balloon_report_start(&rig->balloon, &rig->hinted) < 0)
		errx(1, "no report can be asked for");
	id = atomic_load(&rig->balloon.config.free_page_hint_cmd_id);
	memcpy(word, &id, sizeof(id));
	rig_add(rig, WORD_AT, sizeof(id), false);
	rig_serve(rig, BALLOON_FREE_PAGE);
	if (rig_reap(rig) != 1 ||
	    rig->balloon.report.state != REPORT_ACCEPTING)
		errx(1, "the report was not begun");
}

/* Every 4 MiB of a region, whole. Return: hints */
static uint64_t hint_region(struct rig *rig,
			    const struct memory_region *region, uint64_t *ns)
{
	uint64_t at, end = region->size & ~(HINT_BYTES - 1), hints = 0;
	unsigned int i;

	for (at = 0; at < end; hints += i) {
		for (i = 0; i < RIG_RING && at < end; i++, at += HINT_BYTES)
			rig_add(rig, region->start.value + at, HINT_BYTES,
				true);
		*ns += rig_serve(rig, BALLOON_FREE_PAGE);
		if (rig_reap(rig) != i)
			errx(1, "a hint did not come back");
	}
	return hints;
}

static uint64_t hint_all(struct rig *rig, uint64_t *ns)
{
	uint64_t hints = 0;
	unsigned int i;

	for (i = 0; i < rig->memory.regions; i++)
		hints += hint_region(rig, &rig->memory.region[i], ns);
	return hints;
}

static void check(const struct rig *rig, struct sender *sender, uint64_t hints)
{
	const struct report_counters *counted = &rig->balloon.report.counters;
	uint64_t pages = page_set_count(&rig->hinted);

	if (hints != rig->memory.size / HINT_BYTES ||
	    counted->hints != hints || counted->rejected ||
	    counted->uncounted || pages != hints * HINT_PAGES ||
	    counted->hinted_pages != pages)
		errx(1, "%" PRIu64 " hints: %" PRIu64 " were counted, with %"
		     PRIu64 " pages", hints, counted->hints, pages);
	atomic_store(&sender->stop, false);
	walk(sender);
	if (sender->left)
		errx(1, "%" PRIu64 " hinted pages would be sent", sender->left);
}

static void add_all(struct page_set *set, const struct guest_memory *memory)
{
	unsigned int i;

	for (i = 0; i < memory->regions; i++)
		page_set_add(set, (struct page_run){
			memory->region[i].start.value >> GUEST_PAGE_SHIFT,
			memory->region[i].size >> GUEST_PAGE_SHIFT });
}

/* Its storage exists beforehand, as after a report before: the kernel's zeroing
 * of it is no work of the device's. */
static void warm(struct page_set *set, const struct guest_memory *memory)
{
	add_all(set, memory);
	page_set_clear(set);
}

/* One report. Return: hints */
static uint64_t report(struct rig *rig, struct sender *sender, bool beside,
		       uint64_t *ns, uint64_t *found)
{
	uint64_t hints, before = 0;
	pthread_t thread;

	begin_report(rig);
	atomic_store(&sender->stop, false);
	atomic_store(&sender->runs, 0);
	if (beside && pthread_create(&thread, NULL, send_pages, sender))
		errx(1, "no thread");
	while (beside && !(before = atomic_load(&sender->runs)))
		;
	hints = hint_all(rig, ns);
	*found += atomic_load(&sender->runs) - before;
	atomic_store(&sender->stop, true);
	if (beside)
		pthread_join(thread, NULL);
	balloon_report_close(&rig->balloon);
	check(rig, sender, hints);
	page_set_clear(&rig->hinted);
	return hints;
}

static void measure(struct rig *rig, bool beside, unsigned int reports)
{
	struct page_set to_send;
	struct sender sender = { .to_send = &to_send, .hinted = &rig->hinted };
	uint64_t hints = 0, ns = 0, found = 0;

	rig_set(&to_send, rig->memory.frames);
	add_all(&to_send, &rig->memory);
	warm(&rig->hinted, &rig->memory);
	while (reports--)
		hints += report(rig, &sender, beside, &ns, &found);
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", hints, ns, found);
}

int main(int argc, char **argv)
{
	uint64_t gib = argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
	unsigned int reports = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
	bool beside = argc == 4 && !strcmp(argv[1], "sender");
	struct rig rig;

	if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
		CPU_ZERO(&cpus);
	stay_on(0);
	if (!gib || gib > 512 || !reports ||
	    (!beside && strcmp(argv[1], "alone")))
		errx(2, "usage: hints alone|sender GIB REPORTS (up to 512)");
	rig_create(&rig, gib << 30, BALLOON_FREE_PAGE);
	measure(&rig, beside, reports);
	return 0;
}
