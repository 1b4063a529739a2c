/* SPDX-License-Identifier: MIT */
/*
 * The balloon fixture with the command-register protocol: a host that looks at
 * the registers in its callbacks, and the ways to each place a report can be
 * in.
 */
#ifndef COMMAND_FIXTURE_H
#define COMMAND_FIXTURE_H

#include "balloon_fixture.h"

#include <linux/virtio_config.h>

#define SIGN VIRTIO_BALLOON_CMD_ID_STOP
#define BALLOONING BALLOON_CMD_BALLOONING
#define START BALLOON_CMD_REPORT_START
#define STOP BALLOON_CMD_REPORT_STOP
#define DONE BALLOON_CMD_REPORT_DONE

#define VERSION_1 (1ull << VIRTIO_F_VERSION_1)
#define COMMAND (1ull << BALLOON_F_COMMAND_REGISTER)
#define FEATURES (VERSION_1 | HINT | COMMAND)

/* What could be seen from the callbacks. */
static struct {
	uint32_t cmd_reg, cmd_id_reg, num_pages; /* at the last interrupt */
	uint16_t used; /* in the free page queue, then */
	enum report_state returning; /* as buffers were returned last */
	uint16_t used_at_change;     /* as the report changed last */
} seen;

static inline uint32_t bits(void)
{
	return fx_register(BALLOON_CMD_REG);
}

static inline uint32_t cmd_id_reg(void)
{
	return fx_register(BALLOON_CMD_ID_REG);
}

static inline uint16_t used(void)
{
	const struct vring_driver *ring = &fx.ring[BALLOON_FREE_PAGE];

	return ring->used ? le16_load(&ring->used->idx) : 0;
}

static inline void on_config_changed(void *host)
{
	fx_config_changed(host);
	seen.cmd_reg = bits();
	seen.cmd_id_reg = cmd_id_reg();
	seen.num_pages = fx_register(0);
	seen.used = used();
}

static inline void on_interrupt(void *host, enum balloon_queue queue)
{
	fx_interrupt(host, queue);
	if (queue == BALLOON_FREE_PAGE)
		seen.returning = fx.balloon.report.state;
}

static inline void on_report_changed(void *host, enum report_state state)
{
	fx_report_changed(host, state);
	seen.used_at_change = used();
}

static struct balloon_host_ops ops;

static inline void init(uint64_t features)
{
	struct balloon_options options = fx_options();

	options.protocol = &balloon_protocol_command_register;
	fx_init(options);
	ops = fx_ops;
	ops.config_changed = on_config_changed;
	ops.interrupt = on_interrupt;
	ops.report_changed = on_report_changed;
	fx.balloon.ops = &ops;
	memset(&seen, 0, sizeof(seen));
	if (features)
		fx_activate(features);
}

static inline int setup(void **state)
{
	init(FEATURES);
	return 0;
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

/* The driver's write of cmd_reg, and what the device thread makes of it. */
static inline void acknowledge(uint32_t which)
{
	assert_int_equal(write_bytes(BALLOON_CMD_REG, which, 4),
			 BALLOON_WROTE_COMMAND);
	balloon_acknowledged(&fx.balloon);
}

/* A report that is asked for, not that the driver knows. */
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

/* Closed by the host, the stop acknowledged, the sign due. */
static inline void leave_sign_due(void)
{
	accept_report();
	balloon_report_close(&fx.balloon);
	acknowledge(STOP);
	assert_int_equal(bits(), 0);
	assert_true(fx.balloon.report.sign_due);
}

static inline void raise_all(void)
{
	ask();
	balloon_set_target(&fx.balloon, 5);
	balloon_report_done(&fx.balloon);
	fx.config_changes = 0;
}

/*
 * Where a report can be
 */

enum place {
	IDLE,
	DEFERRED, /* START waits for the sign of another report */
	REQUESTED,
	ACCEPTING,
	SIGNED, /* complete by the sign, which was returned */
	OWING,  /* complete by a word that is no sign, which is due */
	CLOSED, /* the sign is due */
	DONE_OWING,
	DONE_SETTLED,
	PLACES,
};

static const struct {
	enum report_state state;
	bool due;
} expected[PLACES] = {
	[IDLE] = { REPORT_IDLE, false },
	[DEFERRED] = { REPORT_REQUESTED, true },
	[REQUESTED] = { REPORT_REQUESTED, true },
	[ACCEPTING] = { REPORT_ACCEPTING, true },
	[SIGNED] = { REPORT_COMPLETE, false },
	[OWING] = { REPORT_COMPLETE, true },
	[CLOSED] = { REPORT_CLOSED, true },
	[DONE_OWING] = { REPORT_DONE, true },
	[DONE_SETTLED] = { REPORT_DONE, false },
};

static inline bool is_open(enum place place)
{
	return place >= DEFERRED && place <= OWING;
}

static inline void reach_from_accepting(enum place place)
{
	if (place == SIGNED || place == IDLE)
		fx_command(SIGN);
	if (place == OWING)
		fx_command(id() - 1);
	if (place == CLOSED || place == IDLE)
		balloon_report_close(&fx.balloon);
	if (place == DONE_OWING || place == DONE_SETTLED)
		balloon_report_done(&fx.balloon);
	if (place == DONE_SETTLED)
		fx_command(SIGN);
}

static inline void assert_place(enum place place)
{
	assert_int_equal(now(), expected[place].state);
	assert_int_equal(fx.balloon.report.sign_due, expected[place].due);
	assert_int_equal(fx.balloon.report.deferred, place == DEFERRED);
	assert_int_equal(fx.balloon.report.hinted != NULL, is_open(place));
}

/* With no bit pending. */
static inline void reach(enum place place)
{
	start_report();
	if (place != REQUESTED) {
		fx_command(id());
		reach_from_accepting(place == DEFERRED ? CLOSED : place);
	}
	acknowledge(STOP | DONE);
	if (place == DEFERRED)
		ask();
	assert_int_equal(bits(), 0);
	assert_place(place);
}

#endif
