// SPDX-License-Identifier: MIT
/*
 * Source and destination of a migration against each other: what arrives, what
 * it costs, and where the guest lives when something fails.
 *
 * R1, R29 and so on are the hazards of docs/architecture.md.
 */
#include "migration_fixture.h"

/* Keep it going until so many rounds were made; to be called at AT_SYNC. */
static void rounds(struct world *w, unsigned int nth, unsigned int wanted)
{
	w->source.options.downtime_ms = nth + 1 < wanted ? 0 : 10000;
}

/* --------------------------------------------------- what it costs --- */

static void test_empty_guest(void **state)
{
	struct world *w = world_new(NULL);

	world_move(w);
	assert_int_equal(w->status.bytes_sent, bare_stream_bytes());
	assert_int_equal(w->status.ram_bytes, RAM_PAGES * 4096ull);
	assert_int_equal(w->status.pages_sent, 0);
	assert_int_equal(w->status.pages_absent, RAM_PAGES);
	assert_int_equal(w->status.rounds, 2);
	assert_int_equal(w->count[AT_START], 0);
	assert_int_equal(w->count[AT_DONE], 0);
	world_delete(w);
}

static void test_idle_guest(void **state)
{
	struct world *w = world_new(NULL);
	struct page_set there;

	write_run(w, 0, 10, 1);
	write_run(w, LOW_PAGES - 1, 1, 50);
	write_run(w, HIGH_FIRST, 3, 60);
	write_run(w, FRAMES - 1, 1, 70);
	world_move(w);
	assert_int_equal(w->status.bytes_sent,
			 bare_stream_bytes() + DATA_BYTES(4, 15));
	assert_int_equal(w->status.pages_sent, 15);
	assert_int_equal(w->status.pages_absent, RAM_PAGES - 15);
	assert_int_equal(w->status.round[0].pages_sent, 15);
	assert_int_equal(w->status.round[1].pages_sent, 0);
	there = vm_populated(&w->there);
	assert_int_equal(page_set_count(&there), 15);
	page_set_free(&there);
	assert_true(w->status.destination_rss_bytes >= 15 * 4096ull);
	check_memory(w);
	world_delete(w);
}

/* A record holds at most STREAM_PAGES_MAX pages, and one region's. */
static void test_full_guest(void **state)
{
	struct world *w = world_new(NULL);

	write_run(w, 0, LOW_PAGES, 1);
	write_run(w, HIGH_FIRST, HIGH_PAGES, 5000);
	world_move(w);
	assert_int_equal(w->status.bytes_sent,
			 bare_stream_bytes() + DATA_BYTES(4, RAM_PAGES) +
				 ANNOUNCE_BYTES(2, 4));
	assert_int_equal(w->status.pages_absent, 0);
	check_memory(w);
	world_delete(w);
}

static void test_zero_pages_cost_nothing(void **state)
{
	struct world *w = world_new(NULL);

	write_run(w, 0, 50, 0);
	write_run(w, 50, 2, 7);
	write_run(w, 52, 20, 0);
	write_run(w, HIGH_FIRST + 5, 30, 0);
	world_move(w);
	assert_int_equal(w->status.bytes_sent,
			 bare_stream_bytes() + DATA_BYTES(1, 2));
	assert_int_equal(w->status.pages_zero, 100);
	assert_false(vm_exists(&w->there, 0));
	assert_false(vm_exists(&w->there, HIGH_FIRST + 5));
	check_memory(w);
	world_delete(w);
}

/* A page whose only byte is its last is not zero. */
static void test_nearly_zero_page(void **state)
{
	struct world *w = world_new(NULL);

	guest_write(w, 3, 0);
	((uint8_t *)vm_page(&w->here, 3))[4095] = 1;
	guest_write(w, 4, 0);
	((uint8_t *)vm_page(&w->here, 4))[0] = 1;
	world_move(w);
	assert_int_equal(w->status.pages_sent, 2);
	check_memory(w);
	world_delete(w);
}

static void test_bandwidth(void **state)
{
	struct world *w = world_new(NULL);
	struct tally t;

	write_run(w, 0, 64, 1);
	w->source.options.bandwidth = 16 * 4096 * 8; /* half a second */
	world_move(w);
	assert_true(w->status.total_ms >= 400);
	check_memory(w);
	world_delete(w);

	/* No record longer than a second: shorter ones. */
	w = world_new(NULL);
	write_run(w, 0, 8, 1);
	w->source.options.bandwidth = 4096 * 4 + 4095;
	w->line.cut = bare_stream_bytes(); /* somewhere in the first record */
	world_run(w);
	check_ending(w);
	world_delete(w);
	w = world_new(NULL);
	write_run(w, 0, 600, 1);
	w->source.options.bandwidth = 4096 * 256 * 8;
	world_move(w);
	t = tally(&w->line.recorded);
	assert_int_equal(t.pages_records, 1);
	check_memory(w);
	world_delete(w);
}

/* ----------------------------------------------------------- rounds --- */

static void script_zero(struct world *w, enum moment moment, unsigned int nth)
{
	if (moment == AT_SYNC && nth == 0)
		write_run(w, 10, 3, 0);
}

/* R8: what was sent and is gone does not stay there. */
static void test_sent_page_that_becomes_zero(void **state)
{
	struct world *w = world_new(script_zero);

	write_run(w, 8, 8, 1);
	world_move(w);
	assert_int_equal(w->status.bytes_sent,
			 bare_stream_bytes() + DATA_BYTES(1, 8) +
				 ZERO_BYTES(1));
	assert_int_equal(w->status.pages_zero, 3);
	assert_false(vm_exists(&w->there, 10));
	check_memory(w);
	world_delete(w);
}

static void script_blink(struct world *w, enum moment moment, unsigned int nth)
{
	if (moment != AT_SYNC)
		return;
	rounds(w, nth, 8);
	/* Neighbours that change roles each round. */
	if (nth < 8) {
		write_run(w, 20, 4, nth % 2 ? 100 * nth + 1 : 0);
		write_run(w, 24, 4, nth % 2 ? 0 : 100 * nth + 50);
	}
}

static void test_page_between_zero_and_data(void **state)
{
	struct world *w = world_new(script_blink);
	struct tally t;

	write_run(w, 20, 8, 9000);
	world_move(w);
	t = tally(&w->line.recorded);
	assert_int_equal(w->status.rounds, 9);
	assert_int_equal(t.zero_pages, 8 * 4);
	check_memory(w);
	world_delete(w);
}

static void script_discard(struct world *w, enum moment moment,
			   unsigned int nth)
{
	if (moment == AT_SYNC && nth == 0) {
		guest_discard(w, 30);
		guest_discard(w, 31);
		guest_discard(w, HIGH_FIRST);
		guest_discard(w, LOW_PAGES - 1);
		guest_write(w, 31, 777); /* and is used again */
	}
}

/* The balloon took it: what is absent here reads as zero there. */
static void test_sent_page_that_was_discarded(void **state)
{
	struct world *w = world_new(script_discard);

	write_run(w, 29, 4, 1);
	write_run(w, LOW_PAGES - 1, 1, 40);
	write_run(w, HIGH_FIRST, 1, 41);
	world_move(w);
	assert_int_equal(tally(&w->line.recorded).zero_pages, 3);
	assert_true(page_filled(vm_page(&w->there, 30), 0));
	assert_true(page_filled(vm_page(&w->there, 31), 777));
	assert_true(page_filled(vm_page(&w->there, LOW_PAGES - 1), 0));
	assert_true(page_filled(vm_page(&w->there, HIGH_FIRST), 0));
	check_memory(w);
	world_delete(w);
}

static void script_discard_at_last(struct world *w, enum moment moment,
				   unsigned int nth)
{
	/* While the state is saved: before the last sync, after the last
	 * round that ran beside the guest. */
	if (moment == AT_SAVE) {
		guest_discard(w, 30);
		guest_write(w, 32, 888);
	}
}

static void test_writes_while_state_is_saved(void **state)
{
	struct world *w = world_new(script_discard_at_last);

	write_run(w, 29, 4, 1);
	world_move(w);
	assert_true(page_filled(vm_page(&w->there, 30), 0));
	assert_true(page_filled(vm_page(&w->there, 32), 888));
	check_memory(w);
	world_delete(w);
}

static void script_discard_early(struct world *w, enum moment moment,
				 unsigned int nth)
{
	if (moment == AT_ARMED) /* counted as populated, never to be sent */
		guest_discard(w, 5);
}

static void test_page_discarded_before_its_turn(void **state)
{
	struct world *w = world_new(script_discard_early);

	write_run(w, 5, 1, 1);
	world_move(w);
	assert_int_equal(w->status.bytes_sent, bare_stream_bytes());
	assert_false(vm_exists(&w->there, 5));
	world_delete(w);
}

static void script_every_round(struct world *w, enum moment moment,
			       unsigned int nth)
{
	if (moment == AT_SYNC) {
		rounds(w, nth, 20);
		guest_write(w, 77, 1000 + nth);
	}
	if (moment == AT_SYNCED && nth < 20)
		guest_write(w, 78, 2000 + nth);
}

static void test_page_written_in_every_round(void **state)
{
	struct world *w = world_new(script_every_round);
	unsigned int i;

	write_run(w, 70, 16, 1);
	world_move(w);
	assert_int_equal(w->count[AT_SYNC], 21);
	assert_int_equal(w->status.rounds, 21);
	for (i = 1; i < 20; i++)
		assert_int_equal(w->status.round[i].dirty, 2);
	assert_true(page_filled(vm_page(&w->there, 77), 1020));
	assert_true(page_filled(vm_page(&w->there, 78), 2019));
	check_memory(w);
	world_delete(w);
}

static void script_many_rounds(struct world *w, enum moment moment,
			       unsigned int nth)
{
	if (moment == AT_SYNC) {
		rounds(w, nth, MIGRATION_MAX_ROUNDS + 20);
		guest_write(w, 1, 1000 + nth);
	}
}

/* More rounds than are kept: the last ones share a place. */
static void test_more_rounds_than_are_kept(void **state)
{
	struct world *w = world_new(script_many_rounds);

	world_move(w);
	assert_int_equal(w->status.rounds, MIGRATION_MAX_ROUNDS + 21);
	assert_int_equal(w->status.round[MIGRATION_MAX_ROUNDS - 1].pages_sent,
			 1);
	check_memory(w);
	world_delete(w);
}

static void script_births(struct world *w, enum moment moment,
			  unsigned int nth)
{
	switch (moment) {
	case AT_ARM: /* counted by the second look */
		guest_write(w, 200, 1);
		break;
	case AT_ARMED:
		guest_write(w, 201, 2);
		break;
	case AT_SYNC:
		if (!w->stopped)
			guest_write(w, 202 + nth, 3 + nth);
		break;
	case AT_SYNCED:
		if (!w->stopped)
			guest_write(w, 210 + nth, 10 + nth);
		break;
	default:
		break;
	}
}

/* Pages that come into being at any moment, under both kinds of log. */
static void test_pages_that_are_born(void **state)
{
	int plain;

	for (plain = 0; plain < 2; plain++) {
		struct world *w = world_new(script_births);

		w->plain_log = plain;
		world_move(w);
		assert_true(page_filled(vm_page(&w->there, 200), 1));
		assert_true(page_filled(vm_page(&w->there, 201), 2));
		assert_true(page_filled(vm_page(&w->there, 210), 10));
		check_memory(w);
		world_delete(w);
	}
}

static void script_monitor(struct world *w, enum moment moment,
			   unsigned int nth)
{
	struct gpa at = { 90 << 12 };

	if (moment != AT_SAVE)
		return;
	/* A ring the monitor writes: not in KVM's log (R30). */
	vm_page(&w->here, 90)[5] = 5;
	guest_memory_mark_dirty(&w->here.memory, at, 8);
}

static void test_writes_of_the_monitor(void **state)
{
	struct world *w = world_new(script_monitor);

	write_run(w, 90, 1, 4);
	world_move(w);
	assert_int_equal(vm_page(&w->there, 90)[5], 5);
	check_memory(w);
	world_delete(w);
}

/* ----------------------------------------------------- verification --- */

static void script_hints(struct world *w, enum moment moment, unsigned int nth)
{
	if (moment == AT_WAIT) {
		hint_run(w, 100, 100);
		hint_run(w, HIGH_FIRST, 10);
		w->progress.state = FREE_PAGE_COMPLETE;
	}
}

static void script_verified(struct world *w, enum moment moment,
			    unsigned int nth)
{
	script_hints(w, moment, nth);
	script_discard(w, moment, nth);
	script_zero(w, moment, nth);
}

/* R9, R10: only what matters to the guest is compared. */
static void test_verified(void **state)
{
	struct world *w = hinting_world(script_verified);
	struct tally t;

	write_run(w, 5, 40, 1);
	write_run(w, 90, 120, 100);
	write_run(w, HIGH_FIRST, 20, 300);
	write_run(w, LOW_PAGES - 2, 2, 400);
	w->source.options.verify = true;
	world_move(w);
	t = tally(&w->line.recorded);
	assert_true(t.verify_records >= 1);
	assert_int_equal(t.verified_pages, w->status.verified_pages);
	assert_true(w->status.verified_pages >= 60);
	check_memory(w);
	world_delete(w);
}

static void check_verify_fails(struct world *w)
{
	world_run(w);
	check_ending(w);
	assert_int_equal(w->status.state, MIGRATION_FAILED);
	assert_non_null(strstr(w->err.message, "verification failed"));
	assert_non_null(strstr(w->status.error, "verification failed"));
	assert_int_equal(w->loads, 0);
	assert_int_equal(w->count[AT_GO_ON], 1);
	world_delete(w);
}

/* A bit that changed on its way. */
static void test_verify_finds_a_damaged_page(void **state)
{
	struct world *w = world_new(NULL);

	write_run(w, 90, 10, 1);
	w->source.options.verify = true;
	/* In the fourth page: behind header, CONFIG, CPUID, record, run. */
	w->line.flip = bare_stream_bytes() - 112 + 3 * 4096 + 500;
	check_verify_fails(w);
}

/* A zero page is not sent: what lies there must be zero too. */
static void test_verify_finds_an_alien_page(void **state)
{
	struct world *w = world_new(NULL);

	write_run(w, 90, 10, 1);
	write_run(w, 100, 1, 0);
	fill_page(vm_page(&w->there, 100), 3);
	w->source.options.verify = true;
	check_verify_fails(w);
}

static void script_missed(struct world *w, enum moment moment,
			  unsigned int nth)
{
	/* A write that no log knows: a device behind everybody's back. */
	if (moment == AT_STOP)
		fill_page(vm_page(&w->here, 95), 4);
}

static void test_verify_finds_a_missed_write(void **state)
{
	struct world *w = world_new(script_missed);

	write_run(w, 90, 10, 1);
	w->source.options.verify = true;
	check_verify_fails(w);
}

static void script_discard_and_back(struct world *w, enum moment moment,
				    unsigned int nth)
{
	struct gpa at = { 90 << 12 };

	if (moment == AT_SYNC && nth == 0) {
		guest_discard(w, 90);
		/* It exists again and nobody wrote it: a huge page came in
		 * because of a neighbour, or the guest read it. */
		*(volatile uint64_t *)vm_page(&w->here, 90);
		assert_true(vm_exists(&w->here, 90));
		if (w->own)
			guest_memory_mark_dirty(&w->here.memory, at, 4096);
	}
}

/*
 * The page changed and no log knows. Its content does not matter to the guest,
 * so without verification that is harmless; with it the destination refuses.
 * Whoever discards must therefore mark what was discarded as written.
 */
static void test_discarded_page_that_is_back(void **state)
{
	struct world *w = world_new(script_discard_and_back);
	int marked_too = 1;

	write_run(w, 90, 1, 1);
	world_move(w);
	world_delete(w);

	w = world_new(script_discard_and_back);
	write_run(w, 90, 1, 1);
	w->own = &marked_too;
	w->source.options.verify = true;
	world_move(w);
	assert_true(page_filled(vm_page(&w->there, 90), 0));
	world_delete(w);
}

/* ------------------------------------------------------------- random --- */

#define RANDOM_RUNS 120
#define HELD_MAX 512

struct chance {
	struct rng rng;
	unsigned int rounds, held_count;
	uint64_t held[HELD_MAX]; /* hinted and not taken back */
};

static uint64_t any_page(struct rng *rng)
{
	/* Most of it in few places, so that things meet. */
	switch (rng_below(rng, 4)) {
	case 0:
		return ram_page(rng_below(rng, RAM_PAGES));
	case 1:
		return ram_page(LOW_PAGES - 16 + rng_below(rng, 32));
	default:
		return 64 + rng_below(rng, 128);
	}
}

static bool held(const struct chance *chance, uint64_t page)
{
	unsigned int i;

	for (i = 0; i < chance->held_count; i++)
		if (chance->held[i] == page)
			return true;
	return false;
}

static void let_go(struct chance *chance, uint64_t page)
{
	unsigned int i;

	for (i = 0; i < chance->held_count; i++)
		if (chance->held[i] == page)
			chance->held[i] = chance->held[--chance->held_count];
}

static void random_write(struct world *w, struct chance *chance)
{
	uint64_t first = any_page(&chance->rng), i;
	uint64_t count = 1 + rng_below(&chance->rng, 6);
	uint64_t value = rng_chance(&chance->rng, 1, 3) ?
				 0 : rng_next(&chance->rng) | 1;

	for (i = first; i < first + count && is_ram(i); i++) {
		guest_write(w, i, value);
		let_go(chance, i);
	}
}

static void random_discard(struct world *w, struct chance *chance)
{
	uint64_t page = any_page(&chance->rng);

	/* What was handed over as a hint is not put into the balloon. */
	if (!held(chance, page))
		guest_discard(w, page);
}

static void random_hint(struct world *w, struct chance *chance)
{
	uint64_t first = any_page(&chance->rng), i;
	uint64_t count = 1 + rng_below(&chance->rng, 20);

	for (i = first; i < first + count && is_ram(i); i++) {
		if (held(chance, i) || chance->held_count == HELD_MAX)
			continue;
		chance->held[chance->held_count++] = i;
		guest_hint(w, i);
		/* R29: taken back and written before the hint is popped; the
		 * order of the two is all the same here. */
		if (rng_chance(&chance->rng, 1, 6)) {
			guest_write(w, i, rng_next(&chance->rng) | 1);
			let_go(chance, i);
		}
	}
}

static void random_steps(struct world *w, struct chance *chance)
{
	unsigned int steps = rng_below(&chance->rng, 12);

	while (steps--) {
		switch (rng_below(&chance->rng, 5)) {
		case 0:
			random_discard(w, chance);
			break;
		case 1:
		case 2:
			if (w->hinted)
				random_hint(w, chance);
			else
				random_write(w, chance);
			break;
		default:
			random_write(w, chance);
			break;
		}
	}
}

static void script_random(struct world *w, enum moment moment,
			  unsigned int nth)
{
	struct chance *chance = w->own;

	if (moment == AT_SYNC)
		rounds(w, nth, chance->rounds);
	if (moment == AT_WAIT && nth >= rng_below(&chance->rng, 4))
		w->progress.state = rng_chance(&chance->rng, 1, 2) ?
					    FREE_PAGE_COMPLETE :
					    FREE_PAGE_NONE;
	else if (moment == AT_WAIT)
		w->progress.state = FREE_PAGE_ACCEPTING;
	if (moment == AT_WAIT && w->hinted && rng_chance(&chance->rng, 1, 8)) {
		struct page_run block = { 256, 600 };
		uint64_t i;

		for (i = block.first; i < block.first + block.count; i++) {
			guest_write(w, i, 0);
			let_go(chance, i);
			guest_hint(w, i);
		}
		w->progress.sample = block;
	}
	/* A stopped guest writes no more, but its monitor saves it. */
	if (!w->stopped || moment == AT_SAVE)
		random_steps(w, chance);
}

static void random_run(uint64_t seed)
{
	struct chance chance = { .rng = { seed } };
	struct world *w = world_new(script_random);
	struct page_set here, there;
	unsigned int i;
	uint64_t n;

	chance.rounds = 1 + rng_below(&chance.rng, 6);
	w->own = &chance;
	w->impatient = true;
	w->plain_log = rng_chance(&chance.rng, 1, 3);
	w->source.options.hinting = rng_chance(&chance.rng, 3, 4);
	w->source.options.verify = rng_chance(&chance.rng, 1, 2);
	for (i = rng_below(&chance.rng, 40); i; i--)
		random_write(w, &chance);
	world_move(w);
	there = vm_populated(&w->there);
	here = vm_populated(&w->here);
	for (n = 0; n < RAM_PAGES; n++) {
		uint64_t page = ram_page(n);

		/* Held to the end, and never sent: never touched. */
		if (page_set_contains(&w->source.left_out, page) &&
		    !w->source.options.verify)
			assert_false(page_set_contains(&there, page));
		/* Absent here: zero there. */
		if (!page_set_contains(&here, page) &&
		    page_set_contains(&there, page))
			assert_true(page_filled(vm_page(&w->there, page), 0));
	}
	page_set_free(&there);
	page_set_free(&here);
	check_memory(w);
	world_delete(w);
}

static void test_random_guests(void **state)
{
	struct rng rng = rng_start("random guests");
	unsigned int i;

	for (i = 0; i < RANDOM_RUNS; i++)
		random_run(rng_next(&rng));
}

/* ------------------------------------------------- a guest that runs --- */

struct runner {
	struct rng rng;
	pthread_t thread;
	atomic_bool stop;
	bool started;
	struct world *w;
};

/* Its vCPU: writes as fast as it can, without regard for any moment. */
static void *runner_main(void *argument)
{
	struct runner *runner = argument;

	while (!atomic_load(&runner->stop)) {
		uint64_t page = any_page(&runner->rng);

		guest_write(runner->w, page,
			    rng_chance(&runner->rng, 1, 4) ?
				    0 : rng_next(&runner->rng) | 1);
	}
	return NULL;
}

static void script_runner(struct world *w, enum moment moment,
			  unsigned int nth)
{
	struct runner *runner = w->own;

	if (moment == AT_SYNC)
		rounds(w, nth, 6);
	if (moment == AT_CONFIG) {
		runner->started = true;
		assert_int_equal(pthread_create(&runner->thread, NULL,
						runner_main, runner), 0);
	}
	if (moment == AT_STOP) {
		atomic_store(&runner->stop, true);
		pthread_join(runner->thread, NULL);
	}
}

static void test_guest_that_runs(void **state)
{
	struct rng rng = rng_start("a guest that runs");
	unsigned int i;

	for (i = 0; i < 8; i++) {
		struct runner runner = { .rng = { rng_next(&rng) } };
		struct world *w = world_new(script_runner);

		w->own = &runner;
		runner.w = w;
		w->source.options.verify = i % 2;
		world_move(w);
		check_memory(w);
		world_delete(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty_guest),
		cmocka_unit_test(test_idle_guest),
		cmocka_unit_test(test_full_guest),
		cmocka_unit_test(test_zero_pages_cost_nothing),
		cmocka_unit_test(test_nearly_zero_page),
		cmocka_unit_test(test_bandwidth),
		cmocka_unit_test(test_sent_page_that_becomes_zero),
		cmocka_unit_test(test_page_between_zero_and_data),
		cmocka_unit_test(test_sent_page_that_was_discarded),
		cmocka_unit_test(test_writes_while_state_is_saved),
		cmocka_unit_test(test_page_discarded_before_its_turn),
		cmocka_unit_test(test_page_written_in_every_round),
		cmocka_unit_test(test_more_rounds_than_are_kept),
		cmocka_unit_test(test_pages_that_are_born),
		cmocka_unit_test(test_writes_of_the_monitor),
		cmocka_unit_test(test_verified),
		cmocka_unit_test(test_verify_finds_a_damaged_page),
		cmocka_unit_test(test_verify_finds_an_alien_page),
		cmocka_unit_test(test_verify_finds_a_missed_write),
		cmocka_unit_test(test_discarded_page_that_is_back),
		cmocka_unit_test(test_random_guests),
		cmocka_unit_test(test_guest_that_runs),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
