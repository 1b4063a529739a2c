// SPDX-License-Identifier: MIT
/*
 * The free page report, standard protocol: which pages a hint names, what is
 * counted, and how hints are served. Hazards (R) by number.
 */
#include "report_fixture.h"

/*
 * Which pages a hint names
 */

struct shape {
	uint64_t start;
	uint32_t length;
	uint64_t first, count; /* expected; count 0: rejected */
};

static void check_shape(const struct shape *shape)
{
	struct page_run run = { shape->first, shape->count };

	accept_report();
	fx_hint(shape->start, shape->length);
	assert_int_equal(page_set_count(&fx.hinted), shape->count);
	assert_int_equal(page_set_count_in(&fx.hinted, run), shape->count);
	assert_int_equal(counters()->hints, 1);
	assert_int_equal(counters()->hinted_pages, shape->count);
	assert_int_equal(counters()->rejected, shape->count == 0);
	balloon_report_close(&fx.balloon);
}

/* R21: rounded inwards to whole pages, clipped to RAM. */
static void test_R21_rounding_and_clipping(void **state)
{
	static const struct shape shapes[] = {
		{ 0, PAGE, 0, 1 },
		{ 0, BLOCK, 0, BLOCK / PAGE },
		{ 1, PAGE, 0, 0 },
		{ 0, PAGE - 1, 0, 0 },
		{ PAGE - 1, PAGE + 1, 1, 1 },
		{ PAGE - 1, 2 * PAGE, 1, 1 },
		{ 1, 2 * PAGE, 1, 1 },
		{ 100, 3 * PAGE, 1, 2 },
		{ PAGE + 1, PAGE - 2, 0, 0 },
		{ LOW_END - PAGE, 2 * PAGE, LOW_END / PAGE - 1, 1 },
		{ LOW_END - PAGE, PAGE - 1, 0, 0 },
		{ LOW_END - 1, PAGE, 0, 0 },
		{ LOW_END, PAGE, 0, 0 },
		{ HIGH - PAGE, PAGE, 0, 0 },
		{ HIGH - PAGE, 2 * PAGE, HIGH / PAGE, 1 },
		{ HIGH - 1, PAGE + 1, HIGH / PAGE, 1 },
		{ HIGH - 1, PAGE, 0, 0 },
		/* over two regions that touch */
		{ HIGH_MIDDLE - PAGE, 2 * PAGE, HIGH_MIDDLE / PAGE - 1, 2 },
		{ HIGH_END - PAGE, UINT32_MAX, HIGH_END / PAGE - 1, 1 },
		{ HIGH_END, UINT32_MAX, 0, 0 },
		/* around the end of the address space */
		{ UINT64_MAX, PAGE, 0, 0 },
		{ UINT64_MAX - PAGE + 1, PAGE, 0, 0 },
		{ UINT64_MAX - PAGE + 1, 4 * PAGE, 0, 0 },
		{ UINT64_MAX - 2 * PAGE, BLOCK, 0, 0 },
		{ 1ull << 63, UINT32_MAX, 0, 0 },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(shapes); i++)
		check_shape(&shapes[i]);
}

/* Low RAM, hole, high RAM: one hint over all of it. */
static void test_hint_over_a_hole(void **state)
{
	accept_report();
	fx_hint(LOW_END - 2 * PAGE - 5, (uint32_t)(HIGH - LOW_END + 4 * PAGE));
	assert_int_equal(page_set_count(&fx.hinted), 2 + 1);
	assert_true(page_set_contains(&fx.hinted, LOW_END / PAGE - 2));
	assert_true(page_set_contains(&fx.hinted, LOW_END / PAGE - 1));
	assert_true(page_set_contains(&fx.hinted, HIGH / PAGE));
	assert_int_equal(counters()->rejected, 0);
}

static void test_hint_of_everything(void **state)
{
	accept_report();
	fx_hint(0, UINT32_MAX);
	assert_int_equal(page_set_count(&fx.hinted), fx.memory.size / PAGE);
	assert_int_equal(counters()->hinted_pages, fx.memory.size / PAGE);
}

static void test_hint_of_many_segments(void **state)
{
	const struct vring_segment segment[] = {
		{ HIGH, PAGE },	      { LOW_END, PAGE },
		{ 5 * PAGE, 7 },      { 7 * PAGE, 2 * PAGE },
		{ HIGH, 3 * PAGE },
	};

	accept_report();
	fx_add(BALLOON_FREE_PAGE, segment, 0, 5);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 1);
	assert_int_equal(page_set_count(&fx.hinted), 5);
	assert_int_equal(counters()->hints, 1);
	assert_int_equal(counters()->hinted_pages, 5);
	assert_int_equal(counters()->rejected, 0);
}

static void test_a_page_hinted_twice_counts_once(void **state)
{
	accept_report();
	fx_hint(HIGH, 2 * PAGE);
	fx_hint(HIGH, 2 * PAGE);
	assert_int_equal(counters()->hints, 2);
	assert_int_equal(counters()->hinted_pages, 2);
	assert_int_equal(counters()->rejected, 0);
}

static void test_counters_are_of_the_last_start(void **state)
{
	accept_report();
	fx_hint(HIGH, PAGE);
	fx_hint(LOW_END, PAGE);
	balloon_report_close(&fx.balloon);
	assert_int_equal(counters()->hints, 2);
	start_report();
	assert_int_equal(counters()->hints, 0);
	assert_int_equal(counters()->rejected, 0);
	assert_int_equal(counters()->hinted_pages, 0);
}

/* R2: a hint adds to the set and to nothing else. */
static void test_R2_hints_write_no_guest_memory(void **state)
{
	uint64_t ring = RING_AT(BALLOON_FREE_PAGE);
	uint64_t page;

	accept_report();
	fx_send_hint(HIGH, BLOCK);
	page_set_clear(&fx.memory.written);
	fx_serve(BALLOON_FREE_PAGE);
	for (page = 0; page < fx.memory.frames; page++)
		assert_int_equal(page_set_contains(&fx.memory.written, page),
				 page == ring / PAGE);
	assert_int_equal(fx.discards, 0);
	assert_int_equal(fx.returns, 0);
}

static void test_one_interrupt_per_drain_and_only_when_wanted(void **state)
{
	struct vring_driver *ring = &fx.ring[BALLOON_FREE_PAGE];
	int i;

	accept_report();
	fx.interrupts[BALLOON_FREE_PAGE] = 0;
	for (i = 0; i < 5; i++)
		fx_send_hint(HIGH, PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(fx.interrupts[BALLOON_FREE_PAGE], 1);
	vring_driver_disable_interrupts(ring);
	fx_send_hint(HIGH, PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(fx.interrupts[BALLOON_FREE_PAGE], 1);
	assert_int_equal(fx_reap(BALLOON_FREE_PAGE), 6);
}

/* A ring of indirect tables whose every entry names 4 GiB. */
#define LONG_RING 256
#define TABLE (BUFFERS + 0x10000)

static void lay_out_long_ring(struct vring_driver *ring)
{
	uint64_t at = RING_AT(BALLOON_FREE_PAGE);

	balloon_reset(&fx.balloon);
	fx_lay_out(HINT);
	vring_driver_init(ring, LONG_RING,
			  ram(&fx.memory, at, vring_driver_bytes(LONG_RING)),
			  HINT);
	fx.layout[2] = (struct virtqueue_layout){
		.size = LONG_RING,
		.desc = { at },
		.avail = { at + vring_driver_avail_offset(LONG_RING) },
		.used = { at + vring_driver_used_offset(LONG_RING) },
	};
	balloon_activate(&fx.balloon, HINT, fx.layout, NULL, BALLOON_QUEUES);
}

/* While the host lingers the guest need not kick; and it does so between hints,
 * at no other time. */
static void test_lingering_between_hints(void **state)
{
	struct vring_driver *ring = &fx.ring[BALLOON_FREE_PAGE];

	start_report();
	fx.linger = true;
	fx_send_command(id());
	assert_true(vring_driver_needs_kick(ring));
	assert_true(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	fx_send_hint(0x200000, 0x10000);
	assert_false(vring_driver_needs_kick(ring));
	assert_true(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	assert_int_equal(counters()->hints, 1);
	assert_int_equal(fx.lingers, 2);
	fx.linger = false;
	assert_false(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	assert_int_equal(fx.lingers, 3);
	fx_send_hint(0x210000, 0x10000);
	assert_true(vring_driver_needs_kick(ring));
	/* The report is over: no more hints are waited for. */
	fx.linger = true;
	fx_send_command(STOP);
	assert_false(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	assert_int_equal(fx.lingers, 3);
	assert_int_equal(fx.balloon.report.state, REPORT_COMPLETE);
}

static void test_hints_are_served_in_bounded_pieces(void **state)
{
	struct vring_driver *ring = &fx.ring[BALLOON_FREE_PAGE];
	static struct vring_segment all[LONG_RING];
	unsigned int i, first;

	lay_out_long_ring(ring);
	start_report();
	fx_send_command(id());
	for (i = 0; i < LONG_RING; i++)
		all[i] = (struct vring_segment){ 0, UINT32_MAX };
	for (i = 0; i < 60; i++)
		vring_driver_add_indirect(
			ring, all, 0, LONG_RING, 0,
			ram(&fx.memory, TABLE, 16 * LONG_RING), TABLE);
	assert_true(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	first = fx_reap(BALLOON_FREE_PAGE);
	assert_in_range(first, 2, 59);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(fx_reap(BALLOON_FREE_PAGE), 61 - first);
	assert_int_equal(counters()->hinted_pages, fx.memory.size / PAGE);
}

static bool is_ram(uint64_t page)
{
	struct gpa start = { page * PAGE };

	return guest_memory_span(&fx.memory, start, PAGE) != NULL;
}

/* Hints against a byte per page. */
static void test_hints_against_model(void **state)
{
	struct rng rng = rng_start("report hints");
	static uint8_t model[HIGH_END / PAGE];
	static const uint64_t near[] = {
		0, LOW_END, HIGH, HIGH_MIDDLE, HIGH_END,
	};
	uint64_t start, page, length;
	int i, round;

	for (round = 0; round < 50; round++) {
		accept_report();
		memset(model, 0, sizeof(model));
		for (i = 0; i < 8; i++) {
			start = near[rng_below(&rng, ARRAY_SIZE(near))] +
				rng_below(&rng, 64 * PAGE) - 32 * PAGE;
			length = 1 + rng_below(&rng, 1ull << rng_below(&rng,
								       24));
			fx_hint(start, (uint32_t)length);
			for (page = 0; page < ARRAY_SIZE(model); page++)
				if (is_ram(page) && page * PAGE >= start &&
				    (page + 1) * PAGE <= start + length)
					model[page] = 1;
		}
		for (page = 0; page < ARRAY_SIZE(model); page++)
			assert_int_equal(page_set_contains(&fx.hinted, page),
					 model[page]);
		balloon_report_close(&fx.balloon);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_R2_hints_write_no_guest_memory),
		UNIT(test_R21_rounding_and_clipping),
		UNIT(test_hint_over_a_hole),
		UNIT(test_hint_of_everything),
		UNIT(test_hint_of_many_segments),
		UNIT(test_a_page_hinted_twice_counts_once),
		UNIT(test_counters_are_of_the_last_start),
		UNIT(test_one_interrupt_per_drain_and_only_when_wanted),
		UNIT(test_lingering_between_hints),
		UNIT(test_hints_are_served_in_bounded_pieces),
		UNIT(test_hints_against_model),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
