// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* The virtqueues, and who is woken by them. */
#include <linux/virtio_config.h>

#include "balloon.h"
#include "compat.h"

static void wake_waiting(struct virtqueue *vq)
{
	struct balloon *b = vq->vdev->priv;

	balloon_count(COUNT_INTERRUPTS, 1);
	wake_up(&b->acknowledged);
}

static void wake_statistics(struct virtqueue *vq)
{
	struct balloon *b = vq->vdev->priv;

	balloon_count(COUNT_INTERRUPTS, 1);
	balloon_queue_worker(b, &b->statistics_work);
}

/* The report's worker asks for this only while it waits for a slot. */
static void wake_report(struct virtqueue *vq)
{
	struct balloon *b = vq->vdev->priv;

	balloon_count(COUNT_INTERRUPTS, 1);
	virtqueue_disable_cb(vq);
	balloon_queue_worker(b, &b->report_work);
}

static const struct {
	const char *name;
	vq_callback_t *callback;
} kinds[BALLOON_QUEUES] = {
	[QUEUE_INFLATE] = { "inflate", wake_waiting },
	[QUEUE_DEFLATE] = { "deflate", wake_waiting },
	[BALLOON_STATS] = { "stats", wake_statistics },
	[BALLOON_FREE_PAGE] = { "free_page", wake_report },
	[BALLOON_REPORTING] = { "reporting", wake_waiting },
};

/* The core says which index each one has, counted as Linux counts. */
int balloon_find_queues(struct balloon *b)
{
	struct virtqueue *found[BALLOON_QUEUES] = {};
	vq_callback_t *callbacks[BALLOON_QUEUES] = {};
	const char *names[BALLOON_QUEUES] = {};
	int index[BALLOON_QUEUES];
	unsigned int count = 0;
	int i, error;

	for (i = 0; i < BALLOON_QUEUES; i++) {
		index[i] = balloon_queue_index(i, b->vdev->features,
					       BALLOON_NUMBERING_PACKED);
		if (index[i] < 0)
			continue;
		names[index[i]] = kinds[i].name;
		callbacks[index[i]] = kinds[i].callback;
		count++;
	}
	error = compat_find_queues(b->vdev, count, found, callbacks, names);
	if (error)
		return error;
	for (i = 0; i < BALLOON_QUEUES; i++)
		b->queue[i] = index[i] < 0 ? NULL : found[index[i]];
	return 0;
}

/* After the reset. A list of descriptors that is still out would be lost with
 * the queue. */
void balloon_drop_queues(struct balloon *b)
{
	int i;

	for (i = 0; i < BALLOON_QUEUES; i++)
		while (b->queue[i] && virtqueue_detach_unused_buf(b->queue[i]))
			;
	b->vdev->config->del_vqs(b->vdev);
	memset(b->queue, 0, sizeof(b->queue));
}

void balloon_kick(struct virtqueue *vq)
{
	if (!virtqueue_kick_prepare(vq))
		return;
	balloon_count(COUNT_KICKS, 1);
	virtqueue_notify(vq);
}

void *balloon_wait(struct balloon *b, struct virtqueue *vq)
{
	void *came = NULL;
	unsigned int length;

	wait_event(b->acknowledged,
		   (came = virtqueue_get_buf(vq, &length)) ||
			   virtqueue_is_broken(vq));
	return came;
}

void balloon_wake(struct balloon *b)
{
	wake_up_all(&b->acknowledged);
}

/* ------------------------------------------------------------- works --- */

static void queue(struct balloon *b, struct workqueue_struct *on,
		  struct work_struct *work)
{
	unsigned long flags;

	spin_lock_irqsave(&b->work_lock, flags);
	if (b->running)
		queue_work(on, work);
	spin_unlock_irqrestore(&b->work_lock, flags);
}

void balloon_queue_handler(struct balloon *b)
{
	queue(b, b->handler, &b->config_work);
}

void balloon_queue_worker(struct balloon *b, struct work_struct *work)
{
	queue(b, b->workers, work);
}

/* A shorter delay replaces a longer one. */
void balloon_queue_adjust(struct balloon *b, unsigned long delay)
{
	unsigned long flags;

	spin_lock_irqsave(&b->work_lock, flags);
	if (b->running)
		mod_delayed_work(b->workers, &b->adjust_work, delay);
	spin_unlock_irqrestore(&b->work_lock, flags);
}
