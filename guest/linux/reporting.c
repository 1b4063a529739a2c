// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Free page reporting (VIRTIO 1.3 section 5.5.6.7): the kernel chooses blocks,
 * keeps them out of use until report() returns, and does not choose them again
 * before they were in use.
 *
 * Poison: what the kernel expects to find in free pages.
 */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/poison.h>
#include <linux/scatterlist.h>
#include <linux/virtio_config.h>

#include "balloon.h"

static int report(struct page_reporting_dev_info *reporting,
		  struct scatterlist *sg, unsigned int count)
{
	struct balloon *b = container_of(reporting, struct balloon, reporting);
	struct virtqueue *vq = b->queue[BALLOON_REPORTING];
	unsigned int i;
	int error;

	error = virtqueue_add_inbuf(vq, sg, count, b,
				    GFP_NOWAIT | __GFP_NOWARN);
	if (error)
		return error;
	balloon_kick(vq);
	/* Not to be used before the device has answered (D39). */
	if (!balloon_wait(b, vq))
		return -EIO;
	for (i = 0; i < count; i++)
		balloon_count(COUNT_REPORTED_PAGES, sg[i].length / PAGE_SIZE);
	return 0;
}

int balloon_reporting_begin(struct balloon *b)
{
	struct virtqueue *vq = b->queue[BALLOON_REPORTING];
	int error;

	if (!vq)
		return 0;
	if (virtqueue_get_vring_size(vq) < PAGE_REPORTING_CAPACITY)
		return -ENOSPC;
	b->reporting.report = report;
	error = page_reporting_register(&b->reporting);
	b->reports = !error;
	return error;
}

/* One that is under way ends first. */
void balloon_reporting_end(struct balloon *b)
{
	if (b->reports)
		page_reporting_unregister(&b->reporting);
	b->reports = false;
}

/* ------------------------------------------------------------ poison --- */

static bool expects_content(void)
{
	return want_init_on_free() || page_poisoning_enabled_static();
}

/*
 * A kernel that does not look at what a free page holds has no poison (D2). One
 * that does must not report pages to a device that does not know its poison
 * (D3). Hinted pages are another matter: they were allocated, and are
 * initialised when they are freed.
 */
void balloon_check_poison(struct virtio_device *vdev)
{
	if (!expects_content())
		__virtio_clear_bit(vdev, VIRTIO_BALLOON_F_PAGE_POISON);
	else if (!virtio_has_feature(vdev, VIRTIO_BALLOON_F_PAGE_POISON))
		__virtio_clear_bit(vdev, VIRTIO_BALLOON_F_REPORTING);
}

/* D35. */
void balloon_tell_poison(struct balloon *b)
{
	u32 poison = 0;

	if (!virtio_has_feature(b->vdev, VIRTIO_BALLOON_F_PAGE_POISON))
		return;
	if (!want_init_on_free())
		memset(&poison, PAGE_POISON, sizeof(poison));
	balloon_config_write(b,
			     offsetof(struct virtio_balloon_config, poison_val),
			     poison);
}
