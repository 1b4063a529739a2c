// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Inflate and deflate (VIRTIO 1.3 section 5.5.6.1 ff.), a buffer at a time.
 *
 * Pages are the host's until it has answered: a deflated page is used again
 * after that, whether it asked for it (MUST_TELL_HOST) or not.
 */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/oom.h>
#include <linux/scatterlist.h>
#include <linux/virtio_config.h>

#include "balloon.h"

#define OOM_PAGES 256
#define OOM_PRIORITY 80		/* as the stock driver: before the others */
#define RETRY_DELAY msecs_to_jiffies(200)

/* Memory for the host is worth dropping caches for, but no more than that. The
 * pages cannot be moved. */
#define INFLATE_GFP \
	(GFP_HIGHUSER | __GFP_NOMEMALLOC | __GFP_NORETRY | __GFP_NOWARN)

static bool deflates_on_oom(const struct balloon *b)
{
	return virtio_has_feature(b->vdev, VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
}

/* The first @most pages of @from, whose numbers are then in @b->frames. */
static unsigned int take_frames(struct balloon *b, struct list_head *from,
				struct list_head *to, unsigned int most)
{
	struct page *page, *next;
	unsigned int count = 0;

	list_for_each_entry_safe(page, next, from, lru) {
		if (count == most)
			break;
		b->frames[count++] =
			cpu_to_virtio32(b->vdev, (u32)page_to_pfn(page));
		list_move_tail(&page->lru, to);
	}
	return count;
}

/* Return: whether the device has answered */
static bool send_frames(struct balloon *b, enum balloon_queue to,
			unsigned int count)
{
	struct virtqueue *vq = b->queue[to];
	struct scatterlist sg;

	sg_init_one(&sg, b->frames, count * sizeof(b->frames[0]));
	/* One segment takes a slot and no memory. */
	if (virtqueue_add_outbuf(vq, &sg, 1, b, GFP_NOWAIT))
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

static void free_pages_of(struct balloon *b, struct list_head *list)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, list, lru) {
		list_del(&page->lru);
		if (!deflates_on_oom(b))
			adjust_managed_page_count(page, 1);
		__free_page(page);
	}
}

/* What is not with the host counts as the machine's memory only where the guest
 * may take it back by itself. */
static unsigned int allocate(struct balloon *b, struct list_head *list,
			     unsigned int most)
{
	struct page *page;
	unsigned int count;

	for (count = 0; count < most; count++) {
		page = alloc_page(INFLATE_GFP);
		if (!page)
			break;
		if (!deflates_on_oom(b))
			adjust_managed_page_count(page, -1);
		list_add_tail(&page->lru, list);
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
	count = take_frames(b, &new, &b->pages, most);
	/* Unanswered, it may have them all the same. */
	send_frames(b, QUEUE_INFLATE, count);
	note_actual(b, b->actual + count);
	mutex_unlock(&b->adjust_lock);
	balloon_count(COUNT_INFLATED, count);
	count_vm_events(BALLOON_INFLATE, count);
	return count;
}

/* Return: pages that came back */
static unsigned int deflate(struct balloon *b, unsigned int most)
{
	unsigned int count;
	LIST_HEAD(back);

	mutex_lock(&b->adjust_lock);
	count = take_frames(b, &b->pages, &back, most);
	if (count && send_frames(b, QUEUE_DEFLATE, count)) {
		free_pages_of(b, &back);
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
		return deflate(b, min_t(s64, -difference, FRAMES_PER_BUFFER));
	if (!difference)
		return false;
	if (inflate(b, min_t(s64, difference, FRAMES_PER_BUFFER)))
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
	while (deflate(b, FRAMES_PER_BUFFER))
		cond_resched();
}

void balloon_free_rest(struct balloon *b)
{
	free_pages_of(b, &b->pages);
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
