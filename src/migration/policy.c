// SPDX-License-Identifier: MIT
/* What a migration does next. */
#include "migration/policy.h"

#include "memory/guest_memory.h"

/* A driver that lives answers within this: its worker only has to be run. */
#define ANSWER_MS 2000
/* A report that stalls longer than this is no faster than sending. */
#define STALL_MS 2000
/* So long hints are watched before they are compared with the link. */
#define WATCH_MS 100
/* No guest hints for longer than this in one go. */
#define LONGEST_MS 60000

uint64_t policy_expected_downtime_ms(const struct round_stats *stats)
{
	uint64_t moving = 0;

	/* Before the first page is done nothing is known: assume the worst. */
	if (!stats->pages_done)
		return stats->pages_left ? UINT64_MAX : stats->fixed_ms;
	/* In floating point: the product of two 64-bit counts. */
	moving = (double)stats->pages_left * stats->busy_ms / stats->pages_done;
	return stats->fixed_ms + moving;
}

bool policy_should_stop(const struct round_stats *stats)
{
	return policy_expected_downtime_ms(stats) <= stats->downtime_ms;
}

/* Hints that come more slowly than the link would carry the pages save bytes,
 * but no time. */
static bool slower_than_link(const struct report_wait_stats *stats)
{
	double bytes = (double)stats->pages * GUEST_PAGE_SIZE;

	return stats->link_rate && stats->accepting_ms >= WATCH_MS &&
	       bytes * 1000 < (double)stats->link_rate * stats->accepting_ms;
}

bool policy_should_wait(const struct report_wait_stats *stats)
{
	if (stats->waited_ms >= LONGEST_MS)
		return false;
	switch (stats->state) {
	case FREE_PAGE_REQUESTED:
		return stats->waited_ms < ANSWER_MS;
	case FREE_PAGE_ACCEPTING:
		return stats->since_progress_ms < STALL_MS &&
		       !slower_than_link(stats);
	default:
		return false;
	}
}
