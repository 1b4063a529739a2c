// SPDX-License-Identifier: MIT
/* Pages of the balloon that wait for the rest of their block (V3, R24, R25):
 * what is held, what ends it, and that nothing else is ever discarded. */
#include "balloon_fixture.h"

#include <linux/virtio_config.h>

#define MUST_TELL (1ull << VIRTIO_BALLOON_F_MUST_TELL_HOST)
#define VERSION (1ull << VIRTIO_F_VERSION_1)
#define RANGES (1ull << BALLOON_F_PAGE_RANGES)
#define BLOCK 512u
#define F(address) ((uint32_t)((address) / PAGE))
#define A F(HIGH)	      /* two blocks that meet */
#define B (F(HIGH) + BLOCK)
#define C F(HIGH_MIDDLE)      /* half a block, at the end of memory */
#define ALL UINT64_MAX

static struct page_set inside, held;

static void hold(uint64_t most)
{
	struct balloon_hold how = { .block = BLOCK, .most = most };

	page_set_clear(&inside);
	page_set_clear(&held);
	balloon_hold(&fx.balloon, how, inside, held);
}

static void start(uint64_t features, uint64_t most)
{
	struct balloon_options options = fx_options();

	options.must_tell_host = true;
	options.reporting = true;
	options.page_ranges = true;
	fx_init(options);
	inside = page_set_new(fx.memory.frames);
	held = page_set_new(fx.memory.frames);
	hold(most);
	fx_activate(features);
}

static int setup(void **state)
{
	start(MUST_TELL | HINT, ALL);
	return 0;
}

static int teardown(void **state)
{
	page_set_delete(&inside);
	page_set_delete(&held);
	return fx_teardown(state);
}

/* One buffer: @count numbers from @first, @step apart. */
static void send_pages(enum balloon_queue queue, uint32_t first,
		       unsigned int count, unsigned int step)
{
	static uint8_t bytes[4 * 2 * BLOCK];
	unsigned int i;

	for (i = 0; i < count; i++)
		le32_store(bytes + 4 * i, first + i * step);
	fx.next_buffer = BUFFERS;
	fx_send(queue, bytes, 4 * count);
	assert_int_equal(fx_serve_and_reap(queue), 1);
}

static void inflate(uint32_t first, unsigned int count)
{
	send_pages(BALLOON_INFLATE, first, count, 1);
}

static void deflate(uint32_t first, unsigned int count)
{
	fx.returns = 0;
	send_pages(BALLOON_DEFLATE, first, count, 1);
}

static void assert_held(uint64_t pages)
{
	assert_int_equal(fx.balloon.hold.pages, pages);
	assert_int_equal(page_set_count(&fx.balloon.hold.held), pages);
}

/* What was told since the last time: one run. */
static void assert_one(uint64_t first, uint64_t count)
{
	assert_int_equal(fx.discards, 1);
	assert_run(fx.discarded[0], first, count);
	fx.discards = 0;
}

static void flush(void)
{
	fx.discards = 0;
	balloon_flush(&fx.balloon);
	assert_held(0);
}

/* As Linux does it: 1 MiB at a time. */
static void test_a_block_in_two_halves(void **state)
{
	inflate(A, 256);
	assert_int_equal(fx.discards, 0);
	assert_held(256);
	inflate(A + 256, 256);
	assert_one(A, BLOCK);
	assert_held(0);
}

static void test_a_block_in_any_order(void **state)
{
	send_pages(BALLOON_INFLATE, A + 1, 256, 2);
	send_pages(BALLOON_INFLATE, A + 2, 255, 2);
	assert_int_equal(fx.discards, 0);
	assert_held(BLOCK - 1);
	inflate(A, 1);
	assert_one(A, BLOCK);
	assert_held(0);
}

static void test_blocks_that_meet_are_one_run(void **state)
{
	inflate(A, 200);
	inflate(A + 200, 2 * BLOCK - 200);
	assert_one(A, 2 * BLOCK);
	inflate(A, 2 * BLOCK);
	assert_one(A, 2 * BLOCK);
	assert_held(0);
}

/* Whole ones at once, the parts at both ends wait. */
static void test_a_run_over_blocks(void **state)
{
	inflate(A + 500, 12 + 500);
	assert_int_equal(fx.discards, 0);
	inflate(B + 500, 12);
	assert_one(B, BLOCK);
	assert_held(12);
	flush();
	assert_one(A + 500, 12);
}

static void test_flush(void **state)
{
	inflate(A, 100);
	inflate(B + 7, 3);
	flush();
	assert_int_equal(fx.discards, 2);
	assert_run(fx.discarded[0], A, 100);
	assert_run(fx.discarded[1], B + 7, 3);
	flush();
	assert_int_equal(fx.discards, 0);
}

/* What was given up in parts is a whole all the same when the rest comes. */
static void test_the_rest_comes_late(void **state)
{
	inflate(A, 100);
	flush();
	fx.discards = 0;
	inflate(A + 100, BLOCK - 100);
	assert_one(A, BLOCK);
}

/* V3: fx_returned() checks that this happens before the buffer is returned. */
static void test_deflate_cancels(void **state)
{
	inflate(A, 256);
	deflate(A + 10, 20);
	assert_held(236);
	flush();
	assert_int_equal(fx.discards, 2);
	assert_run(fx.discarded[0], A, 10);
	assert_run(fx.discarded[1], A + 30, 226);
}

/* Nor is a block whole of which a page was taken back. */
static void test_deflate_breaks_a_block(void **state)
{
	inflate(A, BLOCK - 1);
	deflate(A + 10, 1);
	inflate(A + BLOCK - 1, 1);
	assert_int_equal(fx.discards, 0);
	flush();
	assert_int_equal(fx.discards, 2);
	assert_run(fx.discarded[0], A, 10);
	assert_run(fx.discarded[1], A + 11, BLOCK - 11);
	fx.discards = 0;
	/* Back again: the host may have filled all of the block meanwhile. */
	inflate(A + 10, 1);
	assert_one(A, BLOCK);
}

static void test_deflate_of_what_was_discarded(void **state)
{
	inflate(A, BLOCK);
	fx.discards = 0;
	deflate(A, BLOCK);
	inflate(A, 256);
	assert_int_equal(fx.discards, 0);
	assert_held(256);
}

static void test_deflate_of_what_was_never_inflated(void **state)
{
	deflate(B, 100);
	assert_held(0);
	inflate(A, 10);
	deflate(A + 5, 100);
	assert_held(5);
	deflate(A, 5);
	assert_held(0);
	flush();
	assert_int_equal(fx.discards, 0);
}

static void test_the_same_page_twice(void **state)
{
	unsigned int i;

	for (i = 0; i < 3; i++)
		inflate(A, 256);
	assert_held(256);
	assert_int_equal(fx.discards, 0);
	deflate(A, 256);
	assert_held(0);
	inflate(A + 256, 256);
	assert_int_equal(fx.discards, 0);
}

/* D13 forbids this to drivers; what is heard last counts. */
static void test_inflate_and_deflate_cross(void **state)
{
	const uint32_t frame = A;

	fx_send_frames(BALLOON_INFLATE, &frame, 1);
	fx_send_frames(BALLOON_DEFLATE, &frame, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_DEFLATE), 1);
	flush();
	assert_int_equal(fx.discards, 0);
}

static void test_no_more_than_was_said(void **state)
{
	teardown(NULL);
	start(MUST_TELL | HINT, 300);
	inflate(A, 200);
	inflate(B, 100);
	assert_held(300);
	/* fx_discard() checks that the buffer was not returned before. */
	inflate(C, 1);
	assert_held(0);
	assert_int_equal(fx.discards, 3);
	assert_run(fx.discarded[0], A, 200);
	assert_run(fx.discarded[1], B, 100);
	assert_run(fx.discarded[2], C, 1);
}

/* A block that memory ends in is never whole; regions are told apart. */
static void test_the_end_of_memory(void **state)
{
	inflate(C - 256, 256);
	inflate(C, 256);
	assert_int_equal(fx.discards, 0);
	flush();
	assert_int_equal(fx.discards, 2);
	assert_run(fx.discarded[0], C - 256, 256);
	assert_run(fx.discarded[1], C, 256);
}

static void test_what_is_no_ram(void **state)
{
	inflate(F(LOW_END) - 4, 8);
	assert_held(4);
	assert_int_equal(fx.balloon.counters.bad_frames, 4);
	flush();
	assert_one(F(LOW_END) - 4, 4);
}

/* D11: such a driver may use a page again before its deflate was seen. */
static void test_without_must_tell_host(void **state)
{
	balloon_reset(&fx.balloon);
	fx_activate(HINT);
	inflate(A, 256);
	assert_one(A, 256);
	inflate(A + 256, 256);
	assert_one(A + 256, 256);
	assert_true(page_set_is_empty(&fx.balloon.hold.inside));
	assert_held(0);
}

static void test_where_nothing_is_held(void **state)
{
	struct balloon_hold none = { 0 };

	balloon_reset(&fx.balloon);
	balloon_hold(&fx.balloon, none, inside, held);
	fx_activate(MUST_TELL | HINT);
	inflate(A, 256);
	assert_one(A, 256);
	deflate(A, 256);
	assert_held(0);
}

/* D39: a reported page is used again as soon as it was returned. */
static void test_reports_are_not_held(void **state)
{
	const struct vring_segment segment = { HIGH, 256 * PAGE };

	balloon_reset(&fx.balloon);
	fx_activate(MUST_TELL | REPORTING);
	fx_add(BALLOON_REPORTING, &segment, 0, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_REPORTING), 1);
	assert_one(A, 256);
	/* Nor do they make a block whole. */
	inflate(A + 256, 256);
	assert_int_equal(fx.discards, 0);
	assert_held(256);
}

static void test_reset_cancels(void **state)
{
	inflate(A, 256);
	balloon_reset(&fx.balloon);
	flush();
	assert_int_equal(fx.discards, 0);
	/* Whatever was in that guest's balloon is in use by the next. */
	fx_activate(MUST_TELL | HINT);
	inflate(A + 256, 256);
	assert_int_equal(fx.discards, 0);
	assert_held(256);
}

static void test_a_broken_device_cancels(void **state)
{
	const uint32_t frame = B;

	inflate(A, 256);
	fx_send_frames(BALLOON_DEFLATE, &frame, 1);
	le16_store(&fx.ring[BALLOON_DEFLATE].avail->ring[0], 999);
	fx_serve(BALLOON_DEFLATE);
	assert_int_equal(fx.breaks, 1);
	flush();
	assert_int_equal(fx.discards, 0);
}

static void test_forget(void **state)
{
	inflate(A, 256);
	balloon_forget(&fx.balloon);
	flush();
	assert_int_equal(fx.discards, 0);
	inflate(A + 256, 256);
	assert_held(256);
}

/* What it holds is no state of the guest's: another machine begins anew. */
static void test_over_a_migration(void **state)
{
	inflate(A, 256);
	flush();
	fx_migrate();
	hold(ALL);
	fx.discards = 0;
	inflate(A + 256, 256);
	assert_int_equal(fx.discards, 0);
	assert_held(256);
	deflate(A, BLOCK);
	assert_held(0);
}

static void test_ranges(void **state)
{
	const struct vring_segment whole = { HIGH + MiB, 3 * MiB };
	const struct vring_segment back = { HIGH + MiB, MiB };

	balloon_reset(&fx.balloon);
	fx_activate(MUST_TELL | RANGES | VERSION | HINT);
	fx_add(BALLOON_INFLATE, &whole, 0, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_INFLATE), 1);
	assert_one(B, BLOCK);
	assert_held(256);
	fx_add(BALLOON_DEFLATE, &back, 0, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_DEFLATE), 1);
	assert_held(0);
	flush();
	assert_int_equal(fx.discards, 0);
}

/* The queues are the same ones, whatever protocol asks for them. */
static void test_every_protocol(void **state)
{
	static const struct balloon_protocol *const protocols[] = {
		&balloon_protocol_standard, &balloon_protocol_command_register,
		&balloon_protocol_v17,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(protocols); i++) {
		balloon_reset(&fx.balloon);
		fx.balloon.options.protocol = protocols[i];
		balloon_reset(&fx.balloon);
		fx_activate(protocols[i]->feature | VERSION | HINT | MUST_TELL);
		inflate(A, 256);
		assert_held(256);
		deflate(A, 1);
		inflate(A + 256, 256);
		assert_held(BLOCK - 1);
		assert_int_equal(fx.discards, 0);
		balloon_reset(&fx.balloon);
		fx_activate(protocols[i]->feature | VERSION | HINT);
		inflate(A, 256);
		assert_one(A, 256);
	}
}

/* A guest at random, of which a byte per frame knows what is in its balloon and
 * what of that the host still has. */
static struct {
	bool inside[HIGH_END / PAGE], there[HIGH_END / PAGE];
} model;

static void model_discards(void)
{
	uint64_t page;
	unsigned int i;

	for (i = 0; i < fx.discards; i++) {
		for (page = fx.discarded[i].first;
		     page < fx.discarded[i].first + fx.discarded[i].count;
		     page++) {
			assert_true(model.inside[page]);
			model.there[page] = false;
		}
	}
	fx.discards = 0;
}

/* Nothing that is whole waits, and what waits is what is still there. */
static void model_check(bool flushed)
{
	uint64_t first, page, whole, waiting = 0;

	for (first = F(HIGH); first < F(HIGH_END); first += BLOCK) {
		whole = 0;
		for (page = first; page < first + BLOCK &&
		     page < F(HIGH_END); page++) {
			whole += model.inside[page];
			waiting += model.inside[page] && model.there[page];
			assert_int_equal(page_set_contains(
						 &fx.balloon.hold.held, page),
					 model.inside[page] &&
						 model.there[page]);
		}
		for (page = first; whole == BLOCK && page < first + BLOCK;
		     page++)
			assert_false(model.there[page]);
	}
	assert_held(waiting);
	if (flushed)
		assert_int_equal(waiting, 0);
}

static void model_step(struct rng *rng)
{
	uint32_t first = F(HIGH) + (uint32_t)rng_below(rng, F(HIGH_END) -
								F(HIGH));
	unsigned int count = 1 + (unsigned int)rng_below(rng, BLOCK), i;
	bool in = rng_chance(rng, 3, 5);

	if (first + count > F(HIGH_END))
		count = F(HIGH_END) - first;
	if (in)
		inflate(first, count);
	for (i = 0; i < count; i++) {
		if (in)
			model.there[first + i] = true;
		model.inside[first + i] = in;
	}
	if (!in)
		deflate(first, count);
	model_discards();
	model_check(false);
}

static void test_against_a_model(void **state)
{
	struct rng rng = rng_start("held pages");
	unsigned int i;

	memset(&model, 0, sizeof(model));
	for (i = 0; i < 4000; i++) {
		model_step(&rng);
		if (rng_chance(&rng, 1, 20)) {
			balloon_flush(&fx.balloon);
			model_discards();
			model_check(true);
		}
		if (rng_chance(&rng, 1, 200)) {
			balloon_reset(&fx.balloon);
			memset(&model, 0, sizeof(model));
			fx_activate(MUST_TELL | HINT);
		}
	}
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_a_block_in_two_halves),
		UNIT(test_a_block_in_any_order),
		UNIT(test_blocks_that_meet_are_one_run),
		UNIT(test_a_run_over_blocks),
		UNIT(test_flush),
		UNIT(test_the_rest_comes_late),
		UNIT(test_deflate_cancels),
		UNIT(test_deflate_breaks_a_block),
		UNIT(test_deflate_of_what_was_discarded),
		UNIT(test_deflate_of_what_was_never_inflated),
		UNIT(test_the_same_page_twice),
		UNIT(test_inflate_and_deflate_cross),
		UNIT(test_no_more_than_was_said),
		UNIT(test_the_end_of_memory),
		UNIT(test_what_is_no_ram),
		UNIT(test_without_must_tell_host),
		UNIT(test_where_nothing_is_held),
		UNIT(test_reports_are_not_held),
		UNIT(test_reset_cancels),
		UNIT(test_a_broken_device_cancels),
		UNIT(test_forget),
		UNIT(test_over_a_migration),
		UNIT(test_ranges),
		UNIT(test_every_protocol),
		UNIT(test_against_a_model),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
