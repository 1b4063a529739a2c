/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * v17 protocol, driver half, as pure decisions (docs/spec/v17.md, whose rules
 * W-10 to W-15 are cited by number). Handler and worker are as in
 * command_driver.h, and so is who serialises what; one thing is different: the
 * worker ends a report by a write to the configuration space.
 *
 * Pages are the caller's: a block that was handed over is given back when the
 * driver has said STOP; or it is taken back earlier, at any moment. From then
 * on what it holds is not defined until it is written (W-14).
 */
#ifndef BALLOON_V17_DRIVER_H
#define BALLOON_V17_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "balloon/balloon_driver.h"
#include "balloon/command_driver.h"
#include "balloon/v17_registers.h"

struct v17_driver {
	uint32_t target;    /* num_pages as read last, see
			       balloon_driver_adjust() */
	uint32_t active_id; /* of the report begun last, 0 before */

	/* The handler's. */
	enum command_access_at at;
	bool started;	       /* it ran once */
	uint32_t acknowledged; /* bits of host2guest_cmd, in this run */
	uint32_t read_id;      /* in this run */
	uint32_t cmd_id;       /* of the START heard last, 0 before */

	/* From the handler to the worker. */
	bool start; /* a START that the worker has not taken */

	bool open; /* blocks of active_id may be handed over */
	bool exhausted, holding;
};

/* Before DRIVER_OK. */
void v17_driver_init(struct v17_driver *driver);

/* The handler's next access, as of command_driver_handle(). A STOP it
 * acknowledges ends the report before the write is made: what it writes must
 * not be overtaken by a block that the worker was told to send before. */
enum command_access v17_driver_handle(struct v17_driver *driver,
				      uint32_t *offset, uint32_t *value);

/**
 * v17_driver_next() - The worker's next step
 * @room:	free slots of the free page queue, after used buffers were taken
 *		back
 * @id:		filled with REPORT_STEP_SEND_ID
 *
 * SEND_ID:	out-buffer with *@id, in a word that no buffer on the way has
 *		(W-15); then notify
 * SEND_BLOCK:	in-buffer, the next free block, in one slot, and keep it; or
 *		v17_driver_exhausted()
 * SEND_SIGN:	notify, then write BALLOON_V17_REPORT_STOP to
 *		BALLOON_V17_GUEST2HOST_CMD: the sign is no buffer here
 * RELEASE:	give back all kept blocks, then v17_driver_released()
 * NOTHING:	sleep until the handler has run or a buffer comes back
 *
 * A decision counts as carried out once it was returned, except that
 * SEND_BLOCK and RELEASE repeat.
 */
enum report_step v17_driver_next(struct v17_driver *driver, unsigned int room,
				 uint32_t *id);

/* No free block is left: STOP comes next. */
void v17_driver_exhausted(struct v17_driver *driver);

/* All kept blocks were given back. */
void v17_driver_released(struct v17_driver *driver);

#endif
