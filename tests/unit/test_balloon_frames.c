// SPDX-License-Identifier: MIT
/*
 * The balloon device: which frames it gives back and takes back, buffer by
 * buffer, and how much of it at a time.
 */
#include "balloon_fixture.h"

#include <pthread.h>

#define F(address) ((uint32_t)((address) / PAGE))
#define MUST_TELL (1ull << VIRTIO_BALLOON_F_MUST_TELL_HOST)
#define RANGES (1ull << BALLOON_F_PAGE_RANGES)

static void test_inflate_coalesces_over_buffers(void **state)
{
	const uint32_t a[] = { 700, 702, 701, 900 };
	const uint32_t b[] = { 699, 901, 701, 63, 64 };
	const uint32_t c[] = { F(HIGH), F(HIGH) + 1, 703 };

	fx_send_frames(BALLOON_INFLATE, a, 4);
	fx_send_frames(BALLOON_INFLATE, b, 5);
	fx_send_frames(BALLOON_INFLATE, c, 3);
	/* fx_discard() checks that nothing was used before (R24). */
	fx_serve(BALLOON_INFLATE);
	assert_int_equal(fx.discards, 4);
	assert_run(fx.discarded[0], 63, 2);
	assert_run(fx.discarded[1], 699, 5);
	assert_run(fx.discarded[2], 900, 2);
	assert_run(fx.discarded[3], F(HIGH), 2);
	assert_int_equal(fx.interrupts[BALLOON_INFLATE], 1);
	assert_int_equal(fx_reap(BALLOON_INFLATE), 3);
	assert_int_equal(fx.returns, 0);
}

/* More runs than the host hears of at a time. */
static void test_inflate_of_many_runs(void **state)
{
	static const unsigned int lots[] = { BALLOON_RUNS, BALLOON_RUNS + 1 };
	static uint8_t bytes[4 * (BALLOON_RUNS + 1)];
	unsigned int i, j;

	for (j = 0; j < ARRAY_SIZE(lots); j++) {
		fx.calls = fx.discards = 0;
		for (i = 0; i < lots[j]; i++)
			le32_store(bytes + 4 * i, 2 * i);
		fx_send(BALLOON_INFLATE, bytes, 4 * lots[j]);
		assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
		assert_int_equal(fx.discards, lots[j]);
		assert_int_equal(fx.calls, 1 + j);
		for (i = 0; i < lots[j]; i++)
			assert_run(fx.discarded[i], 2ull * i, 1);
	}
}

static void test_inflate_carries_nothing_over(void **state)
{
	/* R25, V3: a frame of one drain is never told with the next, and
	 * what was acknowledged is not touched again. */
	const uint32_t a = 700, b = 702;

	fx_send_frames(BALLOON_INFLATE, &a, 1);
	fx_serve(BALLOON_INFLATE);
	assert_int_equal(fx_reap(BALLOON_INFLATE), 1);
	fx_send_frames(BALLOON_INFLATE, &b, 1);
	fx_serve(BALLOON_INFLATE);
	assert_int_equal(fx.discards, 2);
	assert_run(fx.discarded[0], 700, 1);
	assert_run(fx.discarded[1], 702, 1);
	assert_true(page_set_is_empty(&fx.balloon.run_pages));
}

/* V3: the driver fills its next buffer while we discard, if it may not use the
 * pages of this one before it has told us. */
static void test_acknowledged_before_discarded(void **state)
{
	static const struct {
		uint64_t features;
		unsigned int first;
	} rows[] = {
		{ HINT, 0 },
		{ HINT | MUST_TELL, 1 },
		{ HINT | MUST_TELL | RANGES, 0 },
	};
	const uint32_t frames[] = { 700, 900 };
	const struct vring_segment range = { 700 * PAGE, PAGE };
	struct balloon_options options = fx_options();
	struct vring_driver *ring = &fx.ring[BALLOON_INFLATE];
	unsigned int i;

	fx_teardown(state);
	options.must_tell_host = options.page_ranges = true;
	fx_init(options);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		balloon_reset(&fx.balloon);
		fx_activate(rows[i].features);
		fx.discards = fx.calls = fx.acknowledged_first = 0;
		if (rows[i].features & RANGES)
			vring_driver_add(ring, &range, 0, 1, 0);
		else
			fx_send_frames(BALLOON_INFLATE, frames, 2);
		assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
		assert_int_equal(fx.calls, 1);
		assert_int_equal(fx.acknowledged_first, rows[i].first);
		assert_int_equal(fx.interrupts[BALLOON_INFLATE], i + 1);
	}
}

static void test_inflate_is_cut_where_regions_meet(void **state)
{
	const uint32_t frames[] = { F(HIGH_MIDDLE) - 1, F(HIGH_MIDDLE) };

	fx_send_frames(BALLOON_INFLATE, frames, 2);
	fx_serve(BALLOON_INFLATE);
	assert_int_equal(fx.discards, 2);
	assert_run(fx.discarded[0], F(HIGH_MIDDLE) - 1, 1);
	assert_run(fx.discarded[1], F(HIGH_MIDDLE), 1);
}

static void test_inflate_of_frames_outside_ram(void **state)
{
	const uint32_t frames[] = {
		F(LOW_END) - 1, F(LOW_END),  F(HIGH) - 1, F(HIGH),
		F(HIGH_END),	UINT32_MAX, 0x80000000,	 F(HIGH_END) - 1,
	};

	fx_send_frames(BALLOON_INFLATE, frames, 8);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_int_equal(fx.discards, 3);
	assert_run(fx.discarded[0], F(LOW_END) - 1, 1);
	assert_run(fx.discarded[1], F(HIGH), 1);
	assert_run(fx.discarded[2], F(HIGH_END) - 1, 1);
	assert_int_equal(fx.balloon.counters.bad_frames, 5);
	assert_int_equal(fx.breaks, 0);
}

static void test_inflate_array_over_segments(void **state)
{
	/* Numbers may lie across segments of one buffer. */
	const uint8_t bytes[] = { 5, 0, 0, 0, 6, 0, 0, 0, 9, 1, 0, 0 };
	uint64_t at = fx_bytes(bytes, sizeof(bytes));
	const struct vring_segment segment[] = {
		{ at, 3 }, { at + 3, 6 }, { at + 9, 3 },
	};

	fx_add(BALLOON_INFLATE, segment, 3, 0);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_int_equal(fx.discards, 2);
	assert_run(fx.discarded[0], 5, 2);
	assert_run(fx.discarded[1], 0x109, 1);
}

static void test_inflate_buffers_that_are_no_array(void **state)
{
	const uint8_t bytes[8] = { 5, 0, 0, 0, 7, 0, 0, 0 };
	uint64_t at = fx_bytes(bytes, sizeof(bytes));
	const struct vring_segment odd = { at, 7 };
	const struct vring_segment writable = { at, 8 };
	const struct vring_segment outside = { LOW_END, 8 };
	const struct vring_segment good = { at, 4 };

	fx_add(BALLOON_INFLATE, &odd, 1, 0);
	fx_add(BALLOON_INFLATE, &writable, 0, 1);
	fx_add(BALLOON_INFLATE, &outside, 1, 0);
	fx_add(BALLOON_INFLATE, &good, 1, 0);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 4);
	assert_int_equal(fx.balloon.counters.malformed, 3);
	assert_int_equal(fx.discards, 1);
	assert_run(fx.discarded[0], 5, 1);
	assert_int_equal(fx.breaks, 0);
}

/* Buffers of a mebibyte, all the same frame. */
static void add_long_array(unsigned int mebibytes)
{
	struct vring_segment segment[8];
	unsigned int i;

	for (i = 0; i < mebibytes; i++)
		segment[i] = (struct vring_segment){ HIGH, MiB };
	fx_add(BALLOON_INFLATE, segment, (uint16_t)mebibytes, 0);
}

static void test_inflate_work_is_bounded(void **state)
{
	add_long_array(5); /* more numbers than one buffer may hold */
	add_long_array(4);
	add_long_array(1);
	assert_true(balloon_serve(&fx.balloon, BALLOON_INFLATE));
	assert_int_equal(fx.balloon.counters.malformed, 1);
	assert_int_equal(fx_reap(BALLOON_INFLATE), 2);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_run(fx.discarded[0], 0, 1);
}

static void test_one_ring_at_a_time(void **state)
{
	uint32_t frame;

	for (frame = 0; frame < RING_SIZE; frame++)
		fx_send_frames(BALLOON_INFLATE, &frame, 1);
	assert_true(balloon_serve(&fx.balloon, BALLOON_INFLATE));
	assert_int_equal(fx.discards, 1);
	assert_run(fx.discarded[0], 0, RING_SIZE);
	assert_int_equal(fx.interrupts[BALLOON_INFLATE], 1);
	assert_false(balloon_serve(&fx.balloon, BALLOON_INFLATE));
	assert_int_equal(fx_reap(BALLOON_INFLATE), RING_SIZE);
}

static void test_interrupt_only_when_wanted(void **state)
{
	const uint32_t frame = 1;

	vring_driver_disable_interrupts(&fx.ring[BALLOON_INFLATE]);
	fx_send_frames(BALLOON_INFLATE, &frame, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_int_equal(fx.interrupts[BALLOON_INFLATE], 0);
}

static void test_an_empty_queue_is_served_in_silence(void **state)
{
	assert_false(balloon_serve(&fx.balloon, BALLOON_INFLATE));
	assert_false(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	assert_int_equal(fx.interrupts[BALLOON_INFLATE], 0);
	assert_int_equal(fx.interrupts[BALLOON_FREE_PAGE], 0);
}

static void test_kicks_are_wanted_after_serving(void **state)
{
	const uint32_t frame = 1;

	fx_send_frames(BALLOON_INFLATE, &frame, 1);
	assert_true(vring_driver_needs_kick(&fx.ring[BALLOON_INFLATE]));
	fx_serve(BALLOON_INFLATE);
	fx_send_frames(BALLOON_INFLATE, &frame, 1);
	assert_true(vring_driver_needs_kick(&fx.ring[BALLOON_INFLATE]));
}

static void test_deflate(void **state)
{
	const uint32_t a[] = { 10, 12, F(HIGH_END) };
	const uint32_t b[] = { 11, F(HIGH) };

	fx_send_frames(BALLOON_DEFLATE, a, 3);
	fx_send_frames(BALLOON_DEFLATE, b, 2);
	/* fx_returned() checks that the host hears of it before (R26). */
	assert_int_equal(fx_serve_and_reap(BALLOON_DEFLATE), 2);
	assert_int_equal(fx.returns, 2);
	assert_run(fx.returned[0], 10, 3);
	assert_run(fx.returned[1], F(HIGH), 1);
	assert_int_equal(fx.discards, 0);
	assert_int_equal(fx.balloon.counters.bad_frames, 1);
	assert_int_equal(fx.interrupts[BALLOON_DEFLATE], 1);
}

/* Inflate and deflate at random, against a byte per frame. */
static void test_frames_against_model(void **state)
{
	struct rng rng = rng_start("balloon frames");
	static uint8_t told[0x1600];
	uint32_t frames[32];
	unsigned int i, j, n;
	uint64_t page;
	bool is_ram;

	for (i = 0; i < 2000; i++) {
		memset(told, 0, sizeof(told));
		fx.discards = 0;
		fx.next_buffer = BUFFERS;
		for (n = 0; n < 32; n++)
			frames[n] = (uint32_t)rng_below(&rng, sizeof(told)) &
				    ~(rng_chance(&rng, 1, 2) ? 0xffeu : 0);
		fx_send_frames(BALLOON_INFLATE, frames, 16);
		fx_send_frames(BALLOON_INFLATE, frames + 16, 16);
		assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 2);
		for (j = 0; j < fx.discards; j++)
			for (page = 0; page < fx.discarded[j].count; page++)
				told[fx.discarded[j].first + page]++;
		for (n = 0; n < 32; n++) {
			is_ram = frames[n] < F(LOW_END) ||
				 (frames[n] >= F(HIGH) &&
				  frames[n] < F(HIGH_END));
			assert_int_equal(told[frames[n]], is_ram);
		}
	}
}

/* A guest that offers one buffer again and again, faster than it is served. */
static atomic_bool flooding;

/* It cheats and looks into the device, to be always a full ring ahead. */
__attribute__((no_sanitize("thread")))
static void *flood(void *argument)
{
	struct vring_driver *ring = &fx.ring[BALLOON_INFLATE];
	const struct virtqueue *queue = &fx.balloon.queue[BALLOON_INFLATE];
	uint16_t index = ring->next_avail;
	uint16_t taken;

	while (atomic_load(&flooding)) {
		taken = __atomic_load_n(&queue->next_avail, __ATOMIC_RELAXED);
		if ((uint16_t)(index - taken) == RING_SIZE)
			continue;
		index++;
		__atomic_store_n(&ring->avail->idx, index, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void test_a_flooded_queue_is_served_in_bounded_pieces(void **state)
{
	struct virtqueue *queue = &fx.balloon.queue[BALLOON_INFLATE];
	const struct vring_segment segment = { HIGH, 2 * PAGE };
	unsigned int served = 0;
	pthread_t thread;
	uint16_t before, n;

	/* Long enough that the guest keeps up. */
	fx_add(BALLOON_INFLATE, &segment, 1, 0);
	atomic_store(&flooding, true);
	assert_int_equal(pthread_create(&thread, NULL, flood, NULL), 0);
	while (served < 500) {
		before = queue->next_used;
		balloon_serve(&fx.balloon, BALLOON_INFLATE);
		n = queue->next_used - before;
		assert_in_range(n, 0, RING_SIZE);
		served += n;
		/* As fx_discard() wants to see it. */
		fx.ring[BALLOON_INFLATE].next_used = queue->next_used;
		fx.discards = 0;
	}
	atomic_store(&flooding, false);
	pthread_join(thread, NULL);
	assert_int_equal(fx.breaks, 0);
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_inflate_coalesces_over_buffers),
		UNIT(test_inflate_of_many_runs),
		UNIT(test_inflate_carries_nothing_over),
		UNIT(test_acknowledged_before_discarded),
		UNIT(test_inflate_is_cut_where_regions_meet),
		UNIT(test_inflate_of_frames_outside_ram),
		UNIT(test_inflate_array_over_segments),
		UNIT(test_inflate_buffers_that_are_no_array),
		UNIT(test_inflate_work_is_bounded),
		UNIT(test_one_ring_at_a_time),
		UNIT(test_interrupt_only_when_wanted),
		UNIT(test_an_empty_queue_is_served_in_silence),
		UNIT(test_kicks_are_wanted_after_serving),
		UNIT(test_deflate),
		UNIT(test_frames_against_model),
		UNIT(test_a_flooded_queue_is_served_in_bounded_pieces),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
