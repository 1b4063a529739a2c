// SPDX-License-Identifier: MIT
/*
 * The balloon device: broken rings, activation, reset, save and load. Buffers
 * of frames are in test_balloon_frames.c, registers in test_balloon_config.c, the
 * free page report is in test_report.c.
 */
#include "balloon_fixture.h"

/*
 * A broken ring
 */

static void test_a_malformed_ring_breaks_the_device(void **state)
{
	const uint32_t frame = 1;

	fx_send_frames(BALLOON_INFLATE, &frame, 1);
	fx_send_frames(BALLOON_INFLATE, &frame, 1);
	le16_store(&fx.ring[BALLOON_INFLATE].avail->ring[1], 999);
	assert_false(balloon_serve(&fx.balloon, BALLOON_INFLATE));
	assert_int_equal(fx.breaks, 1);
	assert_non_null(fx.broken);
	assert_int_equal(fx.discards, 0);
	assert_int_equal(fx_reap(BALLOON_INFLATE), 0);
	assert_true(page_set_is_empty(&fx.balloon.run_pages));

	/* No queue is served, nothing is told to the guest any more. */
	fx_send_frames(BALLOON_DEFLATE, &frame, 1);
	assert_false(balloon_serve(&fx.balloon, BALLOON_DEFLATE));
	assert_int_equal(fx.returns, 0);
	balloon_set_target(&fx.balloon, 77);
	assert_int_equal(fx.config_changes, 0);
	assert_false(balloon_can_report(&fx.balloon));
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), -1);
	balloon_activate(&fx.balloon, HINT, fx.layout, NULL, BALLOON_QUEUES);
	assert_false(fx.balloon.running);
	assert_int_equal(fx.breaks, 1);
}

static void test_reset_heals_a_broken_device(void **state)
{
	const uint32_t frame = 1;

	fx_send_frames(BALLOON_INFLATE, &frame, 1);
	le16_store(&fx.ring[BALLOON_INFLATE].avail->ring[0], 999);
	fx_serve(BALLOON_INFLATE);
	assert_int_equal(fx.breaks, 1);
	balloon_reset(&fx.balloon);
	fx_activate(HINT);
	fx_send_frames(BALLOON_INFLATE, &frame, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_int_equal(fx.discards, 1);
}

static void test_a_malformed_free_page_ring_breaks_the_device(void **state)
{
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), 0);
	fx_command(fx.balloon.report.id);
	fx_send_hint(HIGH, 4096);
	fx_send_hint(HIGH, 4096);
	le16_store(&fx.ring[BALLOON_FREE_PAGE].avail->ring[2], 999);
	assert_false(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	assert_int_equal(fx.breaks, 1);
	/* The report can still be closed, without a word to the guest. */
	fx.config_changes = 0;
	balloon_report_close(&fx.balloon);
	assert_int_equal(fx.balloon.report.state, REPORT_CLOSED);
	assert_int_equal(fx.config_changes, 0);
}

/*
 * Activation and reset
 */

static void test_a_bad_layout_breaks_the_device(void **state)
{
	balloon_reset(&fx.balloon);
	fx_lay_out(HINT);
	fx.layout[1].used.value = LOW_END;
	balloon_activate(&fx.balloon, HINT, fx.layout, NULL, BALLOON_QUEUES);
	assert_int_equal(fx.breaks, 1);
	assert_false(balloon_serve(&fx.balloon, BALLOON_INFLATE));
}

static void test_queues_that_were_not_enabled(void **state)
{
	balloon_reset(&fx.balloon);
	fx_lay_out(HINT);
	fx.layout[2].size = 0;
	balloon_activate(&fx.balloon, HINT, fx.layout, NULL, BALLOON_QUEUES);
	assert_int_equal(fx.breaks, 0);
	assert_false(balloon_can_report(&fx.balloon));
	assert_false(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	balloon_reset(&fx.balloon);
	fx_lay_out(HINT);
	balloon_activate(&fx.balloon, HINT, fx.layout, NULL, 2);
	assert_false(balloon_can_report(&fx.balloon));
}

static void test_queues_without_their_feature(void **state)
{
	balloon_reset(&fx.balloon);
	fx_activate(0);
	assert_int_equal(balloon_queue_number(&fx.balloon, BALLOON_FREE_PAGE),
			 -1);
	assert_false(balloon_can_report(&fx.balloon));
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), -1);
	assert_false(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	assert_false(balloon_serve(&fx.balloon, BALLOON_STATS));
	assert_false(balloon_serve(&fx.balloon, BALLOON_QUEUES));
}

static void test_numbering_reaches_the_queues(void **state)
{
	struct balloon_options options = fx_options();

	assert_int_equal(balloon_queue_number(&fx.balloon, BALLOON_FREE_PAGE),
			 2);
	fx_teardown(NULL);
	options.numbering = BALLOON_NUMBERING_SPEC;
	fx_init(options);
	fx_activate(HINT);
	assert_int_equal(balloon_queue_number(&fx.balloon, BALLOON_FREE_PAGE),
			 3);
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), 0);
	fx_command(fx.balloon.report.id);
	assert_int_equal(fx.balloon.report.state, REPORT_ACCEPTING);
}

/* One buffer through a queue that exists, and what it does there. */
static void check_queue_works(enum balloon_queue queue)
{
	const struct vring_segment pages = { HIGH, 2 * PAGE };
	const uint32_t frame = 7;
	const uint8_t entry[10] = { BALLOON_STAT_TOTAL, 0, 9 };

	switch (queue) {
	case BALLOON_INFLATE:
	case BALLOON_DEFLATE:
		fx_send_frames(queue, &frame, 1);
		assert_int_equal(fx_serve_and_reap(queue), 1);
		break;
	case BALLOON_STATS:
		fx_send(queue, entry, sizeof(entry));
		assert_int_equal(fx_serve_and_reap(queue), 0);
		assert_int_equal(
			fx.balloon.statistics.value[BALLOON_STAT_TOTAL], 9);
		break;
	case BALLOON_FREE_PAGE:
		assert_int_equal(
			balloon_report_start(&fx.balloon, &fx.hinted), 0);
		fx_command(fx.balloon.report.id);
		assert_int_equal(fx.balloon.report.state, REPORT_ACCEPTING);
		balloon_report_close(&fx.balloon);
		break;
	case BALLOON_REPORTING:
		fx_add(queue, &pages, 0, 1);
		assert_int_equal(fx_serve_and_reap(queue), 1);
		assert_int_equal(fx.balloon.counters.reported, 2);
		break;
	case BALLOON_QUEUES:
		break;
	}
}

/* Section 5.5.2: every set of offered and of negotiated features, in either
 * numbering. The index follows what was negotiated, not what was offered. */
static void check_combination(unsigned int offered, unsigned int accepted,
			      enum balloon_numbering numbering)
{
	struct balloon_options options = fx_options();
	uint64_t features = (accepted & 1 ? STATS : 0) |
			    (accepted & 2 ? HINT : 0) |
			    (accepted & 4 ? REPORTING : 0);
	int queue, index, expected = 2;

	fx_teardown(NULL);
	options.statistics = offered & 1;
	options.hinting = offered & 2;
	options.reporting = offered & 4;
	options.numbering = numbering;
	fx_init(options);
	assert_int_equal(features & ~balloon_features(&fx.balloon), 0);
	fx_activate(features);
	for (queue = 0; queue < BALLOON_QUEUES; queue++) {
		index = balloon_queue_number(&fx.balloon, queue);
		if (queue >= BALLOON_STATS && !(accepted >> (queue - 2) & 1)) {
			assert_int_equal(index, -1);
			assert_false(balloon_serve(&fx.balloon, queue));
			continue;
		}
		if (queue < BALLOON_STATS ||
		    numbering == BALLOON_NUMBERING_SPEC)
			assert_int_equal(index, queue);
		else
			assert_int_equal(index, expected++);
		check_queue_works(queue);
	}
	assert_int_equal(fx.breaks, 0);
}

static void test_numbering_in_every_combination(void **state)
{
	unsigned int offered, accepted, numbering;

	for (numbering = 0; numbering < 2; numbering++)
		for (offered = 0; offered < 8; offered++)
			for (accepted = 0; accepted < 8; accepted++)
				if (!(accepted & ~offered))
					check_combination(offered, accepted,
							  numbering);
}

static void test_nothing_is_served_before_activation(void **state)
{
	int queue;

	balloon_reset(&fx.balloon);
	for (queue = 0; queue <= BALLOON_QUEUES; queue++)
		assert_false(balloon_serve(&fx.balloon, queue));
}

static void test_reset_keeps_target_and_id(void **state)
{
	uint32_t id;

	balloon_set_target(&fx.balloon, 1234);
	fx_write_register(4, 99);
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), 0);
	id = fx.balloon.report.id;
	balloon_reset(&fx.balloon);
	assert_int_equal(fx_register(0), 1234);
	assert_int_equal(fx_register(4), 0);
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_STOP);
	assert_int_equal(fx.balloon.features, 0);
	fx_activate(HINT);
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), 0);
	assert_int_equal(fx.balloon.report.id, id + 1);
}

/*
 * Save and load
 */

static void test_queues_go_on_after_a_migration(void **state)
{
	uint32_t frame;

	for (frame = 100; frame < 105; frame++) {
		fx_send_frames(BALLOON_INFLATE, &frame, 1);
		assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	}
	/* Made available, not served before the move. */
	fx_send_frames(BALLOON_INFLATE, &frame, 1);
	fx.discards = 0;
	fx_migrate();
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_int_equal(fx.discards, 1);
	assert_run(fx.discarded[0], 105, 1);
}

static void test_registers_travel(void **state)
{
	struct balloon_state saved;

	balloon_set_target(&fx.balloon, 500);
	fx_write_register(4, 400);
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), 0);
	balloon_save(&fx.balloon, &saved);
	assert_int_equal(saved.num_pages, 500);
	assert_int_equal(saved.actual, 400);
	assert_int_equal(saved.free_page_hint_cmd_id, fx.balloon.report.id);
	assert_int_equal(saved.report_id, fx.balloon.report.id);
	assert_int_equal(saved.report_state, REPORT_REQUESTED);
	fx.config_changes = 0;
	fx_migrate();
	assert_int_equal(fx_register(0), 500);
	assert_int_equal(fx_register(4), 400);
	/* The target is not met yet, so it is told again. */
	assert_int_equal(fx.config_changes, 1);
}

static void test_loaded_report_states(void **state)
{
	static const enum report_state becomes[REPORT_STATES] = {
		[REPORT_IDLE] = REPORT_IDLE,
		[REPORT_REQUESTED] = REPORT_CLOSED,
		[REPORT_ACCEPTING] = REPORT_CLOSED,
		[REPORT_COMPLETE] = REPORT_IDLE,
		[REPORT_CLOSED] = REPORT_CLOSED,
		[REPORT_DONE] = REPORT_DONE,
	};
	struct balloon_state saved = { .report_id = 0x80000005 };
	unsigned int i;

	for (i = 0; i < REPORT_STATES; i++) {
		saved.report_state = i;
		assert_int_equal(balloon_load(&fx.balloon, &saved), 0);
		assert_int_equal(fx.balloon.report.state, becomes[i]);
		assert_int_equal(fx.balloon.report.id, 0x80000005);
	}
}

static void test_states_that_cannot_be(void **state)
{
	static const struct balloon_state bad[] = {
		{ .report_state = REPORT_STATES, .report_id = 0x80000000 },
		{ .report_state = UINT32_MAX, .report_id = 0x80000000 },
		{ .report_state = REPORT_CLOSED, .report_id = 0 },
		{ .report_id = VIRTIO_BALLOON_CMD_ID_DONE },
		{ .free_page_hint_cmd_id = 7, .report_id = 8 },
	};
	struct balloon before = fx.balloon;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(balloon_load(&fx.balloon, &bad[i]), -1);
	assert_memory_equal(&before, &fx.balloon, sizeof(before));
}

static void test_names(void **state)
{
	unsigned int i;

	for (i = 0; i < REPORT_STATES; i++)
		assert_string_not_equal(report_state_name(i), "unknown");
	assert_string_equal(report_state_name(REPORT_ACCEPTING), "accepting");
	assert_string_equal(report_state_name(REPORT_STATES), "unknown");
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_a_malformed_ring_breaks_the_device),
		UNIT(test_reset_heals_a_broken_device),
		UNIT(test_a_malformed_free_page_ring_breaks_the_device),
		UNIT(test_a_bad_layout_breaks_the_device),
		UNIT(test_queues_that_were_not_enabled),
		UNIT(test_queues_without_their_feature),
		UNIT(test_numbering_reaches_the_queues),
		UNIT(test_numbering_in_every_combination),
		UNIT(test_nothing_is_served_before_activation),
		UNIT(test_reset_keeps_target_and_id),
		UNIT(test_queues_go_on_after_a_migration),
		UNIT(test_registers_travel),
		UNIT(test_loaded_report_states),
		UNIT(test_states_that_cannot_be),
		UNIT(test_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
