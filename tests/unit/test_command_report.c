// SPDX-License-Identifier: MIT
/*
 * The command-register protocol, device half: every transition of a report; the
 * sign, what counts, reset, DONE and migration. docs/spec/command-register.md,
 * D-5 to D-9.
 */
#include "command_fixture.h"

/*
 * Every event in every state
 */

static const char *const place_name[PLACES] = {
	"idle",	  "deferred", "requested",  "accepting", "signed",
	"owing",  "closed",   "done owing", "done",
};

enum event {
	E_START,
	E_ID,	 /* out-buffer with the id of the last report */
	E_OTHER, /* out-buffer with an id that was none */
	E_SIGN,
	E_HINT,
	E_CLOSE,
	E_PAUSE,
	E_DONE,
	E_RESET,
	EVENTS,
};

static const char *const event_name[EVENTS] = {
	"start", "id",	  "other", "sign",  "hint",
	"close", "pause", "done",  "reset",
};

struct outcome {
	enum place to;
	uint32_t raised;
};

static const struct outcome outcomes[PLACES][EVENTS] = {
	[IDLE] = {
		{ REQUESTED, START }, { IDLE, 0 }, { IDLE, 0 }, { IDLE, 0 },
		{ IDLE, 0 }, { IDLE, 0 }, { IDLE, 0 }, { DONE_SETTLED, DONE },
		{ IDLE, 0 },
	},
	[DEFERRED] = {
		{ DEFERRED, 0 }, { DEFERRED, 0 }, { DEFERRED, 0 },
		{ REQUESTED, START }, { DEFERRED, 0 }, { CLOSED, 0 },
		{ OWING, 0 }, { DONE_OWING, DONE }, { IDLE, 0 },
	},
	[REQUESTED] = {
		{ REQUESTED, 0 }, { ACCEPTING, 0 }, { REQUESTED, 0 },
		{ SIGNED, 0 }, { REQUESTED, 0 }, { CLOSED, STOP },
		{ OWING, STOP }, { DONE_OWING, STOP | DONE }, { IDLE, 0 },
	},
	[ACCEPTING] = {
		{ ACCEPTING, 0 }, { OWING, 0 }, { OWING, 0 }, { SIGNED, 0 },
		{ ACCEPTING, 0 }, { CLOSED, STOP }, { OWING, STOP },
		{ DONE_OWING, STOP | DONE }, { IDLE, 0 },
	},
	[SIGNED] = {
		{ SIGNED, 0 }, { SIGNED, 0 }, { SIGNED, 0 }, { SIGNED, 0 },
		{ SIGNED, 0 }, { IDLE, 0 }, { SIGNED, 0 },
		{ DONE_SETTLED, DONE }, { IDLE, 0 },
	},
	[OWING] = {
		{ OWING, 0 }, { OWING, 0 }, { OWING, 0 }, { SIGNED, 0 },
		{ OWING, 0 }, { CLOSED, STOP }, { OWING, 0 },
		{ DONE_OWING, STOP | DONE }, { IDLE, 0 },
	},
	[CLOSED] = {
		{ DEFERRED, 0 }, { CLOSED, 0 }, { CLOSED, 0 }, { IDLE, 0 },
		{ CLOSED, 0 }, { CLOSED, 0 }, { CLOSED, 0 },
		{ DONE_OWING, DONE }, { IDLE, 0 },
	},
	[DONE_OWING] = {
		{ DEFERRED, 0 }, { DONE_OWING, 0 }, { DONE_OWING, 0 },
		{ DONE_SETTLED, 0 }, { DONE_OWING, 0 }, { DONE_OWING, 0 },
		{ DONE_OWING, 0 }, { DONE_OWING, 0 }, { IDLE, 0 },
	},
	[DONE_SETTLED] = {
		{ REQUESTED, START }, { DONE_SETTLED, 0 }, { DONE_SETTLED, 0 },
		{ DONE_SETTLED, 0 }, { DONE_SETTLED, 0 }, { DONE_SETTLED, 0 },
		{ DONE_SETTLED, 0 }, { DONE_SETTLED, 0 }, { IDLE, 0 },
	},
};

static void cause(enum event event, enum place from)
{
	switch (event) {
	case E_START:
		assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted),
				 is_open(from) ? -1 : 0);
		break;
	case E_ID:
		fx_command(id());
		break;
	case E_OTHER:
		fx_command(id() + 5);
		break;
	case E_SIGN:
		fx_command(SIGN);
		break;
	case E_HINT:
		fx_hint(HIGH, PAGE);
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
	uint32_t cmd_id;

	reach(from);
	fx.config_changes = 0;
	cmd_id = cmd_id_reg();
	cause(event, from);
	if (now() != expected[outcome->to].state || bits() != outcome->raised)
		fail_msg("%s in %s leads to %s and raises %x",
			 event_name[event], place_name[from],
			 report_state_name(now()), bits());
	assert_place(outcome->to);
	assert_int_equal(fx.config_changes,
			 __builtin_popcount(outcome->raised));
	if (event == E_RESET)
		assert_int_equal(cmd_id_reg(), 0);
	else
		assert_int_equal(cmd_id_reg(),
				 outcome->raised & START ? id() : cmd_id);
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
	assert_int_equal(counters()->hints, counted);
	assert_int_equal(page_set_count(&fx.hinted), counted);
	assert_int_equal(fx.breaks, 0);
}

static void test_every_event_in_every_state(void **state)
{
	unsigned int from, event;

	for (from = 0; from < PLACES; from++) {
		for (event = 0; event < EVENTS; event++) {
			balloon_reset(&fx.balloon);
			fx.next_buffer = BUFFERS;
			fx_activate(FEATURES);
			check_outcome(from, event);
		}
	}
}

/*
 * D-5: one sign a START, and idle when it was returned
 */

static void test_d5_idle_when_the_sign_was_returned(void **state)
{
	leave_sign_due();
	fx_send_hint(HIGH, PAGE);
	fx_send_command(SIGN);
	seen.used = used();
	fx_serve(BALLOON_FREE_PAGE);
	/* As it was returned it still was not idle; then it was. */
	assert_int_equal(seen.returning, REPORT_CLOSED);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal((uint16_t)(seen.used_at_change - seen.used), 2);
}

/* The driver must find the slot of the old sign when it hears of the START. */
static void test_d5_start_comes_when_the_sign_was_returned(void **state)
{
	leave_sign_due();
	ask();
	fx_send_command(SIGN);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(bits(), START);
	assert_int_equal(seen.cmd_reg, START);
	assert_int_equal(seen.used, used());
	assert_int_equal(fx_reap(BALLOON_FREE_PAGE), 1);
}

static void start_again_when_complete(void *host, enum report_state state)
{
	fx_report_changed(host, state);
	if (state != REPORT_COMPLETE)
		return;
	balloon_report_close(&fx.balloon);
	/* Taken, not returned. */
	assert_int_equal(now(), REPORT_CLOSED);
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), 0);
	assert_int_equal(bits(), 0);
}

static void test_d5_start_again_from_the_callback(void **state)
{
	accept_report();
	ops.report_changed = start_again_when_complete;
	fx_send_command(SIGN);
	fx_send_hint(HIGH, PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_int_equal(bits(), START);
	assert_int_equal(seen.used, used());
	assert_true(page_set_is_empty(&fx.hinted));
}

static void start_when_closed(void *host, enum report_state state)
{
	fx_report_changed(host, state);
	if (state == REPORT_CLOSED || state == REPORT_IDLE)
		assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted),
				 0);
}

/* The stop of the report that is being closed does not hit the next one. */
static void test_d5_start_from_the_callback_of_close(void **state)
{
	accept_report();
	ops.report_changed = start_when_closed;
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_int_equal(bits(), STOP);
	assert_true(fx.balloon.report.deferred);
	acknowledge(STOP);
	fx_command(SIGN);
	assert_int_equal(bits(), START);
	assert_int_equal(cmd_id_reg(), id());
}

/* Of a driver that sends more than it owes. */
static void test_d5_a_sign_that_is_not_due_is_no_answer(void **state)
{
	fx_command(SIGN);
	assert_int_equal(now(), REPORT_IDLE);
	accept_report();
	fx_send_command(SIGN);
	fx_send_command(SIGN);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
	assert_int_equal(now(), REPORT_COMPLETE);
	balloon_report_close(&fx.balloon);
	fx_command(SIGN);
	start_report();
	assert_true(fx.balloon.report.sign_due);
	assert_int_equal(now(), REPORT_REQUESTED);
}

/* START and STOP in one read, G-4. */
static void test_d5_the_sign_alone_is_an_answer(void **state)
{
	ask();
	balloon_report_close(&fx.balloon);
	acknowledge(START | STOP);
	fx_command(SIGN);
	assert_int_equal(now(), REPORT_IDLE);
	start_report();
	fx_command(SIGN);
	assert_int_equal(now(), REPORT_COMPLETE);
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
}

static void test_d5_a_drain_that_breaks_returns_no_sign(void **state)
{
	struct vring_driver *ring = &fx.ring[BALLOON_FREE_PAGE];

	leave_sign_due();
	fx_send_command(SIGN);
	fx_send_hint(HIGH, PAGE);
	/* The second buffer names no descriptor. */
	ring->avail->ring[(ring->next_avail - 1) % RING_SIZE] = 0xffff;
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(fx.breaks, 1);
	assert_int_equal(now(), REPORT_CLOSED);
	assert_true(fx.balloon.report.sign_due);
}

/* A driver that never answers holds nothing up. */
static void test_d5_a_dead_driver_blocks_no_migration(void **state)
{
	int i;

	for (i = 0; i < 5; i++) {
		ask();
		balloon_report_close(&fx.balloon);
		ask();
		balloon_report_done(&fx.balloon);
		assert_int_equal(now(), REPORT_DONE);
	}
	assert_int_equal(bits(), START | STOP | DONE);
}

/*
 * D-6: what counts
 */

static void test_d6_opened_by_the_requested_id_only(void **state)
{
	start_report();
	fx_hint(HIGH, PAGE);
	fx_command(id() - 1);
	fx_command(id() + 1);
	fx_command(VIRTIO_BALLOON_CMD_ID_DONE);
	fx_hint(HIGH, PAGE);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_int_equal(counters()->uncounted, 2);
	fx_command(id());
	fx_hint(HIGH, PAGE);
	assert_int_equal(counters()->hints, 1);
	assert_int_equal(page_set_count(&fx.hinted), 1);
}

static void test_d6_opened_once(void **state)
{
	accept_report();
	fx_hint(HIGH, PAGE);
	fx_command(id());
	fx_hint(HIGH + PAGE, PAGE);
	assert_int_equal(now(), REPORT_COMPLETE);
	assert_true(fx.balloon.report.sign_due);
	fx_command(id());
	fx_hint(HIGH + PAGE, PAGE);
	fx_command(SIGN);
	fx_command(id());
	fx_hint(HIGH + PAGE, PAGE);
	assert_int_equal(now(), REPORT_COMPLETE);
	assert_int_equal(page_set_count(&fx.hinted), 1);
	assert_int_equal(counters()->uncounted, 3);
}

/* By whatever it was closed: what was queued before that does not count. */
static void check_late(void (*close)(struct balloon *balloon))
{
	uint64_t before;

	balloon_reset(&fx.balloon);
	fx.next_buffer = BUFFERS;
	fx_activate(FEATURES);
	accept_report();
	fx_hint(HIGH, PAGE);
	fx_send_hint(HIGH + PAGE, PAGE);
	fx_send_command(SIGN);
	close(&fx.balloon);
	before = page_set_count(&fx.hinted);
	if (!fx.balloon.running)
		return;
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
	assert_int_equal(page_set_count(&fx.hinted), before);
	assert_int_equal(counters()->uncounted, 1);
	assert_int_equal(counters()->hints, 1);
	assert_false(fx.balloon.report.sign_due);
}

static void test_d6_closed_by_stop_pause_and_done(void **state)
{
	check_late(balloon_report_close);
	assert_int_equal(now(), REPORT_IDLE);
	check_late(balloon_pause);
	assert_int_equal(now(), REPORT_COMPLETE);
	check_late(balloon_report_done);
	assert_int_equal(now(), REPORT_DONE);
	check_late(balloon_reset);
	assert_true(page_set_is_empty(&fx.hinted));
}

static void test_d6_closed_by_the_sign(void **state)
{
	accept_report();
	fx_send_hint(HIGH, PAGE);
	fx_send_command(SIGN);
	fx_send_hint(HIGH + PAGE, PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(page_set_count(&fx.hinted), 1);
	assert_int_equal(counters()->uncounted, 1);
}

/* The id and hints were queued, then the host closed. */
static void test_d6_an_id_after_the_stop_opens_nothing(void **state)
{
	start_report();
	fx_send_command(id());
	fx_send_hint(HIGH, PAGE);
	balloon_report_close(&fx.balloon);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_CLOSED);
	assert_true(page_set_is_empty(&fx.hinted));
}

static void test_d6_pages_of_the_last_report(void **state)
{
	leave_sign_due();
	fx_send_hint(HIGH, PAGE);
	fx_send_command(SIGN);
	ask();
	fx_serve(BALLOON_FREE_PAGE);
	acknowledge(START);
	fx_send_hint(HIGH, PAGE);
	fx_send_command(id());
	fx_send_hint(HIGH + PAGE, PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(page_set_count(&fx.hinted), 1);
	assert_true(page_set_contains(&fx.hinted, (HIGH + PAGE) / PAGE));
}

/*
 * D-7: reset
 */

static void test_d7_reset_returns_to_idle(void **state)
{
	balloon_set_target(&fx.balloon, 5);
	accept_report();
	fx_hint(HIGH, PAGE);
	balloon_pause(&fx.balloon);
	fx.report_changes = 0;
	balloon_reset(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(fx.report_changes, 1);
	assert_int_equal(fx.last_change, REPORT_IDLE);
	assert_int_equal(bits(), 0);
	assert_int_equal(cmd_id_reg(), 0);
	assert_int_equal(fx_register(0), 5);
	assert_true(page_set_is_empty(&fx.hinted));
	/* The next driver owes nothing. */
	fx_activate(FEATURES);
	assert_int_equal(bits(), BALLOONING);
	ask();
	assert_int_equal(bits(), BALLOONING | START);
	balloon_report_close(&fx.balloon);
	assert_int_equal(bits(), BALLOONING | START | STOP);
}

static void test_d7_reset_in_the_middle_of_everything(void **state)
{
	enum place place;

	for (place = 0; place < PLACES; place++) {
		balloon_reset(&fx.balloon);
		fx.next_buffer = BUFFERS;
		fx_activate(FEATURES);
		reach(place);
		balloon_reset(&fx.balloon);
		fx_activate(FEATURES);
		assert_int_equal(bits(), 0);
		fx_command(SIGN); /* is nobody's */
		fx_command(id());
		assert_int_equal(now(), REPORT_IDLE);
		accept_report();
	}
}

static void test_d7_reset_wakes_who_waits_for_a_deferred_start(void **state)
{
	leave_sign_due();
	ask();
	fx.report_changes = 0;
	balloon_reset(&fx.balloon);
	assert_int_equal(fx.report_changes, 1);
	assert_int_equal(now(), REPORT_IDLE);
	balloon_acknowledged(&fx.balloon);
	fx_activate(FEATURES);
	balloon_acknowledged(&fx.balloon);
	assert_int_equal(bits(), 0);
}

/*
 * D-8: DONE
 */

static void test_d8_done_closes_and_is_raised_once(void **state)
{
	accept_report();
	fx_send_hint(HIGH, PAGE);
	balloon_report_done(&fx.balloon);
	assert_int_equal(now(), REPORT_DONE);
	assert_int_equal(bits(), STOP | DONE);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 1);
	assert_int_equal(counters()->uncounted, 1);
	acknowledge(STOP | DONE);
	fx.config_changes = 0;
	balloon_report_done(&fx.balloon);
	assert_int_equal(bits(), 0);
	assert_int_equal(fx.config_changes, 0);
	fx_command(SIGN);
	assert_int_equal(now(), REPORT_DONE);
	balloon_report_done(&fx.balloon);
	assert_int_equal(bits(), 0);
}

static void test_d8_once_for_each_migration(void **state)
{
	int i;

	for (i = 0; i < 3; i++) {
		accept_report();
		fx_command(SIGN);
		balloon_report_close(&fx.balloon);
		balloon_report_done(&fx.balloon);
		assert_int_equal(bits(), DONE);
		acknowledge(DONE);
	}
}

static void test_d8_not_when_no_report_was_ever_asked_for(void **state)
{
	balloon_report_done(&fx.balloon);
	assert_int_equal(bits(), 0);
	assert_int_equal(now(), REPORT_IDLE);
}

/* On the destination, before its vCPUs run: after activation. */
static void test_d8_done_on_the_destination(void **state)
{
	accept_report();
	fx_migrate();
	balloon_report_done(&fx.balloon);
	assert_int_equal(bits(), DONE);
	assert_int_equal(seen.cmd_reg, DONE);
	assert_int_equal(now(), REPORT_DONE);
	/* The driver answers the START that it had over there. */
	acknowledge(DONE);
	assert_true(fx.balloon.report.sign_due);
	fx_command(SIGN);
	start_report();
}

/*
 * D-9: over a migration
 */

static void test_d9_registers_are_carried(void **state)
{
	uint32_t last;

	raise_all();
	last = id();
	fx_migrate();
	assert_int_equal(bits(), BALLOONING | START | STOP | DONE);
	assert_int_equal(cmd_id_reg(), last);
	assert_int_equal(id(), last);
	assert_true(fx.balloon.report.sign_due);
	assert_int_equal(now(), REPORT_DONE);
	assert_int_equal(fx_register(0), 5);
}

static void test_d9_the_interrupt_is_raised_again(void **state)
{
	static const uint32_t each[] = { START, STOP, DONE };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(each); i++) {
		balloon_reset(&fx.balloon);
		fx_activate(FEATURES);
		ask();
		balloon_report_done(&fx.balloon);
		acknowledge((START | STOP | DONE) & ~each[i]);
		fx.config_changes = 0;
		fx_migrate();
		assert_int_equal(bits(), each[i]);
		assert_int_equal(fx.config_changes, 1);
		acknowledge(each[i]);
		fx_migrate();
		assert_int_equal(fx.config_changes, 1);
	}
}

static void test_d9_a_balloon_request_too(void **state)
{
	balloon_set_target(&fx.balloon, 5);
	fx_write_register(4, 5);
	fx.config_changes = 0;
	fx_migrate();
	assert_int_equal(bits(), BALLOONING);
	assert_int_equal(fx.config_changes, 1);
}

static void test_d9_leftovers_do_not_count(void **state)
{
	accept_report();
	fx_send_hint(HIGH, PAGE);
	fx_send_command(SIGN);
	fx_migrate();
	assert_int_equal(now(), REPORT_CLOSED);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
	assert_int_equal(counters()->uncounted, 1);
	assert_int_equal(now(), REPORT_IDLE);
	assert_true(page_set_is_empty(&fx.hinted));
}

static void test_d9_the_id_of_the_other_side_opens_nothing(void **state)
{
	start_report();
	fx_send_command(id());
	fx_send_hint(HIGH, PAGE);
	fx_migrate();
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_CLOSED);
	assert_int_equal(counters()->hints, 0);
}

/* A START there must not be sent after the sign that is due here. */
static void test_d9_a_start_here_waits_for_the_sign_of_there(void **state)
{
	enum place place;
	bool due;

	for (place = 0; place < PLACES; place++) {
		balloon_reset(&fx.balloon);
		fx.next_buffer = BUFFERS;
		fx_activate(FEATURES);
		reach(place);
		due = fx.balloon.report.sign_due;
		fx_migrate();
		assert_int_equal(fx.balloon.report.sign_due, due);
		assert_int_equal(now() == REPORT_CLOSED,
				 due && place != DONE_OWING);
		ask();
		assert_int_equal(bits(), due ? 0 : START);
		if (due)
			fx_command(SIGN);
		assert_int_equal(bits(), START);
		acknowledge(START);
		fx_command(id());
		assert_int_equal(now(), REPORT_ACCEPTING);
	}
}

/* START waited for an acknowledgement only: the driver owes nothing. */
static void test_d9_a_deferred_start_is_dropped(void **state)
{
	ask();
	balloon_report_done(&fx.balloon);
	acknowledge(START | STOP);
	fx_command(SIGN);
	ask();
	assert_true(fx.balloon.report.deferred);
	fx_migrate();
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(bits(), DONE);
	acknowledge(DONE);
	assert_int_equal(bits(), 0);
}

static void test_d9_values_that_cannot_be(void **state)
{
	static const struct balloon_state good = {
		.free_page_hint_cmd_id = VIRTIO_BALLOON_CMD_ID_DONE,
		.report_id = 0x80000005,
		.report_state = REPORT_CLOSED,
		.cmd_reg = START | BALLOONING,
		.cmd_id_reg = 0x80000005,
		.sign_due = 1,
	};
	struct balloon_state bad[13];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		bad[i] = good;
	bad[0].cmd_reg = 1u << 4;
	bad[1].cmd_reg = 1u << 31;
	bad[2].cmd_id_reg = 1;
	bad[3].cmd_id_reg = bad[3].sign_due = 0;
	bad[4].sign_due = 2;
	bad[5].report_state = REPORT_IDLE;
	bad[6].report_state = REPORT_STATES;
	bad[7].free_page_hint_cmd_id = VIRTIO_BALLOON_CMD_ID_STOP;
	bad[8].free_page_hint_cmd_id = 0x80000005;
	bad[9].cmd_id_reg = bad[9].sign_due = 0;
	bad[9].cmd_reg = STOP;
	bad[10] = (struct balloon_state){ .cmd_reg = DONE };
	bad[10].free_page_hint_cmd_id = VIRTIO_BALLOON_CMD_ID_DONE;
	bad[11] = bad[10];
	bad[11].cmd_reg = 0;
	bad[11].cmd_id_reg = 0x80000005;
	bad[12].cmd_id_reg = bad[12].cmd_reg = 0;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		balloon_reset(&fx.balloon);
		if (balloon_load(&fx.balloon, &bad[i]) != -1)
			fail_msg("state %u was taken", i);
	}
	balloon_reset(&fx.balloon);
	assert_int_equal(balloon_load(&fx.balloon, &good), 0);
}

static void test_d9_registers_without_the_protocol(void **state)
{
	struct balloon_state state_of[3] = { { .cmd_reg = BALLOONING },
					     { .cmd_id_reg = 0x80000000 },
					     { .sign_due = 1 } };
	unsigned int i;

	fx_teardown(NULL);
	fx_init(fx_options());
	for (i = 0; i < ARRAY_SIZE(state_of); i++) {
		state_of[i].report_id = 0x80000000;
		state_of[i].report_state = REPORT_CLOSED;
		assert_int_equal(balloon_load(&fx.balloon, &state_of[i]), -1);
	}
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_every_event_in_every_state),
		UNIT(test_d5_idle_when_the_sign_was_returned),
		UNIT(test_d5_start_comes_when_the_sign_was_returned),
		UNIT(test_d5_start_again_from_the_callback),
		UNIT(test_d5_start_from_the_callback_of_close),
		UNIT(test_d5_a_sign_that_is_not_due_is_no_answer),
		UNIT(test_d5_the_sign_alone_is_an_answer),
		UNIT(test_d5_a_drain_that_breaks_returns_no_sign),
		UNIT(test_d5_a_dead_driver_blocks_no_migration),
		UNIT(test_d6_opened_by_the_requested_id_only),
		UNIT(test_d6_opened_once),
		UNIT(test_d6_closed_by_stop_pause_and_done),
		UNIT(test_d6_closed_by_the_sign),
		UNIT(test_d6_an_id_after_the_stop_opens_nothing),
		UNIT(test_d6_pages_of_the_last_report),
		UNIT(test_d7_reset_returns_to_idle),
		UNIT(test_d7_reset_in_the_middle_of_everything),
		UNIT(test_d7_reset_wakes_who_waits_for_a_deferred_start),
		UNIT(test_d8_done_closes_and_is_raised_once),
		UNIT(test_d8_once_for_each_migration),
		UNIT(test_d8_not_when_no_report_was_ever_asked_for),
		UNIT(test_d8_done_on_the_destination),
		UNIT(test_d9_registers_are_carried),
		UNIT(test_d9_the_interrupt_is_raised_again),
		UNIT(test_d9_a_balloon_request_too),
		UNIT(test_d9_leftovers_do_not_count),
		UNIT(test_d9_the_id_of_the_other_side_opens_nothing),
		UNIT(test_d9_a_start_here_waits_for_the_sign_of_there),
		UNIT(test_d9_a_deferred_start_is_dropped),
		UNIT(test_d9_values_that_cannot_be),
		UNIT(test_d9_registers_without_the_protocol),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
