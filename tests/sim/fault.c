// SPDX-License-Identifier: MIT
/* Names of the faults; where they are put in says fault(FAULT_...). */
#include "fault.h"

#include <string.h>

const struct fault_kind fault_kinds[FAULTS] = {
	[FAULT_NONE] = { "none", "", -1 },
	[FAULT_HINT_CLEARS_LOG] = { "hint_clears_log", "R2", -1 },
	[FAULT_ARM_AFTER_PUBLISH] = { "arm_after_publish", "R1", -1 },
	[FAULT_START_BETWEEN_GET_AND_CLEAR] = {
		"start_between_get_and_clear", "R1", -1 },
	[FAULT_COUNT_AFTER_STOP] = { "count_after_stop", "R29, D-6", -1 },
	[FAULT_NO_DRAIN] = { "no_drain", "R3", -1 },
	[FAULT_DISCARD_NOT_MARKED] = { "discard_not_marked", "R26", -1 },
	[FAULT_MONITOR_NOT_LOGGED] = { "monitor_not_logged", "R30", -1 },
	[FAULT_LATE_DISCARD] = { "late_discard", "R24", -1 },
	[FAULT_HELD_PAST_DEFLATE] = { "held_past_deflate", "R25", -1 },
	[FAULT_STOP_NOT_QUIET] = { "stop_not_quiet", "R16", -1 },
	[FAULT_FORGET_DONE] = { "forget_done", "R13, D-8", -1 },
	[FAULT_LOST_INTERRUPT] = { "lost_interrupt", "D-1", -1 },
	[FAULT_LATE_TARGET] = { "late_target", "-", -1 },
	[FAULT_START_BESIDE_DONE] = { "start_beside_done", "D-3", 1 },
	[FAULT_START_BEFORE_SIGN] = { "start_before_sign", "D-3, D-5", 1 },
	[FAULT_SIGN_FORGOTTEN] = { "sign_forgotten", "D-5, G-2", -1 },
	[FAULT_ACK_AFTER_READ] = { "ack_after_read", "G-1", 1 },
	[FAULT_CONCURRENT_HANDLERS] = { "concurrent_handlers", "G-1", 1 },
	[FAULT_WORKER_CLEARS_STOP] = { "worker_clears_stop", "G-3", 1 },
	[FAULT_HANDLER_RELEASES] = { "handler_releases", "G-7", 1 },
	[FAULT_ONE_BUFFER] = { "one_buffer", "G-6", 1 },
	[FAULT_V17_TRUSTS_STOP] = { "v17_trusts_stop", "W-5", 2 },
	[FAULT_DESTINATION_FORGETS] = { "destination_forgets", "D-9", 1 },
	[FAULT_COMMIT_TOO_EARLY] = { "commit_too_early", "COMMIT", -1 },
	[FAULT_RUN_BESIDE_STOP] = { "run_beside_stop", "-", -1 },
};

enum fault fault_find(const char *name)
{
	int i;

	for (i = 0; i < FAULTS; i++)
		if (!strcmp(name, fault_kinds[i].name))
			break;
	return (enum fault)i;
}
