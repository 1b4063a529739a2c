// SPDX-License-Identifier: MIT
/* Inflate and deflate by ranges: docs/spec/page-ranges.md. */
#include "balloon_fixture.h"

#include <linux/virtio_config.h>

#define RANGES (1ull << BALLOON_F_PAGE_RANGES)
#define VERSION (1ull << VIRTIO_F_VERSION_1)

static int setup(void **state)
{
	struct balloon_options options = fx_options();

	options.page_ranges = true;
	options.poison = true;
	fx_init(options);
	fx_activate(RANGES | VERSION | HINT);
	return 0;
}

static void give(const struct vring_segment *segment, uint16_t n)
{
	fx_add(BALLOON_INFLATE, segment, 0, n);
}

static void test_p1_what_is_offered_and_accepted(void **state)
{
	assert_int_equal(BALLOON_F_PAGE_RANGES, 58);
	assert_true(balloon_features(&fx.balloon) & RANGES);
	assert_true(balloon_accepts(&fx.balloon, RANGES | VERSION));
	assert_false(balloon_accepts(&fx.balloon, RANGES));
	fx_teardown(NULL);
	fx_init(fx_options());
	assert_false(balloon_features(&fx.balloon) & RANGES);
}

/* A driver that does not take it sends frame numbers. */
static void test_p1_frames_without_it(void **state)
{
	const uint32_t frames[] = { 10, 11 };

	balloon_reset(&fx.balloon);
	fx_activate(VERSION | HINT);
	fx_send_frames(BALLOON_INFLATE, frames, 2);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_int_equal(fx.discards, 1);
	assert_run(fx.discarded[0], 10, 2);
}

/* P-4: fx_discard() checks that no buffer was used before, fx_reap() that
 * nothing was written; one run of the host's for what meets. */
static void test_p4_runs_are_given_back_before_use(void **state)
{
	const struct vring_segment first[] = {
		{ HIGH, 512 * PAGE }, { 0, 4 * PAGE },
		{ HIGH + 512 * PAGE, PAGE },
	};
	const struct vring_segment second = { 2 * PAGE, 4 * PAGE };

	give(first, 3);
	give(&second, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 2);
	assert_int_equal(fx.discards, 2);
	assert_run(fx.discarded[0], 0, 6);
	assert_run(fx.discarded[1], HIGH / PAGE, 513);
	assert_int_equal(fx.interrupts[BALLOON_INFLATE], 1);
	assert_int_equal(fx.balloon.counters.in_ranges, 521);
}

static void test_p5_deflate(void **state)
{
	const struct vring_segment segments[] = {
		{ HIGH + PAGE, 3 * PAGE }, { PAGE, PAGE },
	};

	fx_add(BALLOON_DEFLATE, segments, 0, 2);
	assert_int_equal(fx_serve_and_reap(BALLOON_DEFLATE), 1);
	assert_int_equal(fx.returns, 2);
	assert_run(fx.returned[0], 1, 1);
	assert_run(fx.returned[1], HIGH / PAGE + 1, 3);
	assert_int_equal(fx.discards, 0);
}

static void test_p2_parts_of_pages_are_left_alone(void **state)
{
	const struct vring_segment segments[] = {
		{ HIGH + 1, 2 * PAGE },	       { HIGH + 4 * PAGE, PAGE - 1 },
		{ HIGH + 8 * PAGE, PAGE + 1 }, { HIGH + 12 * PAGE - 1, 2 },
	};

	give(segments, 4);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_int_equal(fx.discards, 2);
	assert_run(fx.discarded[0], HIGH / PAGE + 1, 1);
	assert_run(fx.discarded[1], HIGH / PAGE + 8, 1);
}

/* Lengths and places that a guest should not send: UINT32_MAX bytes over two
 * holes, the end of the address space, a hole alone. */
static void test_p3_what_is_no_ram_is_passed_over(void **state)
{
	const struct vring_segment segments[] = {
		{ LOW_END - PAGE, UINT32_MAX },
		{ HIGH_END, PAGE },
		{ UINT64_MAX - 10, UINT32_MAX },
		{ UINT64_MAX - PAGE + 1, PAGE },
		{ LOW_END, (uint32_t)(HIGH - LOW_END) },
	};

	give(segments, 5);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_int_equal(fx.discards, 3); /* one a region */
	assert_run(fx.discarded[0], LOW_END / PAGE - 1, 1);
	assert_run(fx.discarded[1], HIGH / PAGE, (HIGH_MIDDLE - HIGH) / PAGE);
	assert_run(fx.discarded[2], HIGH_MIDDLE / PAGE,
		   (HIGH_END - HIGH_MIDDLE) / PAGE);
	assert_int_equal(fx.breaks, 0);
}

static void test_p3_frame_numbers_are_no_range(void **state)
{
	const uint32_t frame = 7;
	const struct vring_segment mixed[] = { { HIGH, 4 }, { 0, PAGE } };

	fx_send_frames(BALLOON_INFLATE, &frame, 1);
	fx_add(BALLOON_INFLATE, mixed, 1, 1);
	fx_send_frames(BALLOON_DEFLATE, &frame, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 2);
	assert_int_equal(fx_serve_and_reap(BALLOON_DEFLATE), 1);
	assert_int_equal(fx.balloon.counters.malformed, 3);
	assert_int_equal(fx.discards + fx.returns, 0);
}

static void test_p3_nothing_is_no_range(void **state)
{
	const struct vring_segment segments[] = { { HIGH, PAGE }, { HIGH, 0 } };

	give(segments, 2);
	fx_serve(BALLOON_INFLATE);
	assert_int_equal(fx.breaks, 1);
	assert_int_equal(fx.discards, 0);
}

static void test_p6_a_ring_of_buffers_at_a_time(void **state)
{
	struct vring_segment segment = { HIGH, 2 * PAGE };
	unsigned int i;

	for (i = 0; i < RING_SIZE; i++, segment.address += 2 * PAGE)
		give(&segment, 1);
	assert_true(balloon_serve(&fx.balloon, BALLOON_INFLATE));
	assert_int_equal(fx.discards, 1);
	assert_run(fx.discarded[0], HIGH / PAGE, 2 * RING_SIZE);
	assert_int_equal(fx_reap(BALLOON_INFLATE), RING_SIZE);
	assert_int_equal(fx.interrupts[BALLOON_INFLATE], 1);
	assert_false(balloon_serve(&fx.balloon, BALLOON_INFLATE));
}

static void test_p7_poison_keeps_no_inflated_page(void **state)
{
	const struct vring_segment segment = { HIGH, PAGE };

	balloon_reset(&fx.balloon);
	fx_write_register(12, 0xaaaaaaaa);
	fx_activate(RANGES | VERSION | POISON | HINT);
	give(&segment, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_int_equal(fx.discards, 1);
}

static void test_p8_goes_on_after_a_migration(void **state)
{
	const struct vring_segment segment = { HIGH, 4 * PAGE };

	give(&segment, 1);
	fx_migrate();
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_int_equal(fx.discards, 1);
	assert_run(fx.discarded[0], HIGH / PAGE, 4);
}

/* Ranges at random, of any length and place, against a byte per frame. */
static void test_ranges_against_model(void **state)
{
	struct rng rng = rng_start("page ranges");
	static uint8_t told[HIGH_END / PAGE], wanted[HIGH_END / PAGE];
	struct vring_segment segment[8];
	unsigned int i, j, n;
	uint64_t page;

	for (i = 0; i < 2000; i++) {
		memset(told, 0, sizeof(told));
		memset(wanted, 0, sizeof(wanted));
		fx.discards = 0;
		for (n = 0; n < 8; n++) {
			segment[n].address = rng_below(&rng, HIGH_END);
			segment[n].length = 1 + (uint32_t)rng_below(
				&rng, rng_chance(&rng, 1, 4) ? 6 * MiB : 40000);
			if (rng_chance(&rng, 1, 2))
				segment[n].address &= ~(PAGE - 1);
			for (page = (segment[n].address + PAGE - 1) / PAGE;
			     (page + 1) * PAGE <=
			     segment[n].address + segment[n].length;
			     page++)
				if (page < LOW_END / PAGE ||
				    (page >= HIGH / PAGE &&
				     page < HIGH_END / PAGE))
					wanted[page] = 1;
		}
		give(segment, 5);
		give(segment + 5, 3);
		assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 2);
		for (j = 0; j < fx.discards; j++)
			for (page = 0; page < fx.discarded[j].count; page++)
				told[fx.discarded[j].first + page]++;
		assert_memory_equal(told, wanted, sizeof(told));
	}
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_p1_what_is_offered_and_accepted),
		UNIT(test_p1_frames_without_it),
		UNIT(test_p2_parts_of_pages_are_left_alone),
		UNIT(test_p3_what_is_no_ram_is_passed_over),
		UNIT(test_p3_frame_numbers_are_no_range),
		UNIT(test_p3_nothing_is_no_range),
		UNIT(test_p4_runs_are_given_back_before_use),
		UNIT(test_p5_deflate),
		UNIT(test_p6_a_ring_of_buffers_at_a_time),
		UNIT(test_p7_poison_keeps_no_inflated_page),
		UNIT(test_p8_goes_on_after_a_migration),
		UNIT(test_ranges_against_model),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
