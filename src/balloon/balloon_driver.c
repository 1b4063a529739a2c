// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Balloon driver half, see balloon_driver.h.
 *
 * The worker looks at the last id it read from the configuration space and at
 * what it has sent; nothing else decides. So it does not matter which ids it
 * missed in between, nor whether the host or the guest stopped first: a report
 * that was begun gets one sign, before the next one begins and before any
 * block is given back.
 */
#include "balloon/balloon_driver.h"

#include <linux/virtio_balloon.h>

void report_driver_init(struct report_driver *driver)
{
	*driver = (struct report_driver){
		.config_id = VIRTIO_BALLOON_CMD_ID_STOP,
	};
}

void report_driver_config(struct report_driver *driver, uint32_t id)
{
	driver->config_id = id;
}

/* The id went out, its sign did not yet. */
static bool is_open(const struct report_driver *driver)
{
	return driver->id_sent && !driver->sign_sent;
}

/* An id other than the two reserved words and the one answered last. */
static bool is_new_request(const struct report_driver *driver)
{
	return driver->config_id != VIRTIO_BALLOON_CMD_ID_STOP &&
	       driver->config_id != VIRTIO_BALLOON_CMD_ID_DONE &&
	       driver->config_id != driver->active_id;
}

static void begin(struct report_driver *driver)
{
	driver->active_id = driver->config_id;
	driver->id_sent = true;
	driver->sign_sent = false;
	driver->exhausted = false;
}

enum report_step report_driver_next(struct report_driver *driver, uint32_t *id)
{
	if (is_open(driver)) {
		if (driver->config_id == driver->active_id &&
		    !driver->exhausted) {
			driver->holding = true;
			return REPORT_STEP_SEND_BLOCK;
		}
		driver->sign_sent = true;
		return REPORT_STEP_SEND_SIGN;
	}
	if (is_new_request(driver)) {
		begin(driver);
		*id = driver->active_id;
		return REPORT_STEP_SEND_ID;
	}
	/* Asked again until report_driver_released(). */
	if (driver->config_id == VIRTIO_BALLOON_CMD_ID_DONE && driver->holding)
		return REPORT_STEP_RELEASE;
	return REPORT_STEP_NOTHING;
}

void report_driver_exhausted(struct report_driver *driver)
{
	driver->exhausted = true;
}

void report_driver_released(struct report_driver *driver)
{
	driver->holding = false;
}

int64_t balloon_driver_adjust(uint32_t num_pages, uint32_t actual)
{
	return (int64_t)num_pages - (int64_t)actual;
}
