// SPDX-License-Identifier: MIT
/*
 * The free page report, standard protocol: which ids open and end a report, and
 * which commands are none. Hazards (R) and statements (D) by number.
 */
#include "report_fixture.h"

/*
 * Ids
 */

static void test_ids_are_new_and_never_a_reserved_word(void **state)
{
	static const uint32_t before[] = { 0, 1, 2, UINT32_MAX, 0x80000000 };
	static const uint32_t after[] = {
		0x80000000, 0x80000000, 0x80000000, 0x80000000, 0x80000001,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(before); i++) {
		fx.balloon.report.id = before[i];
		start_report();
		assert_int_equal(id(), after[i]);
		assert_int_equal(fx_cmd_id(), after[i]);
		balloon_report_close(&fx.balloon);
	}
}

/* R4: the id travels in the queue, so hints of the last report that are still
 * in it do not count for this one. */
static void test_R4_stale_hints_do_not_count(void **state)
{
	accept_report();
	fx_send_hint(HIGH, BLOCK);
	balloon_report_close(&fx.balloon);
	start_report();
	fx_send_command(STOP);
	fx_send_command(id());
	fx_send_hint(0, 2 * PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_ACCEPTING);
	assert_int_equal(page_set_count(&fx.hinted), 2);
	assert_true(page_set_contains(&fx.hinted, 0));
	assert_int_equal(counters()->uncounted, 1);
	assert_int_equal(counters()->hints, 1);
}

/* R4: a driver may keep all its ids in one word, so that an old id in the queue
 * reads as the new one once that is written. The queue is emptied before it can
 * know the new one. */
static void test_R4_an_id_that_changes_in_the_queue(void **state)
{
	struct vring_segment word;
	uint8_t raw[4];

	start_report();
	le32_store(raw, id());
	word = (struct vring_segment){ fx_bytes(raw, sizeof(raw)), 4 };
	fx_add(BALLOON_FREE_PAGE, &word, 1, 0);
	fx_send_hint(HIGH, BLOCK);
	fx_send_command(STOP);
	/* The guest takes the block back and writes it; the report is over
	 * before any of this is looked at. */
	balloon_report_close(&fx.balloon);
	start_report();
	le32_store(ram(&fx.memory, word.address, 4), id());
	fx_add(BALLOON_FREE_PAGE, &word, 1, 0);
	fx_send_hint(0, 2 * PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_ACCEPTING);
	assert_false(page_set_contains(&fx.hinted, HIGH / PAGE));
	assert_int_equal(page_set_count(&fx.hinted), 2);
}

/* R5: a late sign belongs to the report before. */
static void test_R5_crossing_stop_signs(void **state)
{
	accept_report();
	balloon_report_close(&fx.balloon);
	start_report();
	fx_command(STOP);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_int_equal(fx_cmd_id(), id());
	fx_command(id());
	assert_int_equal(now(), REPORT_ACCEPTING);
}

static void test_R5_sign_and_stop_cross(void **state)
{
	accept_report();
	fx_send_command(STOP); /* on its way when the host closes */
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_CLOSED);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_IDLE);
}

/* R6, D26: the id once more opens nothing and ends the report. */
static void test_R6_same_id_twice(void **state)
{
	accept_report();
	fx_hint(HIGH, PAGE);
	fx_send_command(id());
	fx_send_hint(HIGH + PAGE, PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_COMPLETE);
	assert_int_equal(page_set_count(&fx.hinted), 1);
}

/* R7: a guest cannot open a report again by replaying its id. */
static void test_R7_replay_after_the_sign(void **state)
{
	accept_report();
	fx_command(STOP);
	fx_command(id());
	fx_hint(HIGH, PAGE);
	assert_int_equal(now(), REPORT_COMPLETE);
	balloon_report_close(&fx.balloon);
	fx_command(id());
	fx_hint(HIGH, PAGE);
	assert_int_equal(now(), REPORT_IDLE);
	assert_true(page_set_is_empty(&fx.hinted));
	assert_int_equal(counters()->uncounted, 2);
}

static void test_R7_old_id_for_a_new_request(void **state)
{
	accept_report();
	balloon_report_close(&fx.balloon);
	start_report();
	fx_command(id() - 1);
	fx_hint(HIGH, PAGE);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_true(page_set_is_empty(&fx.hinted));
}

/* R15: reset drops the hints of the report that was under way. */
static void test_R15_reset_drops_hints(void **state)
{
	accept_report();
	fx_hint(HIGH, BLOCK);
	assert_int_equal(page_set_count(&fx.hinted), BLOCK / PAGE);
	balloon_reset(&fx.balloon);
	assert_true(page_set_is_empty(&fx.hinted));
	assert_int_equal(now(), REPORT_IDLE);
	/* The host comes to close it later. */
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(fx_cmd_id(), STOP);
}

static void test_R15_reset_leaves_a_closed_set_alone(void **state)
{
	accept_report();
	fx_hint(HIGH, BLOCK);
	balloon_report_close(&fx.balloon);
	balloon_reset(&fx.balloon);
	assert_int_equal(page_set_count(&fx.hinted), BLOCK / PAGE);
}

/* R29: what is popped after the close does not count. */
static void test_R29_hints_popped_after_close(void **state)
{
	accept_report();
	fx_send_hint(HIGH, BLOCK);
	fx_send_command(STOP);
	balloon_report_close(&fx.balloon);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
	assert_true(page_set_is_empty(&fx.hinted));
	assert_int_equal(counters()->uncounted, 1);
	assert_int_equal(now(), REPORT_IDLE);
}

static void test_id_and_hints_popped_after_close(void **state)
{
	start_report();
	fx_send_command(id());
	fx_send_hint(HIGH, BLOCK);
	balloon_report_close(&fx.balloon);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
	assert_true(page_set_is_empty(&fx.hinted));
	assert_int_equal(now(), REPORT_CLOSED);
}

/*
 * Commands
 */

/* D24: exactly 4 readable bytes. */
static void test_D24_commands_of_another_size(void **state)
{
	uint8_t bytes[8];
	uint32_t length;

	start_report();
	le32_store(bytes, id());
	for (length = 1; length <= 8; length++) {
		if (length == 4)
			continue;
		fx_send(BALLOON_FREE_PAGE, bytes, length);
		assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 1);
	}
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_int_equal(counters()->malformed, 7);
	assert_int_equal(fx.breaks, 0);
}

static void test_command_in_pieces(void **state)
{
	struct vring_segment segment[2];
	uint8_t bytes[4];
	uint64_t at;

	start_report();
	le32_store(bytes, id());
	at = fx_bytes(bytes, 4);
	segment[0] = (struct vring_segment){ at, 1 };
	segment[1] = (struct vring_segment){ at + 1, 3 };
	fx_add(BALLOON_FREE_PAGE, segment, 2, 0);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_ACCEPTING);
}

static void test_command_with_pages_behind_it(void **state)
{
	struct vring_segment segment[2];
	uint8_t bytes[4];

	start_report();
	le32_store(bytes, id());
	segment[0] = (struct vring_segment){ fx_bytes(bytes, 4), 4 };
	segment[1] = (struct vring_segment){ HIGH, PAGE };
	fx_add(BALLOON_FREE_PAGE, segment, 1, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 1);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_int_equal(counters()->malformed, 1);
	assert_true(page_set_is_empty(&fx.hinted));
}

static void test_command_outside_ram(void **state)
{
	const struct vring_segment segment = { LOW_END, 4 };

	accept_report();
	fx_add(BALLOON_FREE_PAGE, &segment, 1, 0);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 1);
	assert_int_equal(counters()->malformed, 1);
	assert_int_equal(now(), REPORT_ACCEPTING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_ids_are_new_and_never_a_reserved_word),
		UNIT(test_R4_stale_hints_do_not_count),
		UNIT(test_R4_an_id_that_changes_in_the_queue),
		UNIT(test_R5_crossing_stop_signs),
		UNIT(test_R5_sign_and_stop_cross),
		UNIT(test_R6_same_id_twice),
		UNIT(test_R7_replay_after_the_sign),
		UNIT(test_R7_old_id_for_a_new_request),
		UNIT(test_R15_reset_drops_hints),
		UNIT(test_R15_reset_leaves_a_closed_set_alone),
		UNIT(test_R29_hints_popped_after_close),
		UNIT(test_id_and_hints_popped_after_close),
		UNIT(test_D24_commands_of_another_size),
		UNIT(test_command_in_pieces),
		UNIT(test_command_with_pages_behind_it),
		UNIT(test_command_outside_ram),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
