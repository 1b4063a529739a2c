/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Which virtqueue of the balloon has which index (VIRTIO 1.3 section 5.5.2).
 *
 * The text numbers them 0 to 4 and says that optional ones exist only with
 * their feature. Linux, and most devices with it, count only those that exist,
 * so that a queue moves down where an earlier one is missing. Both readings
 * are here, by the features that were negotiated.
 */
#ifndef BALLOON_QUEUES_H
#define BALLOON_QUEUES_H

#include <stdint.h>

enum balloon_queue {
	BALLOON_INFLATE,
	BALLOON_DEFLATE,
	BALLOON_STATS,
	BALLOON_FREE_PAGE,
	BALLOON_REPORTING,
	BALLOON_QUEUES,
};

enum balloon_numbering {
	BALLOON_NUMBERING_PACKED, /* as Linux counts; the default */
	BALLOON_NUMBERING_SPEC,	  /* as the text counts */
};

/**
 * balloon_queue_index() - Index of a queue
 * @features:	negotiated, all 64 bits
 *
 * Return: the index, or -1 when the queue does not exist
 */
int balloon_queue_index(enum balloon_queue queue, uint64_t features,
			enum balloon_numbering numbering);

#endif
