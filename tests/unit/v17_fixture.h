/* SPDX-License-Identifier: MIT */
/*
 * The balloon fixture with the v17 protocol: a host that looks at the registers
 * in its callbacks, and the ways to each place a report can be in.
 */
#ifndef V17_FIXTURE_H
#define V17_FIXTURE_H

#include "balloon_fixture.h"

#include <linux/virtio_config.h>

#define BALLOONING BALLOON_V17_BALLOONING
#define START BALLOON_V17_REPORT_START
#define STOP BALLOON_V17_REPORT_STOP

#define VERSION_1 (1ull << VIRTIO_F_VERSION_1)
#define COMMAND (1ull << BALLOON_F_COMMAND_REGISTER)
#define V17 (1ull << BALLOON_F_V17)
#define FEATURES (VERSION_1 | HINT | V17)

/* What could be seen as the configuration changed last. */
static struct {
	uint32_t bits, id, num_pages;
} seen;

static inline uint32_t bits(void)
{
	return fx_register(BALLOON_V17_HOST2GUEST_CMD);
}

static inline uint32_t published_id(void)
{
	return fx_register(BALLOON_V17_FREE_PAGE_CMD_ID);
}

static inline void on_config_changed(void *host)
{
	fx_config_changed(host);
	seen.bits = bits();
	seen.id = published_id();
	seen.num_pages = fx_register(0);
}

static struct balloon_host_ops ops;

static inline void init(const struct balloon_protocol *protocol)
{
	struct balloon_options options = fx_options();

	options.protocol = protocol;
	fx_init(options);
	ops = fx_ops;
	ops.config_changed = on_config_changed;
	fx.balloon.ops = &ops;
	memset(&seen, 0, sizeof(seen));
}

static inline int setup(void **state)
{
	init(&balloon_protocol_v17);
	fx_activate(FEATURES);
	return 0;
}

/* A device and a driver without a past. */
static inline void begin_anew(void)
{
	balloon_reset(&fx.balloon);
	fx.next_buffer = BUFFERS;
	fx_activate(FEATURES);
}

static inline enum report_state now(void)
{
	return fx.balloon.report.state;
}

static inline uint32_t id(void)
{
	return fx.balloon.report.id;
}

static inline const struct report_counters *counters(void)
{
	return &fx.balloon.report.counters;
}

static inline enum balloon_written write_bytes(uint32_t offset, uint64_t value,
					       uint32_t length)
{
	uint8_t raw[8];

	le64_store(raw, value);
	return balloon_config_write(&fx.balloon, offset, raw, length);
}

/* The driver's write of guest2host_cmd, of which the device thread has not
 * heard. */
static inline void write_command(uint32_t which)
{
	assert_int_equal(write_bytes(BALLOON_V17_GUEST2HOST_CMD, which, 4),
			 BALLOON_WROTE_COMMAND);
}

static inline void acknowledge(uint32_t which)
{
	write_command(which);
	balloon_acknowledged(&fx.balloon);
}

static inline void ask(void)
{
	page_set_clear(&fx.hinted);
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), 0);
}

static inline void start_report(void)
{
	ask();
	assert_int_equal(bits() & START, START);
	acknowledge(START);
}

static inline void accept_report(void)
{
	start_report();
	fx_command(id());
	assert_int_equal(now(), REPORT_ACCEPTING);
}

#endif
