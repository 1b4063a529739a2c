/* SPDX-License-Identifier: MIT */
/*
 * Short words for the free page report of the fixture's balloon, which has the
 * standard protocol.
 */
#ifndef REPORT_FIXTURE_H
#define REPORT_FIXTURE_H

#include "balloon_fixture.h"

#define STOP VIRTIO_BALLOON_CMD_ID_STOP
#define DONE VIRTIO_BALLOON_CMD_ID_DONE
#define BLOCK (4 * MiB)

static inline uint32_t id(void)
{
	return fx.balloon.report.id;
}

static inline enum report_state now(void)
{
	return fx.balloon.report.state;
}

static inline const struct report_counters *counters(void)
{
	return &fx.balloon.report.counters;
}

static inline void start_report(void)
{
	page_set_clear(&fx.hinted);
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), 0);
}

static inline void accept_report(void)
{
	start_report();
	fx_command(id());
	assert_int_equal(now(), REPORT_ACCEPTING);
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, fx_setup, fx_teardown)

#endif
