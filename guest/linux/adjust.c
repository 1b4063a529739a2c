// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Inflate and deflate (VIRTIO 1.3 section 5.5.6.1 ff.), a buffer at a time.
 *
 * Pages are the host's until it has answered: a deflated page is used again
 * after that, whether it asked for it (MUST_TELL_HOST) or not. A buffer holds
 * frame numbers; or, with F_PAGE_RANGES, the pages themselves, in the largest
 * blocks there are (docs/spec/page-ranges.md).
 */
#include <linux/gfp.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/oom.h>
#include <linux/scatterlist.h>
#include <linux/virtio_config.h>

#include "balloon.h"
#include "compat.h"

#define OOM_PAGES 256
#define OOM_PRIORITY 80		/* as the stock driver: before the others */
#define RETRY_DELAY msecs_to_jiffies(200)

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

static bool by_ranges(const struct balloon *b)
{
	return virtio_has_feature(b->vdev, BALLOON_F_PAGE_RANGES);
}

static bool deflates_on_oom(const struct balloon *b)
{
	return virtio_has_feature(b->vdev, VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
}

/* Pages of a block. Blocks are larger than a page only with ranges. */
static unsigned int pages_of(const struct page *block)
{
	return 1u << page_private(block);
}

/* Most pages of a buffer. */
static unsigned int most_pages(const struct balloon *b)
{
	return by_ranges(b) ? RANGES_PER_BUFFER << LARGEST_ORDER :
			      FRAMES_PER_BUFFER;
}

static bool put_frame(struct balloon *b, struct page *page)
{
	if (b->blocks_in_buffer == FRAMES_PER_BUFFER)
		return false;
	b->frames[b->blocks_in_buffer++] =
		cpu_to_virtio32(b->vdev, (u32)page_to_pfn(page));
	return true;
}

/* What follows the last range makes it longer: the pages of a block that was
 * split do. */
static bool put_range(struct balloon *b, struct page *block)
{
	unsigned int bytes = pages_of(block) << PAGE_SHIFT;
	struct scatterlist *last = b->blocks_in_buffer ?
		&b->ranges[b->blocks_in_buffer - 1] : NULL;

	if (last && page_to_pfn(sg_page(last)) + (last->length >> PAGE_SHIFT) ==
			    page_to_pfn(block)) {
		last->length += bytes;
		return true;
	}
	if (b->blocks_in_buffer == RANGES_PER_BUFFER)
		return false;
	sg_set_page(&b->ranges[b->blocks_in_buffer++], block, bytes, 0);
	return true;
}

/* The first blocks of @from go to @to and into the buffer: at most @most pages,
 * and what a buffer holds. Return: pages */
static unsigned int fill_buffer(struct balloon *b, struct list_head *from,
				struct list_head *to, unsigned int most)
{
	struct page *block, *next;
	unsigned int count = 0;

	b->blocks_in_buffer = 0;
	sg_init_table(b->ranges, RANGES_PER_BUFFER);
	list_for_each_entry_safe(block, next, from, lru) {
		if (count + pages_of(block) > most ||
		    !(by_ranges(b) ? put_range : put_frame)(b, block))
			break;
		list_move(&block->lru, to);
		count += pages_of(block);
	}
	return count;
}

static int add_buffer(struct balloon *b, struct virtqueue *vq)
{
	struct scatterlist sg;

	if (by_ranges(b)) {
		sg_mark_end(&b->ranges[b->blocks_in_buffer - 1]);
		return virtqueue_add_inbuf(vq, b->ranges, b->blocks_in_buffer,
					   b, GFP_NOWAIT);
	}
	sg_init_one(&sg, b->frames,
		    b->blocks_in_buffer * sizeof(b->frames[0]));
	/* One segment takes a slot and no memory. */
	return virtqueue_add_outbuf(vq, &sg, 1, b, GFP_NOWAIT);
}

/* Return: whether the device has answered */
static bool send_buffer(struct balloon *b, enum balloon_queue to)
{
	struct virtqueue *vq = b->queue[to];

	if (add_buffer(b, vq))
		return false;
	balloon_kick(vq);
	return balloon_wait(b, vq);
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
	unsigned int order = by_ranges(b) ? LARGEST_ORDER : 0;
	unsigned int room = by_ranges(b) ? RANGES_PER_BUFFER :
					   FRAMES_PER_BUFFER;
	unsigned int count;
	struct page *block;

	for (count = 0; count < most && room; count += pages_of(block)) {
		block = allocate_block(&order, most - count);
		if (!block)
			break;
		if (!deflates_on_oom(b))
			adjust_managed_page_count(block, -(long)pages_of(block));
		list_add_tail(&block->lru, list);
		room--;
	}
	return count;
}

/* Return: pages that went to the host */
static unsigned int inflate(struct balloon *b, unsigned int most)
{
	unsigned int count;
	LIST_HEAD(new);

	if (!allocate(b, &new, most))
		return 0;
	mutex_lock(&b->adjust_lock);
	count = fill_buffer(b, &new, &b->pages, most);
	/* Unanswered, it may have them all the same. */
	send_buffer(b, QUEUE_INFLATE);
	note_actual(b, b->actual + count);
	mutex_unlock(&b->adjust_lock);
	balloon_count(COUNT_INFLATED, count);
	count_vm_events(BALLOON_INFLATE, count);
	return count;
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

/* Return: pages that came back */
static unsigned int deflate(struct balloon *b, unsigned int most)
{
	unsigned int count;
	LIST_HEAD(back);

	mutex_lock(&b->adjust_lock);
	split_first(&b->pages, most);
	count = fill_buffer(b, &b->pages, &back, most);
	if (count && send_buffer(b, QUEUE_DEFLATE)) {
		free_blocks(b, &back);
		note_actual(b, b->actual - count);
	} else {
		list_splice(&back, &b->pages);
		count = 0;
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
		return deflate(b, min_t(s64, -difference, most_pages(b)));
	if (!difference)
		return false;
	if (inflate(b, min_t(s64, difference, most_pages(b))))
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
	while (deflate(b, most_pages(b)))
		cond_resched();
}

void balloon_free_rest(struct balloon *b)
{
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
