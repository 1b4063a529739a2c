// SPDX-License-Identifier: MIT
/* Free page reporting and page poison (VIRTIO 1.3 sections 5.5.6.7, 5.5.6.8;
 * D34 to D42, V12 to V14). */
#include "balloon_fixture.h"

#define AA 0xaaaaaaaau

static void start(uint64_t features, uint32_t poison)
{
	struct balloon_options options = fx_options();

	options.reporting = true;
	options.poison = true;
	fx_init(options);
	if (features & POISON)
		fx_write_register(12, poison); /* D35: before DRIVER_OK */
	fx_activate(features);
}

static int setup(void **state)
{
	start(REPORTING | HINT, 0);
	return 0;
}

static int setup_poisoned(void **state)
{
	start(REPORTING | POISON | HINT, AA);
	return 0;
}

static void report(const struct vring_segment *segment, uint16_t n)
{
	fx_add(BALLOON_REPORTING, segment, 0, n);
}

/* R24: fx_discard() checks that no buffer was used before. */
static void test_reported_runs_are_discarded_before_use(void **state)
{
	const struct vring_segment first[] = {
		{ HIGH, 8 * PAGE }, { 0, 4 * PAGE }, { HIGH + 8 * PAGE, PAGE },
	};
	const struct vring_segment second = { 4 * PAGE, 2 * PAGE };

	report(first, 3);
	report(&second, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_REPORTING), 2);
	assert_int_equal(fx.discards, 2); /* one for each run */
	assert_run(fx.discarded[0], 0, 6);
	assert_run(fx.discarded[1], HIGH / PAGE, 9);
	assert_int_equal(fx.balloon.counters.reported, 15);
	assert_int_equal(fx.interrupts[BALLOON_REPORTING], 1);
}

/* R21 */
static void test_parts_of_pages_are_left_alone(void **state)
{
	const struct vring_segment segments[] = {
		{ HIGH + 1, 2 * PAGE },	  { HIGH + 4 * PAGE, PAGE - 1 },
		{ HIGH + 8 * PAGE, PAGE + 1 }, { HIGH + 12 * PAGE - 1, 2 },
	};

	report(segments, 4);
	assert_int_equal(fx_serve_and_reap(BALLOON_REPORTING), 1);
	assert_int_equal(fx.discards, 2);
	assert_run(fx.discarded[0], HIGH / PAGE + 1, 1);
	assert_run(fx.discarded[1], HIGH / PAGE + 8, 1);
}

/* R18 */
static void test_what_is_no_ram_is_passed_over(void **state)
{
	const struct vring_segment segments[] = {
		{ LOW_END - PAGE, 2 * PAGE },
		{ HIGH_END, PAGE },
		{ UINT64_MAX - 10, 4096 },
		{ UINT64_MAX - PAGE + 1, 4096 },
		{ LOW_END, (uint32_t)(HIGH - LOW_END) },
		{ HIGH_MIDDLE - PAGE, 2 * PAGE },
	};

	report(segments, 6);
	assert_int_equal(fx_serve_and_reap(BALLOON_REPORTING), 1);
	assert_int_equal(fx.discards, 3);
	assert_run(fx.discarded[0], LOW_END / PAGE - 1, 1);
	assert_run(fx.discarded[1], HIGH_MIDDLE / PAGE - 1, 1);
	assert_run(fx.discarded[2], HIGH_MIDDLE / PAGE, 1);
	assert_int_equal(fx.breaks, 0);
}

static void test_buffers_that_are_no_report(void **state)
{
	const uint32_t word = 7;
	const struct vring_segment mixed[] = { { HIGH, 4 }, { 0, PAGE } };

	fx_send_frames(BALLOON_REPORTING, &word, 1);
	fx_add(BALLOON_REPORTING, mixed, 1, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_REPORTING), 2);
	assert_int_equal(fx.balloon.counters.malformed, 2);
	assert_int_equal(fx.discards, 0);
}

/* Whatever a report does, it is no hint: nothing is left out by it. */
static void test_reports_are_no_hints(void **state)
{
	const struct vring_segment segment = { HIGH, 8 * PAGE };

	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), 0);
	fx_command(fx.balloon.report.id);
	report(&segment, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_REPORTING), 1);
	assert_true(page_set_is_empty(&fx.hinted));
	assert_int_equal(fx.discards, 1);
}

/* V14, D38: a discarded page reads as zero, and the guest counts on its
 * pattern; R24: acknowledged all the same. */
static void test_poisoned_pages_are_kept(void **state)
{
	const struct vring_segment segment = { HIGH, 8 * PAGE };

	report(&segment, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_REPORTING), 1);
	assert_int_equal(fx.discards, 0);
	assert_int_equal(fx.balloon.counters.reported, 8);
	assert_int_equal(fx.balloon.counters.inhibited, 8);
}

static void test_poison_of_zero_is_what_a_discard_gives(void **state)
{
	const struct vring_segment segment = { HIGH, 8 * PAGE };

	fx_teardown(NULL);
	start(REPORTING | POISON | HINT, 0);
	report(&segment, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_REPORTING), 1);
	assert_int_equal(fx.discards, 1);
	assert_int_equal(fx.balloon.counters.inhibited, 0);
}

/* Without the feature the register means nothing (D37, V13). */
static void test_poison_counts_only_if_negotiated(void **state)
{
	const struct vring_segment segment = { HIGH, 8 * PAGE };

	balloon_reset(&fx.balloon);
	fx_write_register(12, AA);
	fx_activate(REPORTING | HINT);
	report(&segment, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_REPORTING), 1);
	assert_int_equal(fx.discards, 1);
}

/* D36: what counts is the value at DRIVER_OK. */
static void test_poison_written_late_changes_nothing(void **state)
{
	const struct vring_segment segment = { HIGH, 8 * PAGE };

	fx_write_register(12, 0);
	report(&segment, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_REPORTING), 1);
	assert_int_equal(fx.discards, 0);
}

static void test_reset_clears_the_poison(void **state)
{
	const struct vring_segment segment = { HIGH, 8 * PAGE };

	balloon_reset(&fx.balloon);
	assert_int_equal(fx_register(12), 0);
	fx_activate(REPORTING | POISON | HINT);
	report(&segment, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_REPORTING), 1);
	assert_int_equal(fx.discards, 1);
}

/* The destination must know what the guest counts on. */
static void test_poison_travels(void **state)
{
	struct virtqueue_state queue[BALLOON_QUEUES] = { { 0, 0 } };
	const struct vring_segment segment = { HIGH, 8 * PAGE };
	struct balloon_state saved;

	balloon_save(&fx.balloon, &saved);
	balloon_init(&fx.balloon, fx.balloon.options, &fx.memory,
		     fx.balloon.run_pages, &fx_ops, &fx);
	assert_int_equal(balloon_load(&fx.balloon, &saved), 0);
	balloon_activate(&fx.balloon, REPORTING | POISON | HINT, fx.layout,
			 queue, BALLOON_QUEUES);
	assert_int_equal(fx_register(12), AA);
	report(&segment, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_REPORTING), 1);
	assert_int_equal(fx.discards, 0);
}

/* V2: inflated pages may change whatever the poison is; D34 is the guest's. */
static void test_poison_does_not_keep_inflated_pages(void **state)
{
	const uint32_t frame = 9;

	fx_send_frames(BALLOON_INFLATE, &frame, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_int_equal(fx.discards, 1);
}

static void test_one_ring_at_a_time(void **state)
{
	struct vring_segment segment = { HIGH, PAGE };
	unsigned int i;

	for (i = 0; i < RING_SIZE; i++) {
		segment.address = HIGH + 2 * i * PAGE;
		report(&segment, 1);
	}
	assert_true(balloon_serve(&fx.balloon, BALLOON_REPORTING));
	assert_int_equal(fx.discards, RING_SIZE);
	assert_int_equal(fx_reap(BALLOON_REPORTING), RING_SIZE);
	assert_false(balloon_serve(&fx.balloon, BALLOON_REPORTING));
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, setup, fx_teardown)
#define POISONED(test) \
	cmocka_unit_test_setup_teardown(test, setup_poisoned, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_reported_runs_are_discarded_before_use),
		UNIT(test_parts_of_pages_are_left_alone),
		UNIT(test_what_is_no_ram_is_passed_over),
		UNIT(test_buffers_that_are_no_report),
		UNIT(test_reports_are_no_hints),
		UNIT(test_poison_of_zero_is_what_a_discard_gives),
		UNIT(test_poison_counts_only_if_negotiated),
		UNIT(test_one_ring_at_a_time),
		POISONED(test_poisoned_pages_are_kept),
		POISONED(test_poison_written_late_changes_nothing),
		POISONED(test_reset_clears_the_poison),
		POISONED(test_poison_travels),
		POISONED(test_poison_does_not_keep_inflated_pages),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
