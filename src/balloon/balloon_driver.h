/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Balloon driver half as pure decisions: what a driver does next, given what
 * it read from the configuration space. It allocates no page and touches no
 * ring; the bare guest and the tests do that at its word.
 */
#ifndef BALLOON_BALLOON_DRIVER_H
#define BALLOON_BALLOON_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "balloon/queues.h"

/* What the worker does next; it calls again when that is done. */
enum report_step {
	REPORT_STEP_NOTHING,	/* sleep until the configuration changes */
	REPORT_STEP_SEND_ID,	/* out-buffer: step_id, then notify */
	REPORT_STEP_SEND_BLOCK, /* in-buffer: the next free block, and keep it;
				   or report_driver_exhausted() */
	REPORT_STEP_SEND_SIGN,	/* out-buffer: VIRTIO_BALLOON_CMD_ID_STOP,
				   then notify */
	REPORT_STEP_RELEASE,	/* give all kept blocks back to the allocator,
				   then report_driver_released() */
};

/* Driver side of one free page report after another, standard protocol
 * (VIRTIO 1.3 section 5.5.6.6). */
struct report_driver {
	uint32_t config_id; /* what the configuration space said last */
	uint32_t active_id; /* id of the last report begun, 0 before */
	bool id_sent, sign_sent, exhausted, holding;
};

void report_driver_init(struct report_driver *driver);

/* The configuration space was read: free_page_hint_cmd_id is @id. */
void report_driver_config(struct report_driver *driver, uint32_t id);

/* Decide; for REPORT_STEP_SEND_ID *@id is the id to send. The decision counts
 * as carried out once it was returned, except that SEND_BLOCK repeats. */
enum report_step report_driver_next(struct report_driver *driver, uint32_t *id);

/* No free block is left: the sign comes next. */
void report_driver_exhausted(struct report_driver *driver);

/* All kept blocks were given back. */
void report_driver_released(struct report_driver *driver);

/* Pages to inflate (> 0) or to deflate (< 0) to reach the target. */
int64_t balloon_driver_adjust(uint32_t num_pages, uint32_t actual);

#endif
