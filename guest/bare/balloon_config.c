// SPDX-License-Identifier: MIT
/* What the host asks for through the configuration space. */
#include "balloon_internal.h"

#include <stddef.h>

#include "balloon/v17_driver.h"
#include "clock.h"

static struct timer poll_timer;
static uint64_t poll_microseconds = 2000;
static bool handled; /* once at least */

static uint32_t read_field(uint32_t offset)
{
	return virtio_config_read(&balloon_driver.device, offset);
}

static void handle_standard(void)
{
	adjust_set_target(read_field(
		offsetof(struct virtio_balloon_config, num_pages)));
	if (balloon_has_queue(BALLOON_FREE_PAGE))
		report_config(read_field(offsetof(struct virtio_balloon_config,
						  free_page_hint_cmd_id)));
}

static void carry_out(enum command_access access, uint32_t offset,
		      uint32_t *value)
{
	if (access == COMMAND_ACCESS_READ) {
		*value = read_field(offset);
		return;
	}
	virtio_config_write(&balloon_driver.device, offset, *value);
	balloon_counters.acknowledgements++;
}

static void handle_commands(void)
{
	struct command_driver *commands = report_commands();
	enum command_access access;
	uint32_t offset, value = 0;

	while ((access = command_driver_handle(commands, &offset, &value)))
		carry_out(access, offset, &value);
	adjust_set_target(commands->target);
}

static void handle_v17(void)
{
	struct v17_driver *v17 = report_v17();
	enum command_access access;
	uint32_t offset, value = 0;

	while ((access = v17_driver_handle(v17, &offset, &value)))
		carry_out(access, offset, &value);
	adjust_set_target(v17->target);
}

void balloon_poll_every(uint64_t microseconds)
{
	poll_microseconds = microseconds;
}

/*
 * Each look leaves the guest: there is one in poll_microseconds. The registers
 * are read when they have changed and not otherwise, as a driver with
 * interrupts does: QEMU shows STOP in free_page_hint_cmd_id while a report is
 * under way, and means nothing by it.
 */
void balloon_poll_config(void)
{
	if (!timer_due(&poll_timer, poll_microseconds))
		return;
	if (!virtio_config_changed(&balloon_driver.device) && handled)
		return;
	handled = true;
	switch (balloon_driver.protocol) {
	case PROTOCOL_STANDARD:
		handle_standard();
		break;
	case PROTOCOL_COMMAND_REGISTER:
		handle_commands();
		break;
	case PROTOCOL_V17:
		handle_v17();
		break;
	}
}
