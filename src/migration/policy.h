/* SPDX-License-Identifier: MIT */
/* What a migration does next: pure functions of what was measured. */
#ifndef MIGRATION_POLICY_H
#define MIGRATION_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "migration/free_page_source.h"

struct round_stats {
	uint64_t pages_left;	  /* to look at, were the guest stopped now */
	uint64_t pages_done;	  /* looked at so far, all rounds */
	uint64_t busy_ms;	  /* time that took */
	uint64_t fixed_ms;	  /* stop, state and hand-over without pages */
	uint64_t downtime_ms;	  /* limit */
};

/* Expected time the guest stands still if it is stopped now. */
uint64_t policy_expected_downtime_ms(const struct round_stats *stats);

/* True when the guest should be stopped now. */
bool policy_should_stop(const struct round_stats *stats);

struct report_wait_stats {
	enum free_page_state state;
	uint64_t waited_ms;	    /* since the report was asked for */
	uint64_t since_progress_ms; /* since the state or the hints moved */
	uint64_t accepting_ms;	    /* since hints were seen to arrive */
	uint64_t pages;		    /* hinted so far */
	uint64_t link_rate;	    /* bytes a second; 0: not known */
};

/*
 * True while waiting for the report pays: a page that is hinted costs the
 * guest and us nanoseconds, a page that is sent costs its bytes twice. So wait
 * as long as hints come faster than the link would carry their pages; give a
 * guest that does not answer, or stalls, a moment, and then send.
 */
bool policy_should_wait(const struct report_wait_stats *stats);

#endif
