// SPDX-License-Identifier: MIT
/*
 * The free page report, device half, standard protocol: every transition, what
 * the register says, and a pause and a migration in between. Hazards (R) and
 * statements (V) of docs/spec by number.
 */
#include "report_fixture.h"

/*
 * Every event in every state
 */

enum event {
	START,
	SAME_ID,  /* out-buffer with the id of the last start */
	OTHER_ID, /* out-buffer with one that is none */
	SIGN,	  /* out-buffer with STOP */
	HINT_EVENT,
	CLOSE,
	DONE_EVENT,
	RESET,
	EVENTS,
};

static const char *const event_name[EVENTS] = {
	"start", "same id", "other id", "sign",
	"hint",	 "close",   "done",	"reset",
};

/* Of each state: where each event leads. */
static const enum report_state leads_to[REPORT_STATES][EVENTS] = {
	[REPORT_IDLE] = {
		REPORT_REQUESTED, REPORT_IDLE, REPORT_IDLE, REPORT_IDLE,
		REPORT_IDLE, REPORT_IDLE, REPORT_DONE, REPORT_IDLE,
	},
	[REPORT_REQUESTED] = {
		REPORT_REQUESTED, REPORT_ACCEPTING, REPORT_REQUESTED,
		REPORT_REQUESTED, REPORT_REQUESTED, REPORT_CLOSED,
		REPORT_DONE, REPORT_IDLE,
	},
	[REPORT_ACCEPTING] = {
		REPORT_ACCEPTING, REPORT_COMPLETE, REPORT_COMPLETE,
		REPORT_COMPLETE, REPORT_ACCEPTING, REPORT_CLOSED, REPORT_DONE,
		REPORT_IDLE,
	},
	[REPORT_COMPLETE] = {
		REPORT_COMPLETE, REPORT_COMPLETE, REPORT_COMPLETE,
		REPORT_COMPLETE, REPORT_COMPLETE, REPORT_IDLE, REPORT_DONE,
		REPORT_IDLE,
	},
	[REPORT_CLOSED] = {
		REPORT_REQUESTED, REPORT_CLOSED, REPORT_CLOSED, REPORT_IDLE,
		REPORT_CLOSED, REPORT_CLOSED, REPORT_DONE, REPORT_IDLE,
	},
	[REPORT_DONE] = {
		REPORT_REQUESTED, REPORT_DONE, REPORT_DONE, REPORT_DONE,
		REPORT_DONE, REPORT_DONE, REPORT_DONE, REPORT_IDLE,
	},
};

/* Of each state: configuration interrupts of start, close and done. */
static const unsigned int interrupts[REPORT_STATES][3] = {
	[REPORT_IDLE] = { 1, 0, 1 },	  [REPORT_REQUESTED] = { 0, 1, 2 },
	[REPORT_ACCEPTING] = { 0, 1, 2 }, [REPORT_COMPLETE] = { 0, 1, 2 },
	[REPORT_CLOSED] = { 1, 0, 1 },	  [REPORT_DONE] = { 1, 0, 0 },
};

static bool is_open(enum report_state state)
{
	return state == REPORT_REQUESTED || state == REPORT_ACCEPTING ||
	       state == REPORT_COMPLETE;
}

/* Every state but one behind a report that was begun. */
static void reach(enum report_state state)
{
	start_report();
	if (state == REPORT_REQUESTED)
		return;
	fx_command(id());
	if (state == REPORT_COMPLETE || state == REPORT_IDLE)
		fx_command(STOP);
	if (state == REPORT_CLOSED || state == REPORT_IDLE)
		balloon_report_close(&fx.balloon);
	if (state == REPORT_DONE)
		balloon_report_done(&fx.balloon);
	assert_int_equal(now(), state);
}

static void cause(enum event event, enum report_state from)
{
	switch (event) {
	case START:
		assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted),
				 is_open(from) ? -1 : 0);
		break;
	case SAME_ID:
		fx_command(id());
		break;
	case OTHER_ID:
		fx_command(id() - 1);
		break;
	case SIGN:
		fx_command(STOP);
		break;
	case HINT_EVENT:
		fx_hint(HIGH, PAGE);
		break;
	case CLOSE:
		balloon_report_close(&fx.balloon);
		break;
	case DONE_EVENT:
		balloon_report_done(&fx.balloon);
		break;
	case RESET:
		balloon_reset(&fx.balloon);
		break;
	case EVENTS:
		break;
	}
}

static uint32_t register_of(enum report_state state)
{
	return state == REPORT_DONE ? DONE : is_open(state) ? id() : STOP;
}

static void check_transition(enum report_state from, enum event event)
{
	enum report_state to = leads_to[from][event];
	unsigned int changes;
	bool counted = from == REPORT_ACCEPTING && event == HINT_EVENT;

	reach(from);
	fx.config_changes = 0;
	fx.report_changes = 0;
	cause(event, from);
	if (now() != to)
		fail_msg("%s in %s leads to %s", event_name[event],
			 report_state_name(from), report_state_name(now()));

	assert_int_equal(fx_cmd_id(), register_of(to));
	changes = event == START	? interrupts[from][0]
		  : event == CLOSE	? interrupts[from][1]
		  : event == DONE_EVENT ? interrupts[from][2]
					: 0;
	assert_int_equal(fx.config_changes, changes);
	assert_int_equal(fx.report_changes != 0, from != to);
	if (from != to)
		assert_int_equal(fx.last_change, to);
	assert_int_equal(counters()->hints, counted);
	assert_int_equal(counters()->uncounted,
			 event == HINT_EVENT && !counted);
	assert_int_equal(page_set_count(&fx.hinted), counted);
	assert_int_equal(fx.balloon.report.hinted != NULL, is_open(to));
	assert_int_equal(fx.breaks, 0);
}

/* R19: the set is ours between start and close, and at no other time. */
static void test_every_event_in_every_state(void **state)
{
	unsigned int from, event;

	for (from = 0; from < REPORT_STATES; from++) {
		for (event = 0; event < EVENTS; event++) {
			balloon_reset(&fx.balloon);
			fx.next_buffer = BUFFERS;
			fx_activate(HINT);
			check_transition(from, event);
		}
	}
}

static void test_nothing_to_close_or_finish(void **state)
{
	/* No report was ever asked for. */
	balloon_report_close(&fx.balloon);
	balloon_report_done(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(fx_cmd_id(), STOP);
	assert_int_equal(fx.config_changes, 0);
	assert_int_equal(fx.report_changes, 0);
}

static void test_no_report_before_activation(void **state)
{
	balloon_reset(&fx.balloon);
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), -1);
	assert_int_equal(fx.balloon.report.id, 0);
}

/*
 * What the register says
 */

/* V6: STOP stands there once hints are of no use, whatever the guest sent. */
static void test_V6_stop_after_the_guest_has_finished(void **state)
{
	accept_report();
	fx_command(STOP);
	assert_int_equal(fx_cmd_id(), id());
	balloon_report_close(&fx.balloon);
	assert_int_equal(fx_cmd_id(), STOP);
}

/* V7: an id is not used again. */
static void test_V7_no_id_is_used_twice(void **state)
{
	uint32_t last = 0;
	int i;

	for (i = 0; i < 100; i++) {
		start_report();
		assert_true(id() > last);
		last = id();
		if (i % 2)
			balloon_report_close(&fx.balloon);
		else
			balloon_report_done(&fx.balloon);
	}
}

/* V8: pages behind another id do not count... */
static void test_V8_pages_of_another_id(void **state)
{
	accept_report();
	fx_hint(HIGH, PAGE);
	fx_send_command(id() + 1);
	fx_send_hint(0, PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(page_set_count(&fx.hinted), 1);
	assert_int_equal(counters()->uncounted, 1);
}

/* ...and the register shows the id as long as they do: a resize in between
 * makes a driver read it again. */
static void test_V8_register_shows_the_active_id(void **state)
{
	start_report();
	balloon_set_target(&fx.balloon, 5);
	assert_int_equal(fx_cmd_id(), id());
	fx_command(id());
	balloon_set_target(&fx.balloon, 6);
	assert_int_equal(fx_cmd_id(), id());
	fx_hint(HIGH, PAGE);
	assert_int_equal(fx_cmd_id(), id());
}

/* V10, V11: nothing counts after DONE, and DONE is shown. */
static void test_V10_V11_done(void **state)
{
	accept_report();
	fx_send_hint(HIGH, PAGE);
	balloon_report_done(&fx.balloon);
	assert_int_equal(fx_cmd_id(), DONE);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 1);
	assert_true(page_set_is_empty(&fx.hinted));
	fx_command(STOP);
	assert_int_equal(now(), REPORT_DONE);
	assert_int_equal(fx_cmd_id(), DONE);
}

/* R13: DONE also when every report was closed long ago. */
static void test_R13_done_after_the_last_sign(void **state)
{
	accept_report();
	fx_command(STOP);
	balloon_report_close(&fx.balloon);
	fx.config_changes = 0;
	balloon_report_done(&fx.balloon);
	assert_int_equal(fx_cmd_id(), DONE);
	assert_int_equal(fx.config_changes, 1);
	balloon_report_done(&fx.balloon);
	assert_int_equal(fx.config_changes, 1);
}

/*
 * Reactions of the host
 */

/* The host reacts from within the callback. */
static const struct balloon_host_ops *plain_ops;

static void close_when_complete(void *host, enum report_state state)
{
	plain_ops->report_changed(host, state);
	if (state == REPORT_COMPLETE)
		balloon_report_close(&fx.balloon);
}

static void test_closing_from_the_callback(void **state)
{
	struct balloon_host_ops ops = fx_ops;

	plain_ops = &fx_ops;
	ops.report_changed = close_when_complete;
	fx.balloon.ops = &ops;
	accept_report();
	fx_send_command(STOP);
	fx_send_hint(HIGH, PAGE);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(fx_cmd_id(), STOP);
	assert_int_equal(counters()->uncounted, 1);
	fx.balloon.ops = &fx_ops;
}

/*
 * Over a migration (D-9)
 */

/* R16, R29: whoever pauses the guest may go on at any later time, and what
 * the guest wrote by then is not compared with hints of before. */
static void test_a_pause_completes_the_report(void **state)
{
	accept_report();
	fx_hint(HIGH, 4 * PAGE);
	balloon_pause(&fx.balloon);
	assert_int_equal(now(), REPORT_COMPLETE);
	assert_int_equal(fx_cmd_id(), STOP);
	fx_hint(HIGH + 8 * PAGE, 4 * PAGE);
	assert_int_equal(counters()->uncounted, 1);
	assert_int_equal(page_set_count(&fx.hinted), 4);
	/* What came before it still counts: it is the host's to drain. */
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
}

static void test_a_pause_without_a_report_is_nothing(void **state)
{
	balloon_pause(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
	accept_report();
	balloon_report_close(&fx.balloon);
	fx.config_changes = 0;
	balloon_pause(&fx.balloon);
	assert_int_equal(now(), REPORT_CLOSED);
	assert_int_equal(fx.config_changes, 0);
}

static void test_leftovers_on_the_destination_do_not_count(void **state)
{
	uint32_t last;

	accept_report();
	last = id();
	fx_send_hint(HIGH, BLOCK);
	fx_send_command(STOP);
	fx_migrate();
	assert_int_equal(now(), REPORT_CLOSED);
	assert_int_equal(fx_cmd_id(), last);
	fx.config_changes = 0;
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
	assert_int_equal(counters()->uncounted, 1);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(fx_cmd_id(), last);

	balloon_report_done(&fx.balloon);
	assert_int_equal(fx_cmd_id(), DONE);
	assert_int_equal(fx.config_changes, 1);
	start_report();
	assert_int_equal(id(), last + 1);
}

static void test_requested_on_the_source(void **state)
{
	start_report();
	fx_send_command(id());
	fx_send_hint(HIGH, BLOCK);
	fx_migrate();
	assert_int_equal(now(), REPORT_CLOSED);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
	assert_int_equal(now(), REPORT_CLOSED);
	assert_int_equal(counters()->hints, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_every_event_in_every_state),
		UNIT(test_nothing_to_close_or_finish),
		UNIT(test_no_report_before_activation),
		UNIT(test_R13_done_after_the_last_sign),
		UNIT(test_V6_stop_after_the_guest_has_finished),
		UNIT(test_V7_no_id_is_used_twice),
		UNIT(test_V8_pages_of_another_id),
		UNIT(test_V8_register_shows_the_active_id),
		UNIT(test_V10_V11_done),
		UNIT(test_closing_from_the_callback),
		UNIT(test_a_pause_completes_the_report),
		UNIT(test_a_pause_without_a_report_is_nothing),
		UNIT(test_leftovers_on_the_destination_do_not_count),
		UNIT(test_requested_on_the_source),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
