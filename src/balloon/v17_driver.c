// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * v17 protocol, driver half, see v17_driver.h.
 *
 * START can come while the last report is still open, more than once for one
 * id, and beside a STOP. Ids tell it apart: one that was heard is not heard
 * again, and a new one ends the report before it, without a STOP, which would
 * hit the new one. A device that makes START takes back a STOP that is still
 * pending (W-3), so a STOP beside a START came after it.
 */
#include "balloon/v17_driver.h"

#include <linux/virtio_balloon.h>
#include <stddef.h>

#define NUM_PAGES offsetof(struct virtio_balloon_config, num_pages)

void v17_driver_init(struct v17_driver *driver)
{
	*driver = (struct v17_driver){ 0 };
}

/*
 * Handler
 */

static enum command_access read_from(struct v17_driver *driver,
				     uint32_t *offset, uint32_t from,
				     enum command_access_at at)
{
	driver->at = at;
	*offset = from;
	return COMMAND_ACCESS_READ;
}

/* To acknowledge STOP is to say STOP: from here on no block is handed over
 * (W-12). Bits that this driver does not know stay pending. */
static enum command_access acknowledge(struct v17_driver *driver,
				       uint32_t *offset, uint32_t *value)
{
	driver->at = COMMAND_AT_ACKNOWLEDGED;
	if (driver->acknowledged & BALLOON_V17_REPORT_STOP)
		driver->start = driver->open = false;
	*offset = BALLOON_V17_GUEST2HOST_CMD;
	*value = driver->acknowledged;
	return COMMAND_ACCESS_WRITE;
}

/* One beside a STOP is over. Its id is not read either: it could be a newer one
 * by now, whose START would then pass for one that was heard. */
static bool has_start(const struct v17_driver *driver)
{
	return (driver->acknowledged & (BALLOON_V17_REPORT_START |
					BALLOON_V17_REPORT_STOP)) ==
	       BALLOON_V17_REPORT_START;
}

/* What was read takes effect. */
static void tell_worker(struct v17_driver *driver)
{
	if (!has_start(driver) || driver->read_id == driver->cmd_id)
		return;
	driver->cmd_id = driver->read_id;
	driver->start = true;
}

/* A register is read only if it is asked for, and num_pages once unasked. */
static enum command_access read_next(struct v17_driver *driver,
				     uint32_t *offset)
{
	if (driver->at < COMMAND_AT_TARGET &&
	    (driver->acknowledged & BALLOON_V17_BALLOONING ||
	     !driver->started))
		return read_from(driver, offset, NUM_PAGES, COMMAND_AT_TARGET);
	if (driver->at < COMMAND_AT_ID && has_start(driver))
		return read_from(driver, offset, BALLOON_V17_FREE_PAGE_CMD_ID,
				 COMMAND_AT_ID);
	driver->started = true;
	driver->at = COMMAND_AT_REST;
	tell_worker(driver);
	return COMMAND_ACCESS_END;
}

enum command_access v17_driver_handle(struct v17_driver *driver,
				      uint32_t *offset, uint32_t *value)
{
	switch (driver->at) {
	case COMMAND_AT_REST:
		return read_from(driver, offset, BALLOON_V17_HOST2GUEST_CMD,
				 COMMAND_AT_COMMAND);
	case COMMAND_AT_COMMAND:
		driver->acknowledged = *value & BALLOON_V17_KNOWN;
		if (driver->acknowledged)
			return acknowledge(driver, offset, value);
		break;
	case COMMAND_AT_ACKNOWLEDGED:
		break;
	case COMMAND_AT_TARGET:
		driver->target = *value;
		break;
	case COMMAND_AT_ID:
		driver->read_id = *value;
		break;
	}
	return read_next(driver, offset);
}

/*
 * Worker
 */

static enum report_step begin(struct v17_driver *driver, uint32_t *id)
{
	driver->start = false;
	driver->open = true;
	driver->exhausted = false;
	driver->active_id = *id = driver->cmd_id;
	return REPORT_STEP_SEND_ID;
}

static enum report_step say_stop(struct v17_driver *driver)
{
	driver->open = false;
	return REPORT_STEP_SEND_SIGN;
}

enum report_step v17_driver_next(struct v17_driver *driver, unsigned int room,
				 uint32_t *id)
{
	if (driver->holding && (driver->start || !driver->open))
		return REPORT_STEP_RELEASE;
	if (driver->open && !driver->start && driver->exhausted)
		return say_stop(driver);
	if (!room)
		return REPORT_STEP_NOTHING;
	if (driver->start)
		return begin(driver, id);
	if (!driver->open)
		return REPORT_STEP_NOTHING;
	driver->holding = true;
	return REPORT_STEP_SEND_BLOCK;
}

void v17_driver_exhausted(struct v17_driver *driver)
{
	driver->exhausted = true;
}

void v17_driver_released(struct v17_driver *driver)
{
	driver->holding = false;
}
