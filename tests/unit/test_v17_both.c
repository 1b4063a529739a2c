// SPDX-License-Identifier: MIT
/*
 * The v17 protocol, both halves over a real ring, under random interleavings: a
 * guest whose blocks are free, handed over, or live; its handler, access by
 * access; its worker, whose STOP comes some time after it was decided; a device
 * that is served when it was kicked, and hears of writes some time after they
 * were made; a host that starts, pauses, closes and finishes reports, resizes,
 * resets, and moves. Every other driver keeps all its ids in one word.
 */
#include "v17_fixture.h"

#include "balloon/v17_driver.h"

#define NUM_PAGES offsetof(struct virtio_balloon_config, num_pages)

#define BLOCKS 40
#define BLOCK_PAGES 4u
#define BLOCK_BYTES (BLOCK_PAGES * PAGE)

enum block_state { FREE, HELD, LIVE };

struct block {
	enum block_state state;
	uint32_t handed; /* under which id, last */
	bool written;	 /* since the last start: in the dirty log */
};

static struct world {
	struct rng rng;
	struct v17_driver driver;
	struct block block[BLOCKS];
	bool handling, interrupted; /* the handler */
	uint32_t value;		    /* between two of its accesses */
	bool kicked, posted;	    /* the device */
	bool says_stop;		    /* the worker, and has not written it */
	bool stopped;		    /* STOP was written for what was open */
	bool one_word;
	unsigned int words;
	uint32_t last_id;
	uint64_t closed_pages;	    /* in the set, as it was closed */
	uint64_t hints, completed, moves, early; /* for the curious */
} world;

static uint64_t block_address(unsigned int i)
{
	return HIGH + i * BLOCK_BYTES;
}

static struct vring_driver *ring(void)
{
	return &fx.ring[BALLOON_FREE_PAGE];
}

/* What lives was written since the log was armed, however it came to be in the
 * set (R1); and only a driver of one word has the host count what it handed
 * over under another id. */
static void check_hinted(void)
{
	struct page_run run = { 0, 0 };
	const struct block *block;
	uint64_t i;

	while (page_set_next_run(&fx.hinted, run.first + run.count, 1, &run)) {
		i = (run.first - HIGH / PAGE) / BLOCK_PAGES;
		assert_true(i < BLOCKS);
		block = &world.block[i];
		assert_true(block->state != LIVE || block->written);
		if (!world.one_word)
			assert_int_equal(block->handed, id());
	}
}

/* After every step of anybody. */
static void check(void)
{
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
	if (published_id())
		assert_int_equal(published_id(), id());
	if (fx.balloon.report.hinted)
		check_hinted();
	else /* Nobody adds to it behind the host's back (W-5). */
		assert_int_equal(page_set_count(&fx.hinted),
				 world.closed_pages);
	assert_int_equal(fx.breaks, 0);
}

static void world_interrupt(void *host)
{
	fx_config_changed(host);
	world.interrupted = true;
}

static void kick_if_wanted(void)
{
	if (vring_driver_needs_kick(ring()))
		world.kicked = true;
}

/* ------------------------------------------------------------- worker --- */

static int any_block(enum block_state state)
{
	unsigned int from = (unsigned int)rng_below(&world.rng, BLOCKS);
	unsigned int i;

	for (i = 0; i < BLOCKS; i++)
		if (world.block[(from + i) % BLOCKS].state == state)
			return (int)((from + i) % BLOCKS);
	return -1;
}

static unsigned int blocks_in(enum block_state state)
{
	unsigned int i, n = 0;

	for (i = 0; i < BLOCKS; i++)
		n += world.block[i].state == state;
	return n;
}

static void send_id(uint32_t id)
{
	struct vring_segment segment = { BUFFERS, 4 };

	if (!world.one_word)
		segment.address += 4 * (world.words++ % RING_SIZE);
	le32_store(ram(&fx.memory, segment.address, 4), id);
	assert_int_equal(vring_driver_add(ring(), &segment, 1, 0, 0), 0);
	world.stopped = false;
	kick_if_wanted();
}

static void send_block(void)
{
	struct vring_segment segment = { 0, BLOCK_BYTES };
	int i = any_block(FREE);

	assert_false(world.stopped);
	if (i < 0) {
		v17_driver_exhausted(&world.driver);
		return;
	}
	world.block[i].state = HELD;
	world.block[i].handed = world.driver.active_id;
	segment.address = block_address((unsigned int)i);
	assert_int_equal(vring_driver_add(ring(), &segment, 0, 1, 0), 0);
	if (rng_chance(&world.rng, 3, 4))
		kick_if_wanted();
}

static void release(void)
{
	unsigned int i;

	for (i = 0; i < BLOCKS; i++)
		if (world.block[i].state == HELD)
			world.block[i].state = FREE;
	v17_driver_released(&world.driver);
}

static void write_to_host(uint32_t bits)
{
	fx_write_register(BALLOON_V17_GUEST2HOST_CMD, bits);
	world.posted = true;
	if (bits & STOP)
		world.stopped = true;
}

/* Return: false when the worker would go to sleep */
static bool worker_step(void)
{
	uint32_t id;

	if (world.says_stop) {
		world.says_stop = false;
		write_to_host(STOP);
		return true;
	}
	fx_reap(BALLOON_FREE_PAGE);
	switch (v17_driver_next(&world.driver, ring()->free, &id)) {
	case REPORT_STEP_NOTHING:
		kick_if_wanted();
		return false;
	case REPORT_STEP_SEND_ID:
		send_id(id);
		return true;
	case REPORT_STEP_SEND_BLOCK:
		send_block();
		return true;
	case REPORT_STEP_SEND_SIGN:
		kick_if_wanted();
		world.says_stop = true;
		return true;
	case REPORT_STEP_RELEASE:
		release();
		return true;
	}
	return false;
}

/* ------------------------------------------------- handler and device --- */

/* One access, as others may come between any two. Return: false when there is
 * nothing to handle */
static bool handler_step(void)
{
	uint32_t offset;

	if (!world.handling && !world.interrupted)
		return false;
	if (!world.handling)
		world.interrupted = false;
	world.handling = true;
	switch (v17_driver_handle(&world.driver, &offset, &world.value)) {
	case COMMAND_ACCESS_READ:
		world.value = fx_register(offset);
		break;
	case COMMAND_ACCESS_WRITE:
		assert_int_equal(offset, BALLOON_V17_GUEST2HOST_CMD);
		write_to_host(world.value);
		break;
	case COMMAND_ACCESS_END:
		world.handling = false;
		break;
	}
	return true;
}

/* Return: false when there is nothing to do */
static bool device_step(void)
{
	enum report_state before = now();

	if (world.posted && (!world.kicked || rng_chance(&world.rng, 1, 2))) {
		world.posted = false;
		balloon_acknowledged(&fx.balloon);
		/* Before the driver has begun, so not its own. */
		world.early += before == REPORT_REQUESTED &&
			       now() == REPORT_COMPLETE;
		return true;
	}
	if (!world.kicked)
		return false;
	world.kicked = balloon_serve(&fx.balloon, BALLOON_FREE_PAGE);
	return true;
}

/* ----------------------------------------------------- guest and host --- */

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

static void host_starts(void)
{
	unsigned int i;

	if (fx.balloon.report.hinted)
		return;
	/* The log is armed before the id is published (R1). */
	for (i = 0; i < BLOCKS; i++)
		world.block[i].written = false;
	ask();
	assert_int_equal(bits() & (START | STOP), START);
	assert_true(published_id() > world.last_id);
	world.last_id = published_id();
}

static void note_close(void)
{
	world.closed_pages = page_set_count(&fx.hinted);
	if (!fx.balloon.report.hinted)
		return;
	world.hints += world.closed_pages;
	world.completed += now() == REPORT_COMPLETE;
}

static void host_closes(void)
{
	note_close();
	balloon_report_close(&fx.balloon);
}

static void host_finishes(void)
{
	note_close();
	balloon_report_done(&fx.balloon);
}

/* To another machine, in any state; interrupts under way are lost (W-9), and
 * so is what the device thread has not heard. */
static void host_moves(void)
{
	note_close();
	world.posted = world.interrupted = false;
	world.kicked = true;
	fx_migrate();
	balloon_report_done(&fx.balloon);
	world.moves++;
}

/* A fresh driver on a fresh device. */
static void guest_boots(uint64_t features)
{
	fx_activate(features);
	v17_driver_init(&world.driver);
	world.handling = world.kicked = world.posted = false;
	world.says_stop = world.stopped = false;
	world.interrupted = true; /* it runs once by itself */
}

/* The machine boots anew and writes what the old driver held (R15). */
static void guest_resets(void)
{
	uint64_t features = fx.balloon.features;
	unsigned int i;

	for (i = 0; i < BLOCKS; i++) {
		if (world.block[i].state != HELD)
			continue;
		world.block[i].state = LIVE;
		world.block[i].written = true;
	}
	balloon_reset(&fx.balloon);
	world.closed_pages = page_set_count(&fx.hinted);
	guest_boots(features);
}

static void host_step(void)
{
	uint64_t die = rng_below(&world.rng, 100);

	if (die < 35)
		host_starts();
	else if (die < 50)
		host_closes();
	else if (die < 60)
		host_finishes();
	else if (die < 70)
		balloon_pause(&fx.balloon);
	else if (die < 95)
		balloon_set_target(&fx.balloon,
				   (uint32_t)rng_below(&world.rng, 1000));
	else if (die < 98)
		host_moves();
	else
		guest_resets();
}

static void random_step(void)
{
	uint64_t die = rng_below(&world.rng, 100);

	if (die < 35)
		worker_step();
	else if (die < 60)
		handler_step();
	else if (die < 80)
		device_step();
	else if (die < 86)
		guest_takes();
	else if (die < 94)
		guest_frees();
	else
		host_step();
	check();
}

/* Guest and device go on until nobody has anything to do. */
static void settle(void)
{
	bool busy = true;

	while (busy) {
		busy = handler_step();
		check();
		busy |= worker_step();
		check();
		busy |= device_step();
		check();
	}
	assert_int_equal(bits(), 0);
	assert_int_equal(world.driver.target, fx_register(NUM_PAGES));
	assert_int_equal(blocks_in(HELD), 0);
	assert_true(now() != REPORT_REQUESTED && now() != REPORT_ACCEPTING);
	fx_reap(BALLOON_FREE_PAGE);
	assert_int_equal(ring()->free, ring()->size);
}

/* Nobody in between: a report completes, but for what STOP overtook. */
static void check_end(void)
{
	host_finishes();
	settle();
	host_starts();
	settle();
	assert_int_equal(now(), REPORT_COMPLETE);
	assert_int_equal(page_set_count(&fx.hinted) / BLOCK_PAGES +
				 counters()->uncounted,
			 BLOCKS - blocks_in(LIVE));
	host_finishes();
	settle();
	assert_int_equal(counters()->malformed, 0);
}

static struct balloon_host_ops world_ops;

static int setup_world(void **state)
{
	init(&balloon_protocol_v17);
	world_ops = fx_ops;
	world_ops.config_changed = world_interrupt;
	fx.balloon.ops = &world_ops;
	return 0;
}

static void start_world(struct rng *rng, int run)
{
	world = (struct world){ .rng = { rng_next(rng) } };
	world.one_word = run % 4 < 2;
	world.last_id = id();
	balloon_reset(&fx.balloon);
	page_set_clear(&fx.hinted);
	guest_boots(FEATURES | (run % 2 ? EVENT_IDX : 0));
}

static void test_v17_device_and_driver_together(void **state)
{
	struct rng rng = rng_start("v17, device and driver");
	uint64_t hints = 0, completed = 0, moves = 0, early = 0;
	int run, step;

	for (run = 0; run < 2000; run++) {
		start_world(&rng, run);
		for (step = 0; step < 1500; step++) {
			random_step();
			if (rng_chance(&world.rng, 1, 300))
				settle();
		}
		check_end();
		hints += world.hints;
		completed += world.completed;
		moves += world.moves;
		early += world.early;
	}
	print_message("# %llu pages hinted, %llu reports complete, %llu ended "
		      "before they began, %llu moves\n",
		      (unsigned long long)hints, (unsigned long long)completed,
		      (unsigned long long)early, (unsigned long long)moves);
	assert_true(hints && completed && moves && early);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_v17_device_and_driver_together, setup_world,
			fx_teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
