// SPDX-License-Identifier: MIT
/* The balloon device: inflate, deflate, configuration space, activation,
 * reset, save and load. The free page report is in test_report.c. */
#include "balloon_fixture.h"

#include <pthread.h>

#include "balloon/balloon_driver.h"

#define F(address) ((uint32_t)((address) / PAGE))

/*
 * Inflate and deflate
 */

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
 * The target
 */

static void test_target_is_told_once(void **state)
{
	balloon_set_target(&fx.balloon, 10);
	assert_int_equal(fx_register(0), 10);
	assert_int_equal(fx.config_changes, 1);
	balloon_set_target(&fx.balloon, 10);
	assert_int_equal(fx.config_changes, 1);
}

static void test_target_before_activation_is_told_with_it(void **state)
{
	balloon_reset(&fx.balloon);
	balloon_set_target(&fx.balloon, 10);
	assert_int_equal(fx.config_changes, 0);
	fx_activate(HINT);
	assert_int_equal(fx.config_changes, 1);
}

static void test_no_target_is_not_told(void **state)
{
	assert_int_equal(fx.config_changes, 0);
}

static void test_driver_adjust(void **state)
{
	assert_int_equal(balloon_driver_adjust(5, 3), 2);
	assert_int_equal(balloon_driver_adjust(3, 5), -2);
	assert_int_equal(balloon_driver_adjust(7, 7), 0);
	assert_int_equal(balloon_driver_adjust(UINT32_MAX, 0), UINT32_MAX);
	assert_int_equal(balloon_driver_adjust(0, UINT32_MAX),
			 -(int64_t)UINT32_MAX);
}

/*
 * Configuration space
 */

/* 0x04030201, 0x14131211 and so on. */
static void set_registers(void)
{
	fx.balloon.config.num_pages = 0x04030201;
	fx.balloon.config.actual = 0x14131211;
	fx.balloon.config.free_page_hint_cmd_id = 0x24232221;
	fx.balloon.config.poison_val = 0x34333231;
}

/* Size 8, 12 or 16. */
static void start_with_config(uint32_t size)
{
	struct balloon_options options = fx_options();

	fx_teardown(NULL);
	options.hinting = size >= 12;
	options.poison = size == 16;
	fx_init(options);
	set_registers();
	assert_int_equal(balloon_config_size(&fx.balloon), size);
}

static uint8_t expected_byte(uint64_t offset, uint32_t size)
{
	return offset < size
		       ? (uint8_t)(offset / 4 * 16 + offset % 4 + 1)
		       : 0;
}

/* L3: little-endian, whatever was negotiated. */
static void check_reads(uint32_t size)
{
	uint32_t offset, length, i;
	uint8_t got[34];

	start_with_config(size);
	for (offset = 0; offset < 24; offset++) {
		for (length = 0; length <= 32; length++) {
			memset(got, 0xee, sizeof(got));
			balloon_config_read(&fx.balloon, offset, got + 1,
					    length);
			assert_int_equal(got[0], 0xee);
			for (i = 0; i < length; i++)
				assert_int_equal(got[1 + i],
						 expected_byte(offset + i,
							       size));
			assert_int_equal(got[1 + length], 0xee);
		}
	}
	for (length = 1; length <= 8; length++) {
		memset(got, 0xee, sizeof(got));
		balloon_config_read(&fx.balloon, UINT32_MAX - 3, got, length);
		for (i = 0; i < length; i++)
			assert_int_equal(got[i], 0);
		assert_int_equal(got[length], 0xee);
	}
}

static void test_config_reads(void **state)
{
	check_reads(8);
	check_reads(12);
	check_reads(16);
}

/* L5, L6: `actual` changes by a write of all of it, and by no other. */
static void check_writes(uint32_t size)
{
	const uint8_t bytes[8] = { 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7 };
	uint32_t offset, length;
	bool changed;

	start_with_config(size);
	for (offset = 0; offset < 24; offset++) {
		for (length = 0; length <= 8; length++) {
			set_registers();
			changed = balloon_config_write(&fx.balloon, offset,
						       bytes, length);
			assert_int_equal(changed, offset == 4 && length == 4);
			assert_int_equal(fx.balloon.config.actual,
					 changed ? 0xa4a3a2a1 : 0x14131211);
			assert_int_equal(fx.balloon.config.poison_val,
					 offset == 12 && length == 4 &&
							 size == 16
						 ? 0xa4a3a2a1
						 : 0x34333231);
			assert_int_equal(fx.balloon.config.num_pages,
					 0x04030201);
			assert_int_equal(
				fx.balloon.config.free_page_hint_cmd_id,
				0x24232221);
		}
	}
	assert_false(balloon_config_write(&fx.balloon, UINT32_MAX - 3, bytes,
					  4));
}

static void test_config_writes(void **state)
{
	check_writes(8);
	check_writes(12);
	check_writes(16);
}

static void test_config_write_of_the_same_is_no_change(void **state)
{
	const uint8_t zero[4] = { 0 };

	assert_false(balloon_config_write(&fx.balloon, 4, zero, 4));
}

/* V1: no driver is refused for want of must-tell-host. */
static void test_features_follow_the_options(void **state)
{
	struct balloon_options options = fx_options();
	bool *const switches[] = {
		&options.must_tell_host, &options.statistics,
		&options.deflate_on_oom, &options.hinting,
		&options.poison,	 &options.reporting,
	}; /* by feature bit, 0 to 5 */
	unsigned int set, bit;

	for (set = 0; set < 64; set++) {
		for (bit = 0; bit < 6; bit++)
			*switches[bit] = set >> bit & 1;
		fx_teardown(NULL);
		fx_init(options);
		assert_int_equal(balloon_features(&fx.balloon), set);
		assert_true(balloon_accepts(&fx.balloon, set));
	}
}

/*
 * Save and load
 */

/* The destination: a second balloon over the same guest memory. */
static struct balloon second;

static void migrate(void)
{
	struct virtqueue_state queue[BALLOON_QUEUES] = { { 0, 0 } };
	struct balloon_state saved;
	int i, index;

	balloon_save(&fx.balloon, &saved);
	for (i = 0; i < BALLOON_QUEUES; i++) {
		index = balloon_queue_number(&fx.balloon, i);
		if (index >= 0)
			queue[index] = balloon_queue_state(&fx.balloon, i);
	}
	second = fx.balloon;
	balloon_init(&fx.balloon, fx_options(), &fx.memory, second.run_pages,
		     &fx_ops, &fx);
	assert_int_equal(balloon_load(&fx.balloon, &saved), 0);
	balloon_activate(&fx.balloon, second.features, fx.layout, queue,
			 BALLOON_QUEUES);
}

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
	migrate();
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
	migrate();
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
		UNIT(test_inflate_coalesces_over_buffers),
		UNIT(test_inflate_of_many_runs),
		UNIT(test_inflate_carries_nothing_over),
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
		UNIT(test_target_is_told_once),
		UNIT(test_target_before_activation_is_told_with_it),
		UNIT(test_no_target_is_not_told),
		UNIT(test_driver_adjust),
		UNIT(test_config_reads),
		UNIT(test_config_writes),
		UNIT(test_config_write_of_the_same_is_no_change),
		UNIT(test_features_follow_the_options),
		UNIT(test_queues_go_on_after_a_migration),
		UNIT(test_registers_travel),
		UNIT(test_loaded_report_states),
		UNIT(test_states_that_cannot_be),
		UNIT(test_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
