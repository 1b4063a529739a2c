/* SPDX-License-Identifier: MIT */
/*
 * Faults that can be put in, one at a time: each breaks one rule the real code
 * keeps, at the edge where that rule can be broken from outside. A simulator
 * that does not find them would not find theirs in the real code either.
 */
#ifndef SIM_FAULT_H
#define SIM_FAULT_H

#include <stdint.h>

enum fault {
	FAULT_NONE,
	/* The host and its log. */
	FAULT_HINT_CLEARS_LOG,
	FAULT_ARM_AFTER_PUBLISH,
	FAULT_START_BETWEEN_GET_AND_CLEAR,
	FAULT_COUNT_AFTER_STOP,
	FAULT_NO_DRAIN,
	FAULT_DISCARD_NOT_MARKED,
	FAULT_MONITOR_NOT_LOGGED,
	FAULT_LATE_DISCARD,
	FAULT_HELD_PAST_DEFLATE,
	FAULT_STOP_NOT_QUIET,
	/* Requests. */
	FAULT_FORGET_DONE,
	FAULT_LOST_INTERRUPT,
	FAULT_LATE_TARGET,
	FAULT_START_BESIDE_DONE,
	FAULT_START_BEFORE_SIGN,
	/* The driver. */
	FAULT_SIGN_FORGOTTEN,
	FAULT_ACK_AFTER_READ,
	FAULT_CONCURRENT_HANDLERS,
	FAULT_WORKER_CLEARS_STOP,
	FAULT_HANDLER_RELEASES,
	FAULT_ONE_BUFFER,
	FAULT_V17_TRUSTS_STOP,
	/* The move. */
	FAULT_DESTINATION_FORGETS,
	FAULT_COMMIT_TOO_EARLY,
	FAULT_RUN_BESIDE_STOP,
	FAULTS,
};

struct fault_kind {
	const char *name;
	const char *rule;
	int protocol;	/* where it can happen: 0 standard, 1
			   command-register, 2 v17, -1 all */
};

extern const struct fault_kind fault_kinds[FAULTS];

/* Return: FAULTS when there is none of that name */
enum fault fault_find(const char *name);

#endif
