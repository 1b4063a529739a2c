/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Command-register protocol, driver half, as pure decisions: what a driver
 * does next, given what it read (docs/spec/command-register.md, whose rules
 * G-1 to G-8 are cited by number). It allocates no page, touches no ring and no
 * register; the guest does that at its word.
 *
 * A driver has two parts.
 *  - The *handler* runs once after DRIVER_OK and once after each configuration
 *    interrupt. It asks command_driver_handle() for one access to the
 *    configuration space after another.
 *  - The *worker* asks command_driver_next() for one step after another, until
 *    there is nothing to do, and again after each run of the handler.
 *
 * Who serialises what. All calls for one driver are made one at a time, under
 * one lock or on one thread; the accesses and the sending themselves may be
 * done outside. One run of the handler ends before the next one begins.
 * Calls of the worker may come between two accesses of the handler: what it
 * reads takes effect at its end, at once.
 *
 * Pages are the caller's (G-5): a block that was handed over is not touched
 * before REPORT_STEP_RELEASE; or it is taken back earlier, at any moment, and
 * then what it holds is not defined.
 */
#ifndef BALLOON_COMMAND_DRIVER_H
#define BALLOON_COMMAND_DRIVER_H

#include <linux/types.h>
#include <stdbool.h>
#include <stdint.h>

#include "balloon/balloon_driver.h"
#include "balloon/command_register.h"

enum command_access {
	COMMAND_ACCESS_END,   /* handled; see to the worker and the target */
	COMMAND_ACCESS_READ,  /* read 4 bytes, and hand them to the next call */
	COMMAND_ACCESS_WRITE, /* write 4 bytes */
};

struct command_driver {
	/* What the device reads: the buffers of SEND_ID and SEND_SIGN (G-6).
	 * Not moved or copied while they are in the ring. */
	__le32 id_word, sign_word;

	uint32_t target;    /* num_pages as read last, see
			       balloon_driver_adjust() */
	uint32_t active_id; /* of the last START the worker took, 0 before */

	/* The handler's. */
	enum command_access_at {
		COMMAND_AT_REST,
		COMMAND_AT_COMMAND,
		COMMAND_AT_ACKNOWLEDGED,
		COMMAND_AT_TARGET,
		COMMAND_AT_ID,
	} at;
	bool started;	       /* it ran once (G-8) */
	uint32_t acknowledged; /* bits of cmd_reg, in the run under way */
	uint32_t cmd_id;       /* as read with the last START */

	/* From the handler to the worker. */
	bool start; /* a START that the worker has not taken */
	bool stop;  /* no more of the START accepted last; the handler's own */
	bool done;  /* DONE came, and what was held before it is still held */

	/* The worker's. */
	bool open; /* the id went out, the sign did not */
	bool exhausted, holding;
};

/* Before DRIVER_OK. @driver must be memory the device can read. */
void command_driver_init(struct command_driver *driver);

/**
 * command_driver_handle() - The handler's next access
 * @offset:	filled, in the configuration space
 * @value:	in: what the last READ gave; out: what to WRITE
 *
 * To be called until it returns COMMAND_ACCESS_END:
 *
 *	uint32_t offset, value = 0;
 *	enum command_access access;
 *
 *	while ((access = command_driver_handle(driver, &offset, &value)))
 *		if (access == COMMAND_ACCESS_READ)
 *			value = config_read(offset);
 *		else
 *			config_write(offset, value);
 *
 * What cmd_reg asks for is acknowledged before it is read (G-1): in the other
 * order a request that comes between the two would be lost.
 */
enum command_access command_driver_handle(struct command_driver *driver,
					  uint32_t *offset, uint32_t *value);

/**
 * command_driver_next() - The worker's next step
 * @room:	free slots of the free page queue, after used buffers were taken
 *		back (G-6)
 *
 * SEND_ID:	out-buffer &driver->id_word, 4 bytes; then notify
 * SEND_BLOCK:	in-buffer, the next free block, in one slot, and keep it; or
 *		command_driver_exhausted(). Notify when it pleases, and before
 *		going to sleep
 * SEND_SIGN:	out-buffer &driver->sign_word, 4 bytes; then notify
 * RELEASE:	give back all kept blocks, then command_driver_released()
 * NOTHING:	sleep until the handler has run; and, while
 *		command_driver_busy(), until a buffer comes back
 *
 * A decision counts as carried out once it was returned, except that
 * SEND_BLOCK and RELEASE repeat.
 */
enum report_step command_driver_next(struct command_driver *driver,
				     unsigned int room);

/* A report is under way or asked for: NOTHING meant that @room was short. */
bool command_driver_busy(const struct command_driver *driver);

/* No free block is left: the sign comes next. */
void command_driver_exhausted(struct command_driver *driver);

/* All kept blocks were given back. */
void command_driver_released(struct command_driver *driver);

/* The driver goes (G-8). The handler runs no more; the worker does until it
 * has NOTHING, which gives back what it holds and sends nothing; then the
 * device is reset. */
void command_driver_leave(struct command_driver *driver);

#endif
