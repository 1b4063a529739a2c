// SPDX-License-Identifier: MIT
/*
 * The v17 protocol, device half: every transition of a report, what counts, the
 * host's STOP, reset and migration. docs/spec/v17.md, W-5 to W-9.
 */
#include "v17_fixture.h"

/*
 * Every event in every state
 */

enum place { IDLE, REQUESTED, ACCEPTING, COMPLETE, CLOSED, DONE, PLACES };

static const struct {
	const char *name;
	enum report_state state;
	uint32_t pending;
} places[PLACES] = {
	[IDLE] = { "idle", REPORT_IDLE, 0 },
	[REQUESTED] = { "requested", REPORT_REQUESTED, 0 },
	[ACCEPTING] = { "accepting", REPORT_ACCEPTING, 0 },
	[COMPLETE] = { "complete", REPORT_COMPLETE, 0 },
	[CLOSED] = { "closed", REPORT_CLOSED, STOP },
	[DONE] = { "done", REPORT_DONE, 0 },
};

static void reach(enum place place)
{
	begin_anew();
	start_report();
	if (place != REQUESTED)
		fx_command(id());
	if (place == COMPLETE || place == IDLE || place == DONE)
		acknowledge(STOP);
	if (place == CLOSED || place == IDLE)
		balloon_report_close(&fx.balloon);
	if (place == DONE)
		balloon_report_done(&fx.balloon);
	assert_int_equal(now(), places[place].state);
	assert_int_equal(bits(), places[place].pending);
	fx.config_changes = 0;
}

enum event {
	E_START,
	E_ID,	 /* out-buffer with the id of the last report */
	E_OTHER, /* out-buffer with an id that was none */
	E_SIGN,	 /* out-buffer with 0, which means nothing here */
	E_HINT,
	E_STOP, /* the guest's */
	E_CLOSE,
	E_PAUSE,
	E_DONE,
	E_RESET,
	EVENTS,
};

/* Where it leads, and what is pending then. */
static const struct outcome {
	enum place to;
	uint32_t pending;
} outcomes[PLACES][EVENTS] = {
	[IDLE] = {
		{ REQUESTED, START }, { IDLE, 0 }, { IDLE, 0 }, { IDLE, 0 },
		{ IDLE, 0 }, { IDLE, 0 }, { IDLE, 0 }, { IDLE, 0 },
		{ DONE, 0 }, { IDLE, 0 },
	},
	[REQUESTED] = {
		{ REQUESTED, 0 }, { ACCEPTING, 0 }, { REQUESTED, 0 },
		{ REQUESTED, 0 }, { REQUESTED, 0 }, { COMPLETE, 0 },
		{ CLOSED, STOP }, { COMPLETE, STOP }, { DONE, STOP },
		{ IDLE, 0 },
	},
	[ACCEPTING] = {
		{ ACCEPTING, 0 }, { COMPLETE, 0 }, { COMPLETE, 0 },
		{ COMPLETE, 0 }, { ACCEPTING, 0 }, { COMPLETE, 0 },
		{ CLOSED, STOP }, { COMPLETE, STOP }, { DONE, STOP },
		{ IDLE, 0 },
	},
	[COMPLETE] = {
		{ COMPLETE, 0 }, { COMPLETE, 0 }, { COMPLETE, 0 },
		{ COMPLETE, 0 }, { COMPLETE, 0 }, { COMPLETE, 0 },
		{ IDLE, 0 }, { COMPLETE, 0 }, { DONE, 0 }, { IDLE, 0 },
	},
	[CLOSED] = {
		{ REQUESTED, START }, { CLOSED, STOP }, { CLOSED, STOP },
		{ CLOSED, STOP }, { CLOSED, STOP }, { IDLE, 0 },
		{ CLOSED, STOP }, { CLOSED, STOP }, { DONE, STOP },
		{ IDLE, 0 },
	},
	[DONE] = {
		{ REQUESTED, START }, { DONE, 0 }, { DONE, 0 }, { DONE, 0 },
		{ DONE, 0 }, { DONE, 0 }, { DONE, 0 }, { DONE, 0 },
		{ DONE, 0 }, { IDLE, 0 },
	},
};

static void cause(enum event event)
{
	switch (event) {
	case E_START:
		(void)!balloon_report_start(&fx.balloon, &fx.hinted);
		break;
	case E_ID:
		fx_command(id());
		break;
	case E_OTHER:
		fx_command(id() + 5);
		break;
	case E_SIGN:
		fx_command(VIRTIO_BALLOON_CMD_ID_STOP);
		break;
	case E_HINT:
		fx_hint(HIGH, PAGE);
		break;
	case E_STOP:
		acknowledge(STOP);
		break;
	case E_CLOSE:
		balloon_report_close(&fx.balloon);
		break;
	case E_PAUSE:
		balloon_pause(&fx.balloon);
		break;
	case E_DONE:
		balloon_report_done(&fx.balloon);
		break;
	case E_RESET:
		balloon_reset(&fx.balloon);
		break;
	case EVENTS:
		break;
	}
}

static void check_outcome(enum place from, enum event event)
{
	const struct outcome *outcome = &outcomes[from][event];
	bool counted = from == ACCEPTING && event == E_HINT;
	bool started = event == E_START && outcome->pending;
	uint32_t before;

	reach(from);
	before = id();
	cause(event);
	if (now() != places[outcome->to].state || bits() != outcome->pending)
		fail_msg("event %u in %s leads to %s with %x pending", event,
			 places[from].name, report_state_name(now()), bits());
	assert_int_equal(id(), before + started);
	assert_int_equal(published_id(), event == E_RESET ? 0 : id());
	assert_int_equal(fx.config_changes,
			 (outcome->pending & ~places[from].pending) != 0);
	assert_int_equal(page_set_count(&fx.hinted), counted);
}

static void test_every_event_in_every_state(void **state)
{
	enum place place;
	enum event event;

	for (place = 0; place < PLACES; place++)
		for (event = 0; event < EVENTS; event++)
			check_outcome(place, event);
}

/*
 * W-5, W-6: what counts, and STOP
 */

/* Nothing orders the two: the last blocks are lost as hints. */
static void test_w5_stop_overtakes_what_is_in_the_queue(void **state)
{
	accept_report();
	fx_hint(HIGH, PAGE);
	fx_send_hint(HIGH + PAGE, PAGE);
	acknowledge(STOP);
	assert_int_equal(now(), REPORT_COMPLETE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(page_set_count(&fx.hinted), 1);
	assert_int_equal(counters()->uncounted, 1);
}

/* And the id, too. */
static void test_w5_stop_overtakes_the_whole_report(void **state)
{
	start_report();
	fx_send_command(id());
	fx_send_hint(HIGH, PAGE);
	acknowledge(STOP);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_COMPLETE);
	assert_int_equal(counters()->hints, 0);
}

/* Until the device thread hears of it there is no STOP. */
static void test_w5_what_is_taken_before_stop_is_heard_counts(void **state)
{
	accept_report();
	fx_send_hint(HIGH, PAGE);
	write_command(STOP);
	fx_serve(BALLOON_FREE_PAGE);
	balloon_acknowledged(&fx.balloon);
	assert_int_equal(now(), REPORT_COMPLETE);
	assert_int_equal(counters()->hints, 1);
}

/* R29: a host that goes on does not wait, nor trust what comes. */
static void test_w5_closed_by_the_host(void **state)
{
	static void (*const close[])(struct balloon *balloon) = {
		balloon_report_close, balloon_pause, balloon_report_done,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(close); i++) {
		begin_anew();
		accept_report();
		fx_hint(HIGH, PAGE);
		fx_send_hint(HIGH + PAGE, PAGE);
		fx_send_command(id());
		fx_send_hint(HIGH + 2 * PAGE, PAGE);
		close[i](&fx.balloon);
		fx_serve(BALLOON_FREE_PAGE);
		assert_int_equal(page_set_count(&fx.hinted), 1);
		assert_int_equal(counters()->uncounted, 2);
	}
}

static void test_w6_one_stop_a_start(void **state)
{
	accept_report();
	balloon_pause(&fx.balloon);
	assert_int_equal(bits(), STOP);
	acknowledge(STOP);
	balloon_report_close(&fx.balloon);
	balloon_report_done(&fx.balloon);
	assert_int_equal(bits(), 0);
	accept_report();
	balloon_report_close(&fx.balloon);
	assert_int_equal(bits(), STOP);
}

static void test_w6_none_when_the_guest_has_said_it(void **state)
{
	accept_report();
	acknowledge(STOP);
	fx.config_changes = 0;
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(bits(), 0);
	assert_int_equal(fx.config_changes, 0);
}

static void start_when_ended(void *host, enum report_state state)
{
	fx_report_changed(host, state);
	if (state == REPORT_CLOSED || state == REPORT_IDLE)
		assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted),
				 0);
}

static void test_w6_start_from_the_callback(void **state)
{
	ops.report_changed = start_when_ended;
	accept_report();
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_int_equal(bits(), START);
	acknowledge(STOP | START);
	assert_int_equal(now(), REPORT_COMPLETE);
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_int_equal(bits(), START);
}

static void test_w6_a_dead_driver_blocks_no_migration(void **state)
{
	int i;

	for (i = 0; i < 5; i++) {
		ask();
		balloon_report_close(&fx.balloon);
		ask();
		balloon_report_done(&fx.balloon);
		assert_int_equal(now(), REPORT_DONE);
	}
	assert_int_equal(bits(), START | STOP);
}

/*
 * W-8: reset
 */

static void test_w8_reset_in_the_middle_of_everything(void **state)
{
	enum place place;

	for (place = 0; place < PLACES; place++) {
		reach(place);
		balloon_set_target(&fx.balloon, 5 + place);
		write_command(STOP);
		balloon_reset(&fx.balloon);
		assert_int_equal(bits(), 0);
		assert_int_equal(published_id(), 0);
		assert_int_equal(now(), REPORT_IDLE);
		assert_int_equal(fx_register(0), 5 + place);
		assert_true(page_set_is_empty(&fx.hinted));
		/* The STOP of a driver that is gone ends nothing. */
		fx_activate(FEATURES);
		acknowledge(BALLOONING);
		ask();
		balloon_acknowledged(&fx.balloon);
		assert_int_equal(now(), REPORT_REQUESTED);
		balloon_set_target(&fx.balloon, 0);
	}
}

/*
 * W-9: over a migration
 */

static void test_w9_registers_are_carried(void **state)
{
	ask();
	balloon_set_target(&fx.balloon, 5);
	balloon_report_close(&fx.balloon);
	fx.config_changes = 0;
	fx_migrate();
	assert_int_equal(bits(), BALLOONING | START | STOP);
	assert_int_equal(published_id(), id());
	assert_int_equal(now(), REPORT_CLOSED);
	/* For the target there is another one. */
	assert_int_equal(fx.config_changes, 2);
	acknowledge(BALLOONING | START | STOP);
	assert_int_equal(now(), REPORT_IDLE);
}

static void test_w9_the_interrupt_is_raised_again(void **state)
{
	accept_report();
	balloon_report_close(&fx.balloon);
	fx.config_changes = 0;
	fx_migrate();
	assert_int_equal(fx.config_changes, 1);
	acknowledge(STOP);
	fx_migrate();
	assert_int_equal(fx.config_changes, 1);
}

static void test_w9_from_every_state(void **state)
{
	static const enum report_state expected[PLACES] = {
		REPORT_IDLE, REPORT_CLOSED, REPORT_CLOSED,
		REPORT_IDLE, REPORT_CLOSED, REPORT_DONE,
	};
	enum place place;

	for (place = 0; place < PLACES; place++) {
		reach(place);
		fx_send_command(id());
		fx_send_hint(HIGH, PAGE);
		fx_migrate();
		page_set_clear(&fx.hinted);
		assert_int_equal(now(), expected[place]);
		assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
		assert_int_equal(counters()->hints, 0);
		balloon_report_done(&fx.balloon);
		assert_int_equal(bits(), places[place].pending);
		start_report();
		fx_command(id());
		assert_int_equal(now(), REPORT_ACCEPTING);
	}
}

static void test_w9_values_that_cannot_be(void **state)
{
	static const struct balloon_state good = {
		.free_page_hint_cmd_id = VIRTIO_BALLOON_CMD_ID_DONE,
		.report_id = 0x80000005,
		.report_state = REPORT_CLOSED,
		.cmd_reg = START | STOP | BALLOONING,
		.cmd_id_reg = 0x80000005,
	};
	struct balloon_state bad[11];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = good;
	bad[0].cmd_reg = 1u << 3;
	bad[1].cmd_reg = 1u << 31;
	bad[2].cmd_id_reg = 1;
	bad[3].cmd_id_reg = 0;
	bad[3].cmd_reg = START;
	bad[4].cmd_id_reg = 0;
	bad[4].cmd_reg = STOP;
	bad[5].sign_due = 1;
	bad[6].report_state = REPORT_STATES;
	bad[7].free_page_hint_cmd_id = VIRTIO_BALLOON_CMD_ID_STOP;
	bad[8].free_page_hint_cmd_id = 0x80000005;
	bad[9].report_id = 0;
	bad[9].report_state = REPORT_IDLE;
	bad[10] = bad[7];
	bad[10].cmd_id_reg = 0;
	bad[10].cmd_reg = BALLOONING;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		balloon_reset(&fx.balloon);
		if (balloon_load(&fx.balloon, &bad[i]) != -1)
			fail_msg("state %u was taken", i);
	}
	balloon_reset(&fx.balloon);
	assert_int_equal(balloon_load(&fx.balloon, &good), 0);
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_every_event_in_every_state),
		UNIT(test_w5_stop_overtakes_what_is_in_the_queue),
		UNIT(test_w5_stop_overtakes_the_whole_report),
		UNIT(test_w5_what_is_taken_before_stop_is_heard_counts),
		UNIT(test_w5_closed_by_the_host),
		UNIT(test_w6_one_stop_a_start),
		UNIT(test_w6_none_when_the_guest_has_said_it),
		UNIT(test_w6_start_from_the_callback),
		UNIT(test_w6_a_dead_driver_blocks_no_migration),
		UNIT(test_w8_reset_in_the_middle_of_everything),
		UNIT(test_w9_registers_are_carried),
		UNIT(test_w9_the_interrupt_is_raised_again),
		UNIT(test_w9_from_every_state),
		UNIT(test_w9_values_that_cannot_be),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
