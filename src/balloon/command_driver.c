// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Command-register protocol, driver half, see command_driver.h.
 *
 * The handler leaves the worker three words. `start` is given by the one and
 * taken by the other. `stop` is written by the handler alone: set by STOP and
 * DONE, cleared by the next START. A worker that cleared it when it begins
 * could clear the STOP that came for the very START it is beginning (G-3).
 * `done` asks the worker to give back what it holds; it is the worker's to do,
 * for it may be in the middle of a report (G-7).
 *
 * A device raises no START before the sign of the last one has come back and
 * what else it raised is acknowledged (D-3). So a STOP or DONE beside a START
 * came after it, and one that was read earlier belongs to an earlier START.
 */
#include "balloon/command_driver.h"

#include <linux/virtio_balloon.h>
#include <stddef.h>

#include "base/endian.h"

#define NUM_PAGES offsetof(struct virtio_balloon_config, num_pages)
#define SIGN_ROOM 1u /* the slot that is kept for the sign */

void command_driver_init(struct command_driver *driver)
{
	*driver = (struct command_driver){
		.sign_word = le32_make(VIRTIO_BALLOON_CMD_ID_STOP),
	};
}

/*
 * Handler
 */

/* What was read takes effect. A START that finds a STOP beside it, or meets one
 * before the worker takes it, is answered by the sign alone (G-4). */
static void tell_worker(struct command_driver *driver)
{
	uint32_t bits = driver->acknowledged;

	if (bits & BALLOON_CMD_REPORT_START) {
		driver->start = true;
		driver->stop = false;
	}
	if (bits & (BALLOON_CMD_REPORT_STOP | BALLOON_CMD_REPORT_DONE))
		driver->stop = true;
	if (bits & BALLOON_CMD_REPORT_DONE)
		driver->done = true;
}

static enum command_access read_from(struct command_driver *driver,
				     uint32_t *offset, uint32_t from,
				     enum command_access_at at)
{
	driver->at = at;
	*offset = from;
	return COMMAND_ACCESS_READ;
}

/* Bits that this driver does not know stay pending. */
static enum command_access acknowledge(struct command_driver *driver,
				       uint32_t *offset, uint32_t *value)
{
	driver->at = COMMAND_AT_ACKNOWLEDGED;
	*offset = BALLOON_CMD_REG;
	*value = driver->acknowledged;
	return COMMAND_ACCESS_WRITE;
}

/* A register is read only if it is asked for, and num_pages once unasked. */
static enum command_access read_next(struct command_driver *driver,
				     uint32_t *offset)
{
	uint32_t bits = driver->acknowledged;

	if (driver->at < COMMAND_AT_TARGET &&
	    (bits & BALLOON_CMD_BALLOONING || !driver->started))
		return read_from(driver, offset, NUM_PAGES, COMMAND_AT_TARGET);
	if (driver->at < COMMAND_AT_ID && bits & BALLOON_CMD_REPORT_START)
		return read_from(driver, offset, BALLOON_CMD_ID_REG,
				 COMMAND_AT_ID);
	driver->started = true;
	driver->at = COMMAND_AT_REST;
	tell_worker(driver);
	return COMMAND_ACCESS_END;
}

enum command_access command_driver_handle(struct command_driver *driver,
					  uint32_t *offset, uint32_t *value)
{
	switch (driver->at) {
	case COMMAND_AT_REST:
		return read_from(driver, offset, BALLOON_CMD_REG,
				 COMMAND_AT_COMMAND);
	case COMMAND_AT_COMMAND:
		driver->acknowledged = *value & BALLOON_CMD_KNOWN;
		if (driver->acknowledged)
			return acknowledge(driver, offset, value);
		break;
	case COMMAND_AT_ACKNOWLEDGED:
		break;
	case COMMAND_AT_TARGET:
		driver->target = *value;
		break;
	case COMMAND_AT_ID:
		driver->cmd_id = *value;
		break;
	}
	return read_next(driver, offset);
}

/*
 * Worker
 */

static enum report_step begin(struct command_driver *driver, unsigned int room)
{
	if (room <= SIGN_ROOM)
		return REPORT_STEP_NOTHING;
	driver->start = false;
	driver->open = true;
	driver->exhausted = false;
	driver->active_id = driver->cmd_id;
	driver->id_word = le32_make(driver->active_id);
	return REPORT_STEP_SEND_ID;
}

static enum report_step send_sign(struct command_driver *driver,
				  unsigned int room)
{
	if (room < SIGN_ROOM)
		return REPORT_STEP_NOTHING;
	driver->start = false;
	driver->open = false;
	return REPORT_STEP_SEND_SIGN;
}

static enum report_step send_block(struct command_driver *driver,
				   unsigned int room)
{
	if (room <= SIGN_ROOM)
		return REPORT_STEP_NOTHING;
	driver->holding = true;
	return REPORT_STEP_SEND_BLOCK;
}

enum report_step command_driver_next(struct command_driver *driver,
				     unsigned int room)
{
	if (driver->open)
		return driver->stop || driver->exhausted ?
			       send_sign(driver, room) :
			       send_block(driver, room);
	if (driver->start && driver->stop)
		return send_sign(driver, room);
	/* Before the next report: it must not give back what that one holds. */
	if (driver->done && driver->holding)
		return REPORT_STEP_RELEASE;
	driver->done = false;
	return driver->start ? begin(driver, room) : REPORT_STEP_NOTHING;
}

bool command_driver_busy(const struct command_driver *driver)
{
	return driver->open || driver->start;
}

void command_driver_exhausted(struct command_driver *driver)
{
	driver->exhausted = true;
}

void command_driver_released(struct command_driver *driver)
{
	driver->holding = false;
}

void command_driver_leave(struct command_driver *driver)
{
	driver->start = false;
	driver->open = false;
	driver->done = true;
}
