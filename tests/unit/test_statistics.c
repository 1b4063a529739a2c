// SPDX-License-Identifier: MIT
/* The statistics queue (VIRTIO 1.3 section 5.5.6.4; D16 to D23, V4, V5). */
#include "balloon_fixture.h"

#define ENTRY 10u

static int setup(void **state)
{
	struct balloon_options options = fx_options();

	options.statistics = true;
	fx_init(options);
	fx_activate(STATS | HINT);
	return 0;
}

/* Guest memory of a buffer that holds @entries pairs of tag and value. */
struct filled {
	uint8_t bytes[ENTRY * 64];
	uint32_t used;
};

static void put(struct filled *filled, uint16_t tag, uint64_t value)
{
	le16_store(filled->bytes + filled->used, tag);
	le64_store(filled->bytes + filled->used + 2, value);
	filled->used += ENTRY;
}

static void send(const struct filled *filled)
{
	fx_send(BALLOON_STATS, filled->bytes, filled->used);
	fx_serve(BALLOON_STATS);
}

static const struct balloon_statistics *got(void)
{
	return &fx.balloon.statistics;
}

static void test_all_tags(void **state)
{
	struct filled filled = { .used = 0 };
	uint16_t tag;

	assert_int_equal(BALLOON_STATISTICS, 16);
	for (tag = 0; tag < BALLOON_STATISTICS; tag++)
		put(&filled, tag, 0x0102030405060700ull + tag);
	send(&filled);
	assert_int_equal(got()->present, 0xffff);
	for (tag = 0; tag < BALLOON_STATISTICS; tag++)
		assert_int_equal(got()->value[tag],
				 0x0102030405060700ull + tag);
	assert_int_equal(got()->updates, 1);
	assert_int_equal(fx.statistics_changes, 1);
}

static void test_tags_are_those_of_the_text(void **state)
{
	assert_int_equal(BALLOON_STAT_SWAP_IN, VIRTIO_BALLOON_S_SWAP_IN);
	assert_int_equal(BALLOON_STAT_SWAP_OUT, VIRTIO_BALLOON_S_SWAP_OUT);
	assert_int_equal(BALLOON_STAT_MAJOR_FAULTS, VIRTIO_BALLOON_S_MAJFLT);
	assert_int_equal(BALLOON_STAT_MINOR_FAULTS, VIRTIO_BALLOON_S_MINFLT);
	assert_int_equal(BALLOON_STAT_FREE, VIRTIO_BALLOON_S_MEMFREE);
	assert_int_equal(BALLOON_STAT_TOTAL, VIRTIO_BALLOON_S_MEMTOT);
	assert_int_equal(BALLOON_STAT_AVAILABLE, VIRTIO_BALLOON_S_AVAIL);
	assert_int_equal(BALLOON_STAT_DISK_CACHES, VIRTIO_BALLOON_S_CACHES);
	assert_int_equal(BALLOON_STAT_HUGETLB_ALLOCATIONS,
			 VIRTIO_BALLOON_S_HTLB_PGALLOC);
	assert_int_equal(BALLOON_STAT_HUGETLB_FAILURES,
			 VIRTIO_BALLOON_S_HTLB_PGFAIL);
	assert_int_equal(BALLOON_STAT_OOM_KILLS, 10);
	assert_int_equal(BALLOON_STAT_DIRECT_RECLAIMS, 15);
	assert_int_equal(sizeof(struct virtio_balloon_stat), ENTRY);
}

static void test_every_tag_has_a_name(void **state)
{
	unsigned int a, b;

	for (a = 0; a < BALLOON_STATISTICS; a++)
		for (b = 0; b < a; b++)
			assert_string_not_equal(balloon_statistic_name(a),
						balloon_statistic_name(b));
	assert_string_equal(balloon_statistic_name(BALLOON_STATISTICS),
			    "unknown");
}

/* V4, V5, D21, D22 */
static void test_any_order_any_subset_and_unknown_tags(void **state)
{
	struct filled filled = { .used = 0 };

	put(&filled, 7, 70);
	put(&filled, 16, 1);
	put(&filled, 65535, 2);
	put(&filled, 4, 40);
	put(&filled, 0, 0);
	send(&filled);
	assert_int_equal(got()->present, 1u << 7 | 1u << 4 | 1u << 0);
	assert_int_equal(got()->value[7], 70);
	assert_int_equal(got()->value[4], 40);
	assert_int_equal(got()->value[0], 0);
	assert_int_equal(fx.balloon.counters.malformed, 0);
}

static void test_values_a_guest_does_not_know(void **state)
{
	struct filled filled = { .used = 0 };

	put(&filled, 4, UINT64_MAX);
	put(&filled, 5, UINT64_MAX - 1);
	send(&filled);
	assert_int_equal(got()->present, 1u << 5);
}

/* D20: an entry is 10 bytes; the text's "multiple of 6" is none of it. */
static void test_sizes_of_the_erratum(void **state)
{
	uint32_t extra;

	for (extra = 0; extra < ENTRY; extra++) {
		struct filled filled = { .used = 0 };

		put(&filled, 4, 1000 + extra);
		put(&filled, 5, 77);
		put(&filled, 6, 88);
		filled.used -= ENTRY;
		filled.used += extra;
		send(&filled);
		assert_int_equal(got()->present, 1u << 4 | 1u << 5);
		assert_int_equal(got()->value[4], 1000 + extra);
		assert_int_equal(got()->updates, extra + 1);
		assert_true(balloon_request_statistics(&fx.balloon));
		assert_int_equal(fx_reap(BALLOON_STATS), 1);
	}
	assert_int_equal(fx.balloon.counters.malformed, 0);
}

/* The host's part of D16 to D18: the buffer is kept until it asks. */
static void test_buffer_comes_back_when_asked(void **state)
{
	struct filled filled = { .used = 0 };

	assert_false(balloon_request_statistics(&fx.balloon));
	put(&filled, 4, 40);
	send(&filled);
	assert_int_equal(fx_reap(BALLOON_STATS), 0);
	assert_int_equal(fx.interrupts[BALLOON_STATS], 0);
	assert_true(balloon_request_statistics(&fx.balloon));
	assert_int_equal(fx.interrupts[BALLOON_STATS], 1);
	assert_int_equal(fx_reap(BALLOON_STATS), 1);
	/* The guest is filling it. */
	assert_false(balloon_request_statistics(&fx.balloon));
	filled.used = 0;
	put(&filled, 4, 41);
	send(&filled);
	assert_int_equal(got()->value[4], 41);
	assert_int_equal(got()->updates, 2);
	assert_true(balloon_request_statistics(&fx.balloon));
}

/* A driver that breaks D16 cannot make buffers pile up here. */
static void test_more_than_one_buffer(void **state)
{
	struct filled filled = { .used = 0 };
	unsigned int i;

	put(&filled, 4, 0);
	for (i = 0; i < 5; i++) {
		le64_store(filled.bytes + 2, i);
		fx_send(BALLOON_STATS, filled.bytes, filled.used);
	}
	fx_serve(BALLOON_STATS);
	assert_int_equal(fx_reap(BALLOON_STATS), 4);
	assert_int_equal(got()->value[4], 4);
	assert_true(balloon_request_statistics(&fx.balloon));
	assert_int_equal(fx_reap(BALLOON_STATS), 1);
}

/* Nor one that brings another while we have one. */
static void test_a_second_buffer_later(void **state)
{
	struct filled filled = { .used = 0 };

	put(&filled, 4, 40);
	send(&filled);
	assert_int_equal(fx_reap(BALLOON_STATS), 0);
	send(&filled);
	assert_int_equal(fx_reap(BALLOON_STATS), 1);
}

static void test_what_is_no_longer_sent_is_no_longer_known(void **state)
{
	struct filled filled = { .used = 0 };

	put(&filled, 4, 40);
	put(&filled, 5, 50);
	send(&filled);
	balloon_request_statistics(&fx.balloon);
	fx_reap(BALLOON_STATS);
	filled.used = 0;
	put(&filled, 5, 51);
	send(&filled);
	assert_int_equal(got()->present, 1u << 5);
}

static void test_buffers_that_are_no_statistics(void **state)
{
	const struct vring_segment outside = { LOW_END - 5, 10 };
	const struct vring_segment writable = { HIGH, 10 };
	const struct vring_segment huge = { HIGH, 5000 };

	fx_add(BALLOON_STATS, &outside, 1, 0);
	fx_add(BALLOON_STATS, &writable, 0, 1);
	fx_add(BALLOON_STATS, &huge, 1, 0);
	fx_serve(BALLOON_STATS);
	assert_int_equal(fx.balloon.counters.malformed, 3);
	assert_int_equal(got()->updates, 0);
	assert_int_equal(fx.statistics_changes, 0);
	assert_int_equal(fx_reap(BALLOON_STATS), 2);
	assert_int_equal(fx.breaks, 0);
}

/* A reset takes the buffer away (and with it what was known of the guest). */
static void test_reset_forgets_the_buffer(void **state)
{
	struct filled filled = { .used = 0 };

	put(&filled, 4, 40);
	send(&filled);
	fx.statistics_changes = 0;
	balloon_reset(&fx.balloon);
	assert_int_equal(got()->present, 0);
	assert_int_equal(fx.statistics_changes, 1);
	assert_false(balloon_request_statistics(&fx.balloon));
	fx_activate(STATS | HINT);
	assert_false(balloon_request_statistics(&fx.balloon));
	assert_int_equal(fx_reap(BALLOON_STATS), 0);
}

/* The buffer that one device holds is the next one's to take. */
static void test_held_buffer_travels(void **state)
{
	struct virtqueue_state queue[BALLOON_QUEUES] = { { 0, 0 } };
	struct filled filled = { .used = 0 };
	unsigned int i;

	for (i = 0; i < 3; i++) {
		filled.used = 0;
		put(&filled, 4, 40 + i);
		send(&filled);
		if (i < 2)
			assert_true(balloon_request_statistics(&fx.balloon));
		fx_reap(BALLOON_STATS);
	}
	for (i = 0; i < BALLOON_QUEUES; i++)
		if (balloon_queue_number(&fx.balloon, i) >= 0)
			queue[balloon_queue_number(&fx.balloon, i)] =
				balloon_queue_state(&fx.balloon, i);
	assert_int_equal(queue[2].next_avail, 2);
	assert_int_equal(queue[2].next_used, 2);
	balloon_init(&fx.balloon, fx.balloon.options, &fx.memory,
		     fx.balloon.run_pages, &fx_ops, &fx);
	balloon_activate(&fx.balloon, STATS | HINT, fx.layout, queue,
			 BALLOON_QUEUES);
	fx_serve(BALLOON_STATS);
	assert_int_equal(got()->value[4], 42);
	assert_int_equal(fx_reap(BALLOON_STATS), 0);
	assert_true(balloon_request_statistics(&fx.balloon));
	assert_int_equal(fx_reap(BALLOON_STATS), 1);
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_all_tags),
		UNIT(test_tags_are_those_of_the_text),
		UNIT(test_every_tag_has_a_name),
		UNIT(test_any_order_any_subset_and_unknown_tags),
		UNIT(test_values_a_guest_does_not_know),
		UNIT(test_sizes_of_the_erratum),
		UNIT(test_buffer_comes_back_when_asked),
		UNIT(test_more_than_one_buffer),
		UNIT(test_a_second_buffer_later),
		UNIT(test_what_is_no_longer_sent_is_no_longer_known),
		UNIT(test_buffers_that_are_no_statistics),
		UNIT(test_reset_forgets_the_buffer),
		UNIT(test_held_buffer_travels),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
