// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Inflate and deflate (VIRTIO 1.3 section 5.5.6.1 ff.): which pages go, and
 * whose they are. buffers.c sends them.
 *
 * A page counts as the host's once it has answered. On the way back it is the
 * host's until it has answered, too, whether it asked for that (MUST_TELL_HOST)
 * or not.
 */
#include <linux/gfp.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/oom.h>
#include <linux/virtio_config.h>

#include "balloon.h"
#include "compat.h"

#define OOM_PAGES 256
#define OOM_PRIORITY 80		/* as the stock driver: before the others */
#define RETRY_DELAY msecs_to_jiffies(200)
#define BUFFERS_PER_RUN (2 * BUFFERS_ON_WAY)

/* Memory for the host is worth dropping caches for, but no more than that. The
 * pages cannot be moved. */
#define INFLATE_GFP \
	(GFP_HIGHUSER | __GFP_NOMEMALLOC | __GFP_NORETRY | __GFP_NOWARN)
/* Larger blocks are taken where they lie about. */
#define BLOCK_GFP (INFLATE_GFP & ~__GFP_RECLAIM)

static bool page_ranges = true;
module_param(page_ranges, bool, 0444);
MODULE_PARM_DESC(page_ranges,
		 "inflate and deflate by ranges where the host offers it");

/* Who accepts ranges accepts this as well (P-1). */
void balloon_check_ranges(struct virtio_device *vdev)
{
	if (!page_ranges || !virtio_has_feature(vdev, VIRTIO_F_VERSION_1))
		__virtio_clear_bit(vdev, BALLOON_F_PAGE_RANGES);
}

static bool deflates_on_oom(const struct balloon *b)
{
	return virtio_has_feature(b->vdev, VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
}

static void note_actual(struct balloon *b, u32 actual)
{
	WRITE_ONCE(b->actual, actual);
	balloon_config_write(b, offsetof(struct virtio_balloon_config, actual),
			     actual);
}

static void free_blocks(struct balloon *b, struct list_head *list)
{
	struct page *block, *next;
	unsigned int order;

	list_for_each_entry_safe(block, next, list, lru) {
		list_del(&block->lru);
		if (!deflates_on_oom(b))
			adjust_managed_page_count(block, pages_of(block));
		order = page_private(block);
		set_page_private(block, 0);
		__free_pages(block, order);
	}
}

/* A block of at most @most pages and of at most *@order, which goes down to what
 * there is. Return: NULL when there is none */
static struct page *allocate_block(unsigned int *order, unsigned int most)
{
	struct page *block;

	*order = min_t(unsigned int, *order, ilog2(most));
	for (;;) {
		block = alloc_pages(*order ? BLOCK_GFP : INFLATE_GFP, *order);
		if (block)
			set_page_private(block, *order);
		if (block || !*order)
			return block;
		--*order;
	}
}

/* What is not with the host counts as the machine's memory only where the guest
 * may take it back by itself. Return: pages, as many as a buffer holds */
static unsigned int allocate(struct balloon *b, struct list_head *list,
			     unsigned int most)
{
	unsigned int order = balloon_by_ranges(b) ? LARGEST_ORDER : 0;
	unsigned int room = balloon_buffer_room(b, QUEUE_INFLATE);
	unsigned int count;
	struct page *block;

	for (count = 0; count < most && room; count += pages_of(block)) {
		block = allocate_block(&order, most - count);
		if (!block)
			break;
		if (!deflates_on_oom(b))
			adjust_managed_page_count(block,
						  -(long)pages_of(block));
		list_add_tail(&block->lru, list);
		room--;
	}
	return count;
}

/* Wait until at most @left buffers are on their way; what has come back is the
 * host's. Return: pages */
static unsigned int settle(struct balloon *b, unsigned int left)
{
	unsigned int count;
	LIST_HEAD(theirs);

	count = balloon_collect(b, QUEUE_INFLATE, &theirs, left);
	if (!count)
		return 0;
	mutex_lock(&b->adjust_lock);
	list_splice(&theirs, &b->pages);
	note_actual(b, b->actual + count);
	mutex_unlock(&b->adjust_lock);
	balloon_count(COUNT_INFLATED, count);
	count_vm_events(BALLOON_INFLATE, count);
	return count;
}

/* Return: false when the device is broken; it has not seen them then. */
static bool send_new(struct balloon *b, struct list_head *new)
{
	while (!balloon_send(b, QUEUE_INFLATE, new, UINT_MAX))
		if (!settle(b, b->transfer[QUEUE_INFLATE].on_way / 2))
			return false;
	return true;
}

/* Pages for the next buffer: the target may have changed. */
static unsigned int still_wanted(const struct balloon *b)
{
	s64 wanted = balloon_driver_adjust(READ_ONCE(b->target),
					   READ_ONCE(b->actual)) -
		     b->transfer[QUEUE_INFLATE].pages;

	return clamp_t(s64, wanted, 0, balloon_buffer_pages(b, QUEUE_INFLATE));
}

/* After a run none is on its way, unless the device is broken: who stops the
 * works has no more to wait for. Return: false when there was no memory */
static bool inflate(struct balloon *b)
{
	unsigned int sent = 0, most;
	LIST_HEAD(new);

	while (sent < BUFFERS_PER_RUN && READ_ONCE(b->running) &&
	       (most = still_wanted(b)) && allocate(b, &new, most) &&
	       send_new(b, &new)) {
		sent++;
		cond_resched();
	}
	settle(b, 0);
	free_blocks(b, &new);
	return sent;
}

/* Where the first block is more than is asked for, its pages go on alone. The
 * last that came are the first, and the smallest. */
static void split_first(struct list_head *list, unsigned int most)
{
	struct page *block = list_first_entry_or_null(list, struct page, lru);
	unsigned int i, pages;

	if (!block || pages_of(block) <= most)
		return;
	pages = pages_of(block);
	list_del(&block->lru);
	split_page(block, page_private(block));
	for (i = pages; i-- > 0;) {
		set_page_private(block + i, 0);
		list_add(&block[i].lru, list);
	}
}

/* As many buffers as may be on their way at once. */
static void send_back(struct balloon *b, unsigned int most)
{
	unsigned int count;

	do {
		split_first(&b->pages, most);
		count = balloon_send(b, QUEUE_DEFLATE, &b->pages, most);
		most -= count;
	} while (count && most);
}

/* Return: pages that came back. What is not answered stays with the host. */
static unsigned int deflate(struct balloon *b, unsigned int most)
{
	unsigned int count;
	LIST_HEAD(back);

	mutex_lock(&b->adjust_lock);
	send_back(b, most);
	count = balloon_collect(b, QUEUE_DEFLATE, &back, 0);
	if (count) {
		free_blocks(b, &back);
		note_actual(b, b->actual - count);
	}
	mutex_unlock(&b->adjust_lock);
	balloon_count(COUNT_DEFLATED, count);
	count_vm_events(BALLOON_DEFLATE, count);
	return count;
}

/* Return: true when there may be more to do */
static bool step(struct balloon *b)
{
	s64 difference = balloon_driver_adjust(READ_ONCE(b->target),
					       READ_ONCE(b->actual));

	if (virtqueue_is_broken(b->queue[QUEUE_INFLATE]))
		return false;
	if (difference < 0)
		return deflate(b, -difference);
	if (!difference)
		return false;
	if (inflate(b))
		return true;
	balloon_queue_adjust(b, RETRY_DELAY);
	return false;
}

void balloon_adjust(struct work_struct *work)
{
	struct balloon *b = container_of(to_delayed_work(work), struct balloon,
					 adjust_work);

	if (step(b))
		balloon_queue_adjust(b, 0);
}

void balloon_deflate_all(struct balloon *b)
{
	while (deflate(b, UINT_MAX))
		cond_resched();
}

void balloon_free_rest(struct balloon *b)
{
	balloon_transfer_end(&b->transfer[QUEUE_INFLATE], &b->pages);
	balloon_transfer_end(&b->transfer[QUEUE_DEFLATE], &b->pages);
	free_blocks(b, &b->pages);
	b->actual = 0;
}

/* --------------------------------------------------------------- OOM --- */

/* D8. The worker takes them back only when the host asks anew. */
static int deflate_on_oom(struct notifier_block *oom, unsigned long unused,
			  void *freed)
{
	struct balloon *b = container_of(oom, struct balloon, oom);
	unsigned int count = deflate(b, OOM_PAGES);

	balloon_count(COUNT_OOM_DEFLATED, count);
	*(unsigned long *)freed += count;
	return NOTIFY_OK;
}

int balloon_oom_begin(struct balloon *b)
{
	int error;

	if (!deflates_on_oom(b))
		return 0;
	b->oom.notifier_call = deflate_on_oom;
	b->oom.priority = OOM_PRIORITY;
	error = register_oom_notifier(&b->oom);
	b->watches_oom = !error;
	return error;
}

void balloon_oom_end(struct balloon *b)
{
	if (b->watches_oom)
		unregister_oom_notifier(&b->oom);
	b->watches_oom = false;
}
