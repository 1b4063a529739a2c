// SPDX-License-Identifier: MIT
/*
 * Statistics queue (VIRTIO 1.3 section 5.5.6.4). The guest hands over one
 * buffer; we keep it until somebody wants new values, and hand it back.
 *
 * An entry is le16 tag, le64 value: ten bytes. The text's "multiple of 6" is a
 * leftover of its first version (D20), so bytes behind the last whole entry
 * are passed over whatever their number.
 */
#include "balloon/balloon_internal.h"

#include "base/endian.h"

#define ENTRY_BYTES 10
#define BUFFER_BYTES_MAX 4096 /* for tags to come; more is not believed */
#define NOT_KNOWN UINT64_MAX  /* what guests send for want of a value */

static const char *const names[BALLOON_STATISTICS] = {
	[BALLOON_STAT_SWAP_IN] = "swap_in",
	[BALLOON_STAT_SWAP_OUT] = "swap_out",
	[BALLOON_STAT_MAJOR_FAULTS] = "major_faults",
	[BALLOON_STAT_MINOR_FAULTS] = "minor_faults",
	[BALLOON_STAT_FREE] = "free",
	[BALLOON_STAT_TOTAL] = "total",
	[BALLOON_STAT_AVAILABLE] = "available",
	[BALLOON_STAT_DISK_CACHES] = "disk_caches",
	[BALLOON_STAT_HUGETLB_ALLOCATIONS] = "hugetlb_allocations",
	[BALLOON_STAT_HUGETLB_FAILURES] = "hugetlb_failures",
	[BALLOON_STAT_OOM_KILLS] = "oom_kills",
	[BALLOON_STAT_ALLOC_STALLS] = "alloc_stalls",
	[BALLOON_STAT_ASYNC_SCANS] = "async_scans",
	[BALLOON_STAT_DIRECT_SCANS] = "direct_scans",
	[BALLOON_STAT_ASYNC_RECLAIMS] = "async_reclaims",
	[BALLOON_STAT_DIRECT_RECLAIMS] = "direct_reclaims",
};

const char *balloon_statistic_name(enum balloon_statistic statistic)
{
	return (unsigned int)statistic < BALLOON_STATISTICS ? names[statistic]
							     : "unknown";
}

/* In any order (V5); tags from the future are passed over (V4). */
static void take_entry(struct balloon_statistics *into, const uint8_t *entry)
{
	uint16_t tag = le16_load(entry);
	uint64_t value = le64_load(entry + 2);

	if (tag >= BALLOON_STATISTICS || value == NOT_KNOWN)
		return;
	into->value[tag] = value;
	into->present |= 1u << tag;
}

/* What the guest no longer sends is no longer known. */
static void take_in(struct balloon *balloon, const struct virtqueue *queue)
{
	struct balloon_statistics fresh = {
		.updates = balloon->statistics.updates + 1,
	};
	const struct virtqueue_chain *chain = &balloon->chain;
	uint8_t entry[ENTRY_BYTES];
	uint64_t at;

	if (chain->writable || chain->readable_bytes > BUFFER_BYTES_MAX) {
		balloon->counters.malformed++;
		return;
	}
	for (at = 0; at + ENTRY_BYTES <= chain->readable_bytes;
	     at += ENTRY_BYTES) {
		if (virtqueue_copy_out(queue, chain, at, entry, ENTRY_BYTES)) {
			balloon->counters.malformed++;
			return;
		}
		take_entry(&fresh, entry);
	}
	balloon->statistics = fresh;
	balloon->ops->statistics_changed(balloon->host);
}

static void hand_back(struct balloon *balloon)
{
	if (balloon->statistics_head < 0)
		return;
	virtqueue_push(&balloon->queue[BALLOON_STATS],
		       (uint16_t)balloon->statistics_head, 0);
	balloon->statistics_head = -1;
}

/* There is at most one buffer (D16); of a driver that brings more we keep the
 * last, so that they cannot pile up here. */
bool balloon_drain_statistics(struct balloon *balloon)
{
	struct virtqueue *queue = &balloon->queue[BALLOON_STATS];
	unsigned int taken = 0;

	while (taken < queue->size && balloon_pop(balloon, queue)) {
		hand_back(balloon);
		take_in(balloon, queue);
		balloon->statistics_head = balloon->chain.head;
		taken++;
	}
	if (balloon->broken)
		return false;
	balloon_publish(balloon, BALLOON_STATS);
	return taken == queue->size;
}

bool balloon_request_statistics(struct balloon *balloon)
{
	if (!balloon->running || balloon->statistics_head < 0)
		return false;
	hand_back(balloon);
	balloon_publish(balloon, BALLOON_STATS);
	return true;
}
