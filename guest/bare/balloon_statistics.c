// SPDX-License-Identifier: MIT
/*
 * The statistics queue (VIRTIO 1.3 section 5.5.6.4): one buffer is with the
 * device, and filled anew when it comes back (D16 to D18).
 *
 * A device takes entries in any order and passes over tags it does not know
 * (V4, V5). So their order changes from buffer to buffer, with two unknown
 * ones among them; their number does not (D23).
 */
#include "balloon_internal.h"

#include "base/endian.h"
#include "memory.h"

#define KNOWN_TAGS 16 /* 0 to 9 of the text, 10 to 15 as of Linux 6.12 */
#define ENTRIES (KNOWN_TAGS + 2)
#define UNKNOWN_TAG 0x4000
#define FIXED_VALUE 11000 /* and the tag on top */
#define TOKEN_STATISTICS 0

static struct virtio_balloon_stat entries[ENTRIES];

static uint64_t value_of(unsigned int tag)
{
	switch (tag) {
	case VIRTIO_BALLOON_S_MEMFREE:
		return memory_count(PAGE_FREE) * PAGE_SIZE;
	case VIRTIO_BALLOON_S_MEMTOT:
		return memory_total_kib() * 1024;
	case VIRTIO_BALLOON_S_AVAIL:
		return (memory_count(PAGE_FREE) + memory_count(PAGE_HINTED)) *
		       PAGE_SIZE;
	default:
		return FIXED_VALUE + tag;
	}
}

static void fill(void)
{
	/* Steps through all entries, for none shares a factor with 18. */
	static const unsigned char steps[] = { 1, 5, 7, 11, 13, 17 };
	unsigned int step = steps[balloon_counters.statistics % sizeof(steps)];
	unsigned int i, which;

	for (i = 0; i < ENTRIES; i++) {
		which = (unsigned int)(i * step + balloon_counters.statistics) %
			ENTRIES;
		if (which >= KNOWN_TAGS)
			which += UNKNOWN_TAG;
		le16_store(&entries[i].tag, (uint16_t)which);
		le64_store(&entries[i].val, value_of(which));
	}
}

void statistics_start(void)
{
	struct virtio_queue *queue = &balloon_driver.queue[BALLOON_STATS];
	struct vring_segment segment = { (uintptr_t)entries, sizeof(entries) };

	if (!balloon_has_queue(BALLOON_STATS))
		return;
	fill();
	balloon_counters.statistics++;
	vring_driver_add(&queue->ring, &segment, 1, 0, TOKEN_STATISTICS);
	virtio_kick(&balloon_driver.device, queue);
}

bool statistics_step(void)
{
	uint64_t token;

	if (!balloon_has_queue(BALLOON_STATS) ||
	    !balloon_take_used(BALLOON_STATS, &token))
		return false;
	statistics_start();
	return true;
}
