/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The balloon's driver for Linux, in place of the stock one: what its files
 * have in common. What to do next is decided by the core's driver halves
 * (src/balloon/), the same that the bare guest and the tests run; here it is
 * done.
 *
 * Who runs what. The *handler* (config.c) is one work item on an ordered
 * workqueue: it reads the configuration space, which nobody does in an
 * interrupt. Three *workers* are work items that may run beside it and each
 * other: adjust.c, report.c, statistics.c. A run of theirs is short, and queues
 * the next, so that a machine that goes to sleep need not wait for all there is
 * to do. Each virtqueue has one user: its worker (inflate, of adjust.c), who
 * holds adjust_lock (deflate), or the kernel's page reporting.
 *
 * Locks: decision_lock is held for one question to a driver half, never while
 * the answer is carried out. adjust_lock is for the pages that the host has;
 * who deflates holds it until the device has answered. Nothing is allocated
 * under it: the OOM notifier takes it, too. The spinlocks (work_lock,
 * blocks.lock) are the innermost.
 */
#ifndef AEROSTAT_BALLOON_H
#define AEROSTAT_BALLOON_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/page_reporting.h>
#include <linux/scatterlist.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/virtio.h>
#include <linux/virtio_balloon.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "core.h"

#include "balloon/balloon_driver.h"
#include "balloon/command_driver.h"
#include "balloon/page_ranges.h"
#include "balloon/queues.h"

/* The kernel's again; the queues are QUEUE_INFLATE and QUEUE_DEFLATE. */
#undef BALLOON_INFLATE
#undef BALLOON_DEFLATE

#define FRAMES_PER_BUFFER 256 /* 1 MiB */
#define RANGES_PER_BUFFER 16  /* up to 64 MiB */
#define BUFFERS_ON_WAY 8      /* at most, of each queue */

/* Of the module, from its loading on; counters.c has their names. */
enum balloon_counter {
	COUNT_CONFIG_READS,
	COUNT_CONFIG_WRITES,
	COUNT_KICKS,		/* that went out to the device */
	COUNT_INTERRUPTS,	/* callbacks that they led to */
	COUNT_REQUESTS,		/* targets, and words about reports */
	COUNT_REPORTS,		/* ids sent */
	COUNT_SIGNS,
	COUNT_HINTS,		/* blocks sent */
	COUNT_HINTED_PAGES,
	COUNT_TAKEN_BACK,	/* blocks, before DONE */
	COUNT_RELEASES,		/* DONEs carried out */
	COUNT_FULL,		/* waits for a slot of the ring */
	COUNT_BUFFERS,		/* to inflate and to deflate */
	COUNT_BATCHES,		/* of these: told of together */
	COUNT_MOST_INFLATING,	/* buffers on their way at once */
	COUNT_MOST_DEFLATING,
	COUNT_INFLATED,		/* pages */
	COUNT_DEFLATED,
	COUNT_OOM_DEFLATED,
	COUNT_REPORTED_PAGES,
	COUNT_STATISTICS,	/* buffers */
	COUNTERS,
};

void balloon_count(enum balloon_counter counter, u64 by);
void balloon_count_most(enum balloon_counter counter, u64 value);
void balloon_counters_init(void);
void balloon_counters_exit(void);

/* Free blocks that the host knows of, until DONE or until memory is short. */
struct balloon_blocks {
	spinlock_t lock;
	struct list_head list;	/* page->lru; page_private() is the order */
	unsigned long pages;
	struct shrinker *shrinker;
};

/* Pages that go to the device together. */
struct balloon_buffer {
	struct list_head blocks; /* none: it is not on its way */
	unsigned int pages;	/* in them */
	unsigned int used;	/* of the frames, or of the ranges */
	__virtio32 frames[FRAMES_PER_BUFFER];
};

/* To inflate, or to deflate; of the queue's user. */
struct balloon_transfer {
	struct balloon_buffer buffers[BUFFERS_ON_WAY];
	unsigned int on_way;	/* buffers */
	unsigned int pages;	/* in these */
	unsigned int unkicked;	/* of these, those the device was not told of */
	struct scatterlist ranges[RANGES_PER_BUFFER]; /* of the next one */
};

struct balloon {
	struct virtio_device *vdev;
	struct virtqueue *queue[BALLOON_QUEUES]; /* NULL: there is none */
	wait_queue_head_t acknowledged;

	spinlock_t work_lock;
	bool running;		/* works may be queued */
	struct workqueue_struct *handler, *workers;
	struct work_struct config_work, report_work, statistics_work;
	struct delayed_work adjust_work;

	struct mutex decision_lock;
	bool commands;		/* which of the two protocols is spoken */
	struct command_driver command;
	struct report_driver standard;
	u32 target;

	struct mutex adjust_lock;
	struct list_head pages;	/* blocks that the host has: page->lru;
				   page_private() is the order */
	u32 actual;		/* pages in them */
	struct balloon_transfer transfer[QUEUE_DEFLATE + 1];
	struct notifier_block oom;
	bool watches_oom;

	/* The report's worker alone uses these. */
	struct balloon_blocks blocks;
	unsigned int order;	/* of the next block */
	unsigned int unkicked;	/* blocks */
	unsigned long kicked;	/* when, in jiffies */
	__virtio32 *words;	/* one for each slot, see report.c */
	unsigned int next_word;

	struct page_reporting_dev_info reporting;
	bool reports;

	bool statistics_sent;	/* the device has a buffer, or had one */
	struct virtio_balloon_stat statistics[VIRTIO_BALLOON_S_NR];
};

/* ------------------------------------------------------------ queue.c --- */

/* Find the queues that exist with what was negotiated. */
int balloon_find_queues(struct balloon *b);
void balloon_drop_queues(struct balloon *b);

/* Tell the device that there are buffers, if it wants to know. */
void balloon_kick(struct virtqueue *vq);

/*
 * Wait for a buffer of a queue. Return: what it was added with; NULL when the
 * device is broken, and what it holds may still be looked at until its reset.
 */
void *balloon_wait(struct balloon *b, struct virtqueue *vq);

/* Those who wait look again: a device that was pulled out tells nobody. */
void balloon_wake(struct balloon *b);

/* Queue a work unless the driver is on its way out. */
void balloon_queue_handler(struct balloon *b);
void balloon_queue_worker(struct balloon *b, struct work_struct *work);
void balloon_queue_adjust(struct balloon *b, unsigned long delay);

/* ----------------------------------------------------------- config.c --- */

u32 balloon_config_read(struct balloon *b, unsigned int offset);
void balloon_config_write(struct balloon *b, unsigned int offset, u32 value);
void balloon_handle_config(struct work_struct *work);

/* ---------------------------------------------------------- buffers.c --- */

/* Blocks are larger than a page only with ranges. */
static inline unsigned int pages_of(const struct page *block)
{
	return 1u << page_private(block);
}

bool balloon_by_ranges(const struct balloon *b);

/* Blocks that a buffer holds wherever they lie. */
unsigned int balloon_buffer_room(const struct balloon *b,
				 enum balloon_queue to);

/* Most pages of a buffer; of ranges that meet, too. */
unsigned int balloon_buffer_pages(const struct balloon *b,
				  enum balloon_queue to);

/*
 * Send the first blocks of @from, as many as a buffer holds and at most @most
 * pages. Return: pages; 0 when no buffer or no slot is free, or the device is
 * broken: then the blocks are still in @from
 */
unsigned int balloon_send(struct balloon *b, enum balloon_queue to,
			  struct list_head *from, unsigned int most);

/*
 * Wait until at most @left buffers are on their way. The blocks of all that
 * came go to @back, the last first. Return: pages; 0 when there is nothing to
 * wait for, or the device is broken
 */
unsigned int balloon_collect(struct balloon *b, enum balloon_queue to,
			     struct list_head *back, unsigned int left);

void balloon_transfer_init(struct balloon_transfer *transfer);

/* After the reset: what did not come back goes to @back. */
void balloon_transfer_end(struct balloon_transfer *transfer,
			  struct list_head *back);

/* ----------------------------------------------------------- adjust.c --- */

void balloon_check_ranges(struct virtio_device *vdev);
void balloon_adjust(struct work_struct *work);
int balloon_oom_begin(struct balloon *b);
void balloon_oom_end(struct balloon *b);

/* Take all pages back, for the driver goes. */
void balloon_deflate_all(struct balloon *b);

/* Free what a broken device did not give back, once it has been reset. */
void balloon_free_rest(struct balloon *b);

/* ----------------------------------------------------------- report.c --- */

/* Before DRIVER_OK. */
int balloon_report_init(struct balloon *b);
void balloon_report_exit(struct balloon *b);
void balloon_report(struct work_struct *work);

/* Give all blocks back, for the driver goes. No sign is sent (G-8). */
void balloon_report_leave(struct balloon *b);

/* ----------------------------------------------------------- blocks.c --- */

void balloon_blocks_init(struct balloon_blocks *blocks);
int balloon_blocks_begin(struct balloon_blocks *blocks);
void balloon_blocks_end(struct balloon_blocks *blocks);

/* The next free block of at most that order. Return: NULL when there is none */
struct page *balloon_block_take(unsigned int *order);

/* It is with the host; from now on it may be taken back at any moment. */
void balloon_block_keep(struct balloon_blocks *blocks, struct page *page,
			unsigned int order);
void balloon_blocks_release(struct balloon_blocks *blocks);

/* -------------------------------------------------------- reporting.c --- */

/* Features that what the kernel does to free pages rules out. */
void balloon_check_poison(struct virtio_device *vdev);
void balloon_tell_poison(struct balloon *b); /* before DRIVER_OK */
int balloon_reporting_begin(struct balloon *b);
void balloon_reporting_end(struct balloon *b);

/* ------------------------------------------------------- statistics.c --- */

void balloon_statistics_begin(struct balloon *b);
void balloon_statistics(struct work_struct *work);

#endif
