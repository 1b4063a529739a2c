// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Numbers of the balloon's virtqueues, see queues.h. */
#include "balloon/queues.h"

#include <linux/virtio_balloon.h>
#include <stdbool.h>

static bool queue_exists(enum balloon_queue queue, uint64_t features)
{
	switch (queue) {
	case BALLOON_INFLATE:
	case BALLOON_DEFLATE:
		return true;
	case BALLOON_STATS:
		return features >> VIRTIO_BALLOON_F_STATS_VQ & 1;
	case BALLOON_FREE_PAGE:
		return features >> VIRTIO_BALLOON_F_FREE_PAGE_HINT & 1;
	case BALLOON_REPORTING:
		return features >> VIRTIO_BALLOON_F_REPORTING & 1;
	case BALLOON_QUEUES:
		break;
	}
	return false;
}

int balloon_queue_index(enum balloon_queue queue, uint64_t features,
			enum balloon_numbering numbering)
{
	int index = 0;
	int earlier;

	if (!queue_exists(queue, features))
		return -1;
	if (numbering == BALLOON_NUMBERING_SPEC)
		return (int)queue;
	for (earlier = 0; earlier < (int)queue; earlier++)
		index += queue_exists((enum balloon_queue)earlier, features);
	return index;
}
