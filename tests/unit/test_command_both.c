// SPDX-License-Identifier: MIT
/*
 * The command-register protocol, both halves over a real ring, under random
 * interleavings: a guest whose blocks are free, held by the driver, or live,
 * and which unloads its driver and boots anew; its handler, access by access;
 * its worker; a device that is served when it was kicked, and hears of
 * acknowledgements some time after they were written; a host that starts,
 * pauses, closes and finishes reports, resizes, and moves.
 */
#include "balloon_fixture.h"

#include <linux/virtio_config.h>

#include "balloon/command_driver.h"

#define START BALLOON_CMD_REPORT_START
#define DONE BALLOON_CMD_REPORT_DONE
#define NUM_PAGES offsetof(struct virtio_balloon_config, num_pages)
#define FEATURES                                                             \
	(1ull << VIRTIO_F_VERSION_1 | HINT | 1ull << BALLOON_F_COMMAND_REGISTER)

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
	struct command_driver *driver; /* in guest memory */
	struct block block[BLOCKS];
	bool handling, interrupted;	/* the handler */
	uint32_t value;			/* between two of its accesses */
	bool kicked, posted;		/* the device */
	bool open, done_handled;	/* the worker */
	uint32_t cmd_id_reg, last_id;
	uint64_t closed_pages;		/* in the set, as it was closed */
	uint64_t starts, ids, signs;	/* of this driver */
	uint64_t all_starts, hints, completed, moves; /* for the curious */
} world;

static uint64_t block_address(unsigned int i)
{
	return HIGH + i * BLOCK_BYTES;
}

static struct vring_driver *ring(void)
{
	return &fx.ring[BALLOON_FREE_PAGE];
}

static uint32_t cmd_reg(void)
{
	return fx_register(BALLOON_CMD_REG);
}

/* What holds for every page of the set at every moment of a report: it was
 * handed over for this id; and left out without a trace is only what nobody
 * needs: what lives again was written since (R1). */
static void check_hinted(void)
{
	struct page_run run = { 0, 0 };
	const struct block *block;
	uint64_t i;

	while (page_set_next_run(&fx.hinted, run.first + run.count, 1, &run)) {
		i = (run.first - HIGH / PAGE) / BLOCK_PAGES;
		assert_true(i < BLOCKS);
		block = &world.block[i];
		assert_int_equal(block->handed, fx.balloon.report.id);
		assert_true(block->state != LIVE || block->written);
	}
}

/* cmd_id_reg moves with START only, to an id that was never used, when nothing
 * else waits for the driver, and when that has every slot back (D-3 to D-5). */
static void check_start(uint32_t id)
{
	world.cmd_id_reg = id;
	assert_int_equal(cmd_reg() & BALLOON_CMD_REPORT, START);
	assert_int_equal(fx.balloon.report.state, REPORT_REQUESTED);
	assert_int_equal(id, fx.balloon.report.id);
	assert_true(id > world.last_id);
	world.last_id = id;
	assert_int_equal(world.signs, world.starts);
	assert_false(world.open);
	assert_int_equal(le16_load(&ring()->used->idx), ring()->next_avail);
	world.starts++;
	world.all_starts++;
}

/* After every step of anybody. */
static void check(void)
{
	const struct balloon *balloon = &fx.balloon;
	uint32_t id = fx_register(BALLOON_CMD_ID_REG);

	if (id != world.cmd_id_reg)
		check_start(id);
	assert_true(world.signs + balloon->report.sign_due >= world.starts);
	assert_true(world.signs <= world.starts);
	assert_true(world.ids <= world.starts);
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
	if (balloon->report.hinted)
		check_hinted();
	else /* Nobody adds to it behind the host's back (D-6). */
		assert_int_equal(page_set_count(&fx.hinted),
				 world.closed_pages);
	if (balloon->report.state == REPORT_IDLE)
		assert_false(balloon->report.sign_due);
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

/* The words lie where the driver keeps them. */
static void send_word(__le32 *word)
{
	struct vring_segment segment = {
		BUFFERS + (uint64_t)((uint8_t *)word - (uint8_t *)world.driver),
		4,
	};

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

static unsigned int blocks_in(enum block_state state)
{
	unsigned int i, n = 0;

	for (i = 0; i < BLOCKS; i++)
		n += world.block[i].state == state;
	return n;
}

static void send_block(void)
{
	struct vring_segment segment = { 0, BLOCK_BYTES };
	int i = any_block(FREE);

	if (i < 0) {
		command_driver_exhausted(world.driver);
		return;
	}
	world.block[i].state = HELD;
	world.block[i].handed = world.driver->active_id;
	segment.address = block_address((unsigned int)i);
	assert_int_equal(vring_driver_add(ring(), &segment, 0, 1, 0), 0);
	if (rng_chance(&world.rng, 3, 4))
		kick_if_wanted();
}

static void send_id(void)
{
	assert_int_equal(le32_get(world.driver->id_word),
			 fx_register(BALLOON_CMD_ID_REG));
	assert_false(world.open);
	world.open = true;
	world.ids++;
	send_word(&world.driver->id_word);
}

static void send_sign(void)
{
	world.open = false;
	world.signs++;
	send_word(&world.driver->sign_word);
}

static void release(void)
{
	unsigned int i;

	assert_false(world.open);
	assert_true(world.done_handled);
	for (i = 0; i < BLOCKS; i++)
		if (world.block[i].state == HELD)
			world.block[i].state = FREE;
	command_driver_released(world.driver);
	world.done_handled = false;
}

/* Return: false when the worker would go to sleep */
static bool worker_step(void)
{
	fx_reap(BALLOON_FREE_PAGE);
	switch (command_driver_next(world.driver, ring()->free)) {
	case REPORT_STEP_NOTHING:
		kick_if_wanted();
		return false;
	case REPORT_STEP_SEND_ID:
		send_id();
		return true;
	case REPORT_STEP_SEND_BLOCK:
		send_block();
		return true;
	case REPORT_STEP_SEND_SIGN:
		send_sign();
		return true;
	case REPORT_STEP_RELEASE:
		release();
		return true;
	}
	return false;
}

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
	switch (command_driver_handle(world.driver, &offset, &world.value)) {
	case COMMAND_ACCESS_READ:
		world.value = fx_register(offset);
		break;
	case COMMAND_ACCESS_WRITE:
		assert_int_equal(offset, BALLOON_CMD_REG);
		fx_write_register(offset, world.value);
		world.posted = true;
		break;
	case COMMAND_ACCESS_END:
		world.handling = false;
		if (world.driver->acknowledged & DONE)
			world.done_handled = true;
		break;
	}
	return true;
}

/* Return: false when there is nothing to do */
static bool device_step(void)
{
	if (world.posted && (!world.kicked || rng_chance(&world.rng, 1, 2))) {
		world.posted = false;
		balloon_acknowledged(&fx.balloon);
		return true;
	}
	if (!world.kicked)
		return false;
	world.kicked = balloon_serve(&fx.balloon, BALLOON_FREE_PAGE);
	return true;
}

/* Memory pressure: a block that is held or free is taken and written (G-5). */
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
	page_set_clear(&fx.hinted);
	/* The log is armed before the id is published (R1). */
	for (i = 0; i < BLOCKS; i++)
		world.block[i].written = false;
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), 0);
}

static void note_close(void)
{
	world.closed_pages = page_set_count(&fx.hinted);
	if (!fx.balloon.report.hinted)
		return;
	world.hints += world.closed_pages;
	world.completed += fx.balloon.report.state == REPORT_COMPLETE;
	assert_int_equal(world.closed_pages,
			 fx.balloon.report.counters.hinted_pages);
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

/* To another machine, in any state; interrupts under way are lost (D-9). */
static void host_moves(void)
{
	note_close();
	world.posted = false;
	world.kicked = true;
	world.interrupted = false;
	fx_migrate();
	balloon_report_done(&fx.balloon);
	world.moves++;
}

/* A fresh driver on a fresh device. */
static void guest_boots(uint64_t features)
{
	fx_activate(features);
	command_driver_init(world.driver);
	world.cmd_id_reg = 0;
	world.starts = world.ids = world.signs = 0;
	world.open = world.handling = world.kicked = false;
	world.done_handled = false;
	/* The handler runs once by itself (G-8). */
	world.interrupted = true;
}

/* Unloads and loads the driver (G-8), or boots anew and writes what the old
 * driver held (R15). */
static void guest_resets(void)
{
	uint64_t features = fx.balloon.features;
	unsigned int i;

	if (rng_chance(&world.rng, 1, 2)) {
		command_driver_leave(world.driver);
		world.open = false;
		world.done_handled = true;
		while (worker_step())
			;
		assert_int_equal(blocks_in(HELD), 0);
	}
	for (i = 0; i < BLOCKS; i++) {
		if (world.block[i].state != HELD)
			continue;
		world.block[i].state = LIVE;
		world.block[i].written = true;
	}
	balloon_reset(&fx.balloon);
	world.closed_pages = page_set_count(&fx.hinted);
	assert_int_equal(cmd_reg(), 0);
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
	/* Every request was handled, every START got its sign. */
	assert_int_equal(cmd_reg(), 0);
	assert_int_equal(world.driver->target, fx_register(NUM_PAGES));
	assert_int_equal(world.signs, world.starts);
	assert_false(world.open);
	assert_false(fx.balloon.report.sign_due);
	assert_false(fx.balloon.report.deferred);
	if (fx.balloon.report.state == REPORT_DONE)
		assert_int_equal(blocks_in(HELD), 0);
	fx_reap(BALLOON_FREE_PAGE);
	assert_int_equal(ring()->free, ring()->size);
}

static void check_end(void)
{
	uint64_t starts;

	host_finishes();
	settle();
	starts = world.starts;
	/* Nobody in between: a report completes with all that is free. */
	host_starts();
	settle();
	assert_int_equal(world.starts, starts + 1);
	assert_int_equal(fx.balloon.report.state, REPORT_COMPLETE);
	assert_int_equal(fx.balloon.report.counters.uncounted, 0);
	assert_int_equal(page_set_count(&fx.hinted),
			 (BLOCKS - blocks_in(LIVE)) * BLOCK_PAGES);
	host_finishes();
	settle();
	assert_int_equal(blocks_in(HELD), 0);
	assert_int_equal(fx.balloon.report.counters.malformed, 0);
}

static struct balloon_host_ops world_ops;

static int setup_world(void **state)
{
	struct balloon_options options = fx_options();

	options.protocol = &balloon_protocol_command_register;
	fx_init(options);
	world_ops = fx_ops;
	world_ops.config_changed = world_interrupt;
	fx.balloon.ops = &world_ops;
	return 0;
}

static void start_world(struct rng *rng, uint64_t features)
{
	world = (struct world){ .rng = { rng_next(rng) } };
	world.driver = ram(&fx.memory, BUFFERS, sizeof(*world.driver));
	world.last_id = fx.balloon.report.id;
	balloon_reset(&fx.balloon);
	page_set_clear(&fx.hinted);
	guest_boots(FEATURES | features);
}

static void test_device_and_driver_together(void **state)
{
	struct rng rng = rng_start("command register, device and driver");
	uint64_t starts = 0, hints = 0, completed = 0, moves = 0;
	int run, step;

	for (run = 0; run < 2000; run++) {
		start_world(&rng, run % 2 ? EVENT_IDX : 0);
		for (step = 0; step < 1500; step++) {
			random_step();
			if (rng_chance(&world.rng, 1, 300))
				settle();
		}
		check_end();
		starts += world.all_starts;
		hints += world.hints;
		completed += world.completed;
		moves += world.moves;
	}
	print_message("# %llu reports, %llu pages hinted, %llu complete, "
		      "%llu moves\n",
		      (unsigned long long)starts, (unsigned long long)hints,
		      (unsigned long long)completed,
		      (unsigned long long)moves);
	assert_true(hints && completed && moves);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_device_and_driver_together,
						setup_world, fx_teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
