// SPDX-License-Identifier: MIT
/*
 * The driver half of the free page report: by itself, and together with the
 * device half over a real ring under random interleavings of host and guest.
 */
#include "balloon_fixture.h"

#include "balloon/balloon_driver.h"

#define STOP VIRTIO_BALLOON_CMD_ID_STOP
#define DONE VIRTIO_BALLOON_CMD_ID_DONE
#define ID 0x80000000u

/*
 * By itself: what is done to it, and what it must answer
 */

enum action {
	END,
	CONFIG,	   /* value: what the configuration space says */
	EXPECT,	   /* value: a step */
	EXPECT_ID, /* value: the id to send */
	EXHAUSTED,
	RELEASED,
};

struct line {
	enum action action;
	uint32_t value;
};

static void play(const struct line *line)
{
	struct report_driver driver;
	uint32_t id = 0;
	int n;

	report_driver_init(&driver);
	for (n = 0; line[n].action != END; n++) {
		switch (line[n].action) {
		case CONFIG:
			report_driver_config(&driver, line[n].value);
			break;
		case EXPECT:
			if (report_driver_next(&driver, &id) != line[n].value)
				fail_msg("line %d", n);
			break;
		case EXPECT_ID:
			if (report_driver_next(&driver, &id) !=
				    REPORT_STEP_SEND_ID ||
			    id != line[n].value)
				fail_msg("line %d", n);
			break;
		case EXHAUSTED:
			report_driver_exhausted(&driver);
			break;
		case RELEASED:
			report_driver_released(&driver);
			break;
		case END:
			break;
		}
	}
}

#define NOTHING { EXPECT, REPORT_STEP_NOTHING }
#define BLOCK_STEP { EXPECT, REPORT_STEP_SEND_BLOCK }
#define SIGN { EXPECT, REPORT_STEP_SEND_SIGN }
#define RELEASE { EXPECT, REPORT_STEP_RELEASE }

static void test_reserved_words_start_nothing(void **state)
{
	play((struct line[]){ NOTHING, { CONFIG, STOP }, NOTHING,
			      { CONFIG, DONE }, NOTHING, { END, 0 } });
}

static void test_a_whole_report(void **state)
{
	play((struct line[]){ { CONFIG, ID }, { EXPECT_ID, ID }, BLOCK_STEP,
			      BLOCK_STEP, { EXHAUSTED, 0 }, SIGN, NOTHING,
			      { CONFIG, STOP }, NOTHING, { CONFIG, DONE },
			      RELEASE, { RELEASED, 0 }, NOTHING, { END, 0 } });
}

static void test_stopped_by_the_host(void **state)
{
	play((struct line[]){ { CONFIG, ID }, { EXPECT_ID, ID }, BLOCK_STEP,
			      { CONFIG, STOP }, SIGN, NOTHING, NOTHING,
			      { END, 0 } });
}

static void test_stopped_before_the_first_block(void **state)
{
	play((struct line[]){ { CONFIG, ID }, { EXPECT_ID, ID },
			      { CONFIG, STOP }, SIGN, NOTHING,
			      { CONFIG, DONE }, NOTHING, { END, 0 } });
}

static void test_stopped_before_it_was_seen(void **state)
{
	play((struct line[]){ { CONFIG, ID }, { CONFIG, STOP }, NOTHING,
			      { END, 0 } });
}

static void test_stop_and_end_cross_with_one_sign(void **state)
{
	play((struct line[]){ { CONFIG, ID }, { EXPECT_ID, ID }, BLOCK_STEP,
			      { EXHAUSTED, 0 }, { CONFIG, STOP }, SIGN,
			      NOTHING, { END, 0 } });
}

static void test_done_sends_the_sign_first(void **state)
{
	play((struct line[]){ { CONFIG, ID }, { EXPECT_ID, ID }, BLOCK_STEP,
			      { CONFIG, DONE }, SIGN, RELEASE, RELEASE,
			      { RELEASED, 0 }, NOTHING, { END, 0 } });
}

static void test_a_new_id_in_the_middle(void **state)
{
	play((struct line[]){ { CONFIG, ID }, { EXPECT_ID, ID }, BLOCK_STEP,
			      { CONFIG, ID + 1 }, SIGN, { EXPECT_ID, ID + 1 },
			      BLOCK_STEP, { EXHAUSTED, 0 }, SIGN, NOTHING,
			      { END, 0 } });
}

static void test_a_new_id_after_the_sign(void **state)
{
	play((struct line[]){ { CONFIG, ID }, { EXPECT_ID, ID },
			      { EXHAUSTED, 0 }, SIGN, { CONFIG, ID + 1 },
			      { EXPECT_ID, ID + 1 }, BLOCK_STEP, { END, 0 } });
}

static void test_ids_that_were_missed(void **state)
{
	play((struct line[]){ { CONFIG, ID }, { CONFIG, ID + 1 },
			      { CONFIG, ID + 2 }, { EXPECT_ID, ID + 2 },
			      { END, 0 } });
}

static void test_the_same_id_again_is_no_request(void **state)
{
	play((struct line[]){ { CONFIG, ID }, { EXPECT_ID, ID },
			      { EXHAUSTED, 0 }, SIGN, { CONFIG, STOP },
			      { CONFIG, ID }, NOTHING, { END, 0 } });
}

static void test_the_same_id_read_again_goes_on(void **state)
{
	play((struct line[]){ { CONFIG, ID }, { EXPECT_ID, ID }, BLOCK_STEP,
			      { CONFIG, ID }, BLOCK_STEP, { END, 0 } });
}

static void test_blocks_are_kept_over_reports(void **state)
{
	play((struct line[]){ { CONFIG, ID }, { EXPECT_ID, ID }, BLOCK_STEP,
			      { CONFIG, STOP }, SIGN, { CONFIG, ID + 1 },
			      { EXPECT_ID, ID + 1 }, { EXHAUSTED, 0 }, SIGN,
			      { CONFIG, DONE }, RELEASE, { RELEASED, 0 },
			      NOTHING, { END, 0 } });
}

static void test_a_new_report_before_the_release(void **state)
{
	/* DONE was overwritten before it was acted on. */
	play((struct line[]){ { CONFIG, ID }, { EXPECT_ID, ID }, BLOCK_STEP,
			      { CONFIG, DONE }, { CONFIG, ID + 1 }, SIGN,
			      { EXPECT_ID, ID + 1 }, { CONFIG, DONE }, SIGN,
			      RELEASE, { RELEASED, 0 }, NOTHING, { END, 0 } });
}

static void test_the_smallest_id_is_two(void **state)
{
	play((struct line[]){ { CONFIG, 2 }, { EXPECT_ID, 2 }, BLOCK_STEP,
			      { END, 0 } });
}

/*
 * Together with the device: a small guest whose blocks are free, held by the
 * report, or live; a host that starts, closes and finishes reports; and a
 * device that is served when it was kicked.
 */

#define BLOCKS 48
#define BLOCK_PAGES 4u
#define BLOCK_BYTES (BLOCK_PAGES * PAGE)

enum block_state { FREE, HELD, LIVE };

struct block {
	enum block_state state;
	uint32_t handed; /* under which id, last */
	bool written;	 /* since the last start: in the dirty log */
};

struct world {
	struct rng rng;
	struct report_driver driver;
	struct block block[BLOCKS];
	struct vring_desc *table;	/* one indirect table, if it is free */
	bool table_busy;
	uint32_t seen_config;
	bool kicked, config_pending;
	uint64_t ids_sent, signs_sent;
	uint64_t reports, hints, completed; /* for the curious */
};

static struct world world;

/* Half of the blocks below the hole, half above. */
static uint64_t block_address(unsigned int i)
{
	return i < BLOCKS / 2 ? 2 * MiB + i * BLOCK_BYTES
			      : HIGH + (i - BLOCKS / 2) * BLOCK_BYTES;
}

static int block_of(uint64_t page)
{
	int i;

	for (i = 0; i < BLOCKS; i++)
		if (page * PAGE >= block_address(i) &&
		    page * PAGE < block_address(i) + BLOCK_BYTES)
			return i;
	return -1;
}

static struct vring_driver *ring(void)
{
	return &fx.ring[BALLOON_FREE_PAGE];
}

/* What holds for every page of the set at every moment of a report. */
static void check_hinted(void)
{
	struct page_run run = { 0, 0 };
	const struct block *block;
	int i;

	while (page_set_next_run(&fx.hinted, run.first + run.count, 1, &run)) {
		i = block_of(run.first);
		assert_true(i >= 0);
		block = &world.block[i];
		assert_int_equal(block->handed, fx.balloon.report.id);
		/* Left out without a trace only what nobody needs: what lives
		 * again was written since, and so is in the dirty log (R1). */
		assert_true(block->state != LIVE || block->written);
	}
}

static void kick_if_wanted(void)
{
	if (vring_driver_needs_kick(ring()))
		world.kicked = true;
}

static void reap(void)
{
	uint64_t token;
	uint32_t written;

	while (vring_driver_take_used(ring(), &token, &written)) {
		assert_int_equal(written, 0);
		if (token)
			world.table_busy = false;
	}
}

static void send_word(uint32_t word)
{
	/* Id and sign have buffers of their own (R6). */
	uint64_t at = BUFFERS + (word == STOP ? 0 : 4 + 4 * (word % 64));
	struct vring_segment segment = { at, 4 };

	le32_store(ram(&fx.memory, at, 4), word);
	assert_int_equal(vring_driver_add(ring(), &segment, 1, 0, 0), 0);
	kick_if_wanted();
}

static int any_block(enum block_state state)
{
	unsigned int from = (unsigned int)rng_below(&world.rng, BLOCKS);
	unsigned int i;

	for (i = 0; i < BLOCKS; i++)
		if (world.block[(from + i) % BLOCKS].state == state)
			return (int)((from + i) % BLOCKS);
	return -1;
}

/* In one piece, in two, or through a table. Return: 0, or -1: no room */
static int queue_block(uint64_t at)
{
	struct vring_segment whole = { at, BLOCK_BYTES };
	struct vring_segment half[2] = { { at, BLOCK_BYTES / 2 },
					 { at + BLOCK_BYTES / 2,
					   BLOCK_BYTES / 2 } };

	switch (rng_below(&world.rng, 3)) {
	case 0:
		if (ring()->free > 3)
			return vring_driver_add(ring(), half, 0, 2, 0);
		break;
	case 1:
		if (world.table_busy)
			break;
		world.table_busy = true;
		return vring_driver_add_indirect(ring(), half, 0, 2, 1,
						 world.table,
						 BUFFERS + 0x10000);
	}
	return vring_driver_add(ring(), &whole, 0, 1, 0);
}

static void send_block(void)
{
	int i = any_block(FREE);

	if (i < 0) {
		report_driver_exhausted(&world.driver);
		return;
	}
	/* One slot is kept for the sign; a full ring drops the hint (R23). */
	if (ring()->free <= 1) {
		kick_if_wanted();
		return;
	}
	world.block[i].state = HELD;
	world.block[i].handed = world.driver.active_id;
	assert_int_equal(queue_block(block_address((unsigned int)i)), 0);
	if (rng_chance(&world.rng, 3, 4))
		kick_if_wanted();
}

static void release(void)
{
	int i;

	for (i = 0; i < BLOCKS; i++)
		if (world.block[i].state == HELD)
			world.block[i].state = FREE;
	report_driver_released(&world.driver);
}

/* Return: false when the guest's worker would go to sleep */
static bool guest_step(void)
{
	uint32_t id = 0;

	reap();
	/* Waits for a slot before it decides on what needs one. */
	if (!ring()->free) {
		kick_if_wanted();
		return false;
	}
	switch (report_driver_next(&world.driver, &id)) {
	case REPORT_STEP_NOTHING:
		kick_if_wanted();
		return false;
	case REPORT_STEP_SEND_ID:
		assert_int_equal(world.ids_sent, world.signs_sent);
		world.ids_sent++;
		send_word(id);
		return true;
	case REPORT_STEP_SEND_BLOCK:
		send_block();
		return true;
	case REPORT_STEP_SEND_SIGN:
		world.signs_sent++;
		assert_int_equal(world.ids_sent, world.signs_sent);
		send_word(STOP);
		return true;
	case REPORT_STEP_RELEASE:
		release();
		return true;
	}
	return false;
}

static void guest_reads_config(void)
{
	report_driver_config(&world.driver, fx_cmd_id());
}

/* Memory pressure: a block that is held or free is taken and written. */
static void guest_takes(void)
{
	int i = any_block(rng_chance(&world.rng, 1, 2) ? HELD : FREE);

	if (i < 0)
		return;
	world.block[i].state = LIVE;
	world.block[i].written = true;
}

static void guest_frees(void)
{
	int i = any_block(LIVE);

	if (i >= 0)
		world.block[i].state = FREE;
}

static void device_step(void)
{
	if (!world.kicked)
		return;
	world.kicked = balloon_serve(&fx.balloon, BALLOON_FREE_PAGE);
	if (fx.balloon.report.hinted)
		check_hinted();
}

static void host_starts(void)
{
	int i;

	if (fx.balloon.report.hinted)
		return;
	page_set_clear(&fx.hinted);
	/* The log is armed before the id is published (R1). */
	for (i = 0; i < BLOCKS; i++)
		world.block[i].written = false;
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), 0);
	world.reports++;
}

static void host_closes(void)
{
	uint64_t before;

	if (!fx.balloon.report.hinted)
		return;
	check_hinted();
	before = page_set_count(&fx.hinted);
	world.hints += before;
	world.completed += fx.balloon.report.state == REPORT_COMPLETE;
	assert_int_equal(before, fx.balloon.report.counters.hinted_pages);
	balloon_report_close(&fx.balloon);
}

static void host_finishes(void)
{
	host_closes();
	balloon_report_done(&fx.balloon);
}

static void random_step(void)
{
	uint64_t die = rng_below(&world.rng, 100);

	if (die < 45)
		guest_step();
	else if (die < 65)
		device_step();
	else if (die < 75)
		guest_reads_config();
	else if (die < 82)
		guest_takes();
	else if (die < 90)
		guest_frees();
	else if (die < 95)
		host_starts();
	else if (die < 98)
		host_closes();
	else if (die < 99)
		host_finishes();
	else
		balloon_set_target(&fx.balloon,
				   (uint32_t)rng_below(&world.rng, 9));
}

/* Guest and device go on until neither has anything to do. */
static void settle(void)
{
	bool busy = true;

	guest_reads_config();
	while (busy) {
		busy = guest_step();
		if (world.kicked) {
			device_step();
			busy = true;
		}
	}
}

static void check_end(void)
{
	uint64_t live = 0;
	int i;

	/* Nobody in between: a report completes with all that was free. */
	host_finishes();
	settle();
	for (i = 0; i < BLOCKS; i++) {
		assert_int_not_equal(world.block[i].state, HELD);
		live += world.block[i].state == LIVE;
	}
	assert_int_equal(world.ids_sent, world.signs_sent);
	reap();
	assert_int_equal(ring()->free, ring()->size);

	host_starts();
	settle();
	assert_int_equal(fx.balloon.report.state, REPORT_COMPLETE);
	check_hinted();
	assert_int_equal(fx.balloon.report.counters.uncounted, 0);
	assert_int_equal(page_set_count(&fx.hinted),
			 (BLOCKS - live) * BLOCK_PAGES);
	host_finishes();
	settle();
	for (i = 0; i < BLOCKS; i++)
		assert_int_not_equal(world.block[i].state, HELD);
	assert_int_equal(fx.breaks, 0);
	assert_int_equal(fx.balloon.report.counters.malformed, 0);
}

static void start_world(struct rng *rng, uint64_t features)
{
	balloon_reset(&fx.balloon);
	fx_activate(HINT | features);
	page_set_clear(&fx.hinted);
	world = (struct world){ .rng = { rng_next(rng) } };
	world.table = ram(&fx.memory, BUFFERS + 0x10000, 64);
	report_driver_init(&world.driver);
}

static void test_device_and_driver_together(void **state)
{
	struct rng rng = rng_start("report device and driver");
	uint64_t reports = 0, hints = 0, completed = 0;
	int run, step;

	for (run = 0; run < 2000; run++) {
		start_world(&rng, run % 2 ? EVENT_IDX : 0);
		for (step = 0; step < 1500; step++)
			random_step();
		check_end();
		reports += world.reports;
		hints += world.hints;
		completed += world.completed;
	}
	printf("# %llu reports, %llu pages hinted, %llu complete\n",
	       (unsigned long long)reports, (unsigned long long)hints,
	       (unsigned long long)completed);
	assert_true(hints && completed);
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reserved_words_start_nothing),
		cmocka_unit_test(test_a_whole_report),
		cmocka_unit_test(test_stopped_by_the_host),
		cmocka_unit_test(test_stopped_before_the_first_block),
		cmocka_unit_test(test_stopped_before_it_was_seen),
		cmocka_unit_test(test_stop_and_end_cross_with_one_sign),
		cmocka_unit_test(test_done_sends_the_sign_first),
		cmocka_unit_test(test_a_new_id_in_the_middle),
		cmocka_unit_test(test_a_new_id_after_the_sign),
		cmocka_unit_test(test_ids_that_were_missed),
		cmocka_unit_test(test_the_same_id_again_is_no_request),
		cmocka_unit_test(test_the_same_id_read_again_goes_on),
		cmocka_unit_test(test_blocks_are_kept_over_reports),
		cmocka_unit_test(test_a_new_report_before_the_release),
		cmocka_unit_test(test_the_smallest_id_is_two),
		UNIT(test_device_and_driver_together),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
