// SPDX-License-Identifier: MIT
/*
 * Migrations from and to memory of each kind: what was discarded arrives as
 * zero and costs nothing on either side, whatever the size of a host's page.
 */
#include "backing_fixture.h"
#include "migration_fixture.h"

#include "migration/source_internal.h"

#define SIZE (32 * MIB)
#define PAGES 1536u /* that are used, from 0: three huge pages */

static const struct page_run middle = { 512, 512 };

/* The fixture's world, with memory of other kinds. Frames behind its own are
 * there too and nobody touches them. */
static struct world *world_of(enum backing_kind here, enum backing_kind there,
			      void (*script)(struct world *w,
					     enum moment moment,
					     unsigned int nth))
{
	struct world *w = world_new(script);
	struct migration_source fresh;

	vm_destroy(&w->here);
	vm_destroy(&w->there);
	create(&w->here.memory, here, SIZE);
	create(&w->there.memory, there, SIZE);
	assert_int_equal(migration_source_init(&fresh, &w->here.memory, NULL),
			 0);
	fresh.dirty_log = w->source.dirty_log;
	fresh.free_pages = w->source.free_pages;
	fresh.ops = w->source.ops;
	fresh.guest = w->source.guest;
	fresh.options = w->source.options;
	migration_source_destroy(&w->source);
	w->source = fresh;
	w->source.options.verify = true;
	return w;
}

static void world_end(struct world *w)
{
	backing_destroy(&w->here.memory);
	backing_destroy(&w->there.memory);
	vm_create(&w->here);
	vm_create(&w->there);
	world_delete(w);
}

/* Of hugetlb the balloon may give a page back in between, and the pool may have
 * no other: here one that cannot be read. */
static void test_page_that_is_gone_when_it_is_looked_at(void **state)
{
	struct world *w = world_new(NULL);
	uint8_t *page = (uint8_t *)vm_page(&w->here, 5);

	w->here.memory.backing = BACKING_HUGETLB;
	assert_true(source_page_is_zero(&w->source, page));
	page[4095] = 1;
	assert_false(source_page_is_zero(&w->source, page));
	page[0] = 1;
	assert_false(source_page_is_zero(&w->source, page));
	assert_int_equal(mprotect(page, 4096, PROT_NONE), 0);
	assert_true(source_page_is_zero(&w->source, page));
	world_delete(w);
}

/* As the balloon does. */
static void take(struct world *w, struct page_run run)
{
	struct page_run gone;

	assert_int_equal(backing_discard(&w->here.memory, run, &gone), 0);
	guest_memory_mark_dirty(&w->here.memory,
				(struct gpa){ gone.first << GUEST_PAGE_SHIFT },
				gone.count << GUEST_PAGE_SHIFT);
}

/* Fills holes: to be called last. */
static void check_all(const struct world *w)
{
	uint64_t page;

	for (page = 0; page < PAGES; page++)
		if (memcmp(vm_page(&w->here, page), vm_page(&w->there, page),
			   4096))
			fail_msg("page %llu differs",
				 (unsigned long long)page);
}

/* ------------------------------------------------- ZERO records arrive --- */

static const struct page_run zeroed_runs[] = {
	{ 5, 1 }, { 100, 40 }, { 400, 700 }, { 1535, 1 },
};

static void zero_some(struct world *w)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(zeroed_runs); i++)
		write_run(w, zeroed_runs[i].first, zeroed_runs[i].count, 0);
}

static void script_zero(struct world *w, enum moment moment, unsigned int nth)
{
	if (moment == AT_SYNC && nth == 0)
		zero_some(w);
}

/* Pages that came and are zero since: those that are whole host pages are given
 * back, the others are cleared, and no neighbour is touched. */
static void test_zero_records(void **state)
{
	struct world *w = world_of(BACKING_ANONYMOUS, kind_of(state),
				   script_zero);
	uint64_t each = host_pages(&w->there.memory);
	uint64_t zero = 1 + 40 + 700 + 1;

	write_run(w, 0, PAGES, 1);
	world_move(w);
	assert_int_equal(tally(&w->line.recorded).zero_pages, zero);
	assert_int_equal(populated_in(&w->there.memory, middle), 0);
	assert_int_equal(populated_in(&w->there.memory,
				      (struct page_run){ 0, SIZE / 4096 }),
			 each == 1 ? PAGES - zero : PAGES - middle.count);
	check_all(w);
	world_end(w);
}

static void script_zero_locked(struct world *w, enum moment moment,
			       unsigned int nth)
{
	if (moment != AT_SYNC || nth != 0)
		return;
	if (w->there.memory.backing == BACKING_ANONYMOUS)
		assert_true(lock_pages(vm_page(&w->there, 0),
				       PAGES * 4096ull));
	zero_some(w);
}

/* R8, R9, R26: a discard that fails leaves nothing old behind. */
static void test_zero_records_that_cannot_be_discarded(void **state)
{
	struct world *w = world_of(BACKING_ANONYMOUS, kind_of(state),
				   script_zero_locked);
	int file = w->there.memory.file;
	char path[64];

	if (kind_of(state) != BACKING_ANONYMOUS) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
		w->there.memory.file = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(w->there.memory.file >= 0);
	}
	write_run(w, 0, PAGES, 1);
	world_move(w);
	assert_int_equal(populated_in(&w->there.memory,
				      (struct page_run){ 0, PAGES }), PAGES);
	check_all(w);
	if (kind_of(state) != BACKING_ANONYMOUS) {
		close(w->there.memory.file);
		w->there.memory.file = file;
	}
	world_end(w);
}

/* ---------------------------------------------- discarded at the source --- */

static void script_take(struct world *w, enum moment moment, unsigned int nth)
{
	if (moment == AT_SYNC && nth == 0)
		take(w, middle);
}

/* The sender does not read what the balloon took, which would bring it back. */
static void test_taken_pages_stay_away(void **state)
{
	struct world *w = world_of(kind_of(state), kind_of(state),
				   script_take);

	write_run(w, 0, PAGES, 1);
	world_move(w);
	assert_int_equal(backing_resident(&w->here.memory),
			 (PAGES - middle.count) * 4096);
	assert_int_equal(backing_resident(&w->there.memory),
			 (PAGES - middle.count) * 4096);
	assert_int_equal(populated_in(&w->there.memory, middle), 0);
	check_all(w);
	world_end(w);
}

/* Before its turn in the first round: it is not sent, and not there at all. */
static void script_take_early(struct world *w, enum moment moment,
			      unsigned int nth)
{
	if (moment == AT_CONFIG)
		take(w, middle);
}

static void test_pages_that_were_never_sent(void **state)
{
	struct world *w = world_of(kind_of(state), kind_of(state),
				   script_take_early);

	write_run(w, 0, PAGES, 1);
	world_move(w);
	assert_int_equal(tally(&w->line.recorded).pages, PAGES - middle.count);
	assert_int_equal(tally(&w->line.recorded).zero_pages, 0);
	assert_int_equal(backing_resident(&w->there.memory),
			 (PAGES - middle.count) * 4096);
	assert_int_equal(backing_resident(&w->here.memory),
			 (PAGES - middle.count) * 4096);
	check_all(w);
	world_end(w);
}

static void script_take_and_use(struct world *w, enum moment moment,
				unsigned int nth)
{
	if (moment == AT_SYNC && nth == 0)
		take(w, middle);
	/* Behind the sync that took the mark along. */
	if (moment == AT_SYNCED && nth == 0)
		guest_write(w, 700, 777);
}

static void test_taken_page_that_is_used_again(void **state)
{
	struct world *w = world_of(kind_of(state), kind_of(state),
				   script_take_and_use);

	write_run(w, 0, PAGES, 1);
	world_move(w);
	assert_int_equal(backing_resident(&w->here.memory),
			 (PAGES - middle.count +
			  host_pages(&w->here.memory)) * 4096);
	assert_true(page_filled(vm_page(&w->there, 700), 777));
	assert_true(page_filled(vm_page(&w->there, 699), 0));
	check_all(w);
	world_end(w);
}

/* --------------------------------------------------------------- random --- */

static void random_act(struct world *w, struct rng *rng)
{
	uint64_t first = rng_below(rng, PAGES);
	uint64_t count = 1 + rng_below(rng, rng_chance(rng, 1, 2) ? 8 : 600);

	if (count > PAGES - first)
		count = PAGES - first;
	switch (rng_below(rng, 3)) {
	case 0:
		write_run(w, first, count, rng_next(rng) | 1);
		break;
	case 1:
		write_run(w, first, count, 0);
		break;
	case 2:
		take(w, (struct page_run){ first, count });
		break;
	}
}

static void script_random(struct world *w, enum moment moment,
			  unsigned int nth)
{
	struct rng *rng = w->own;
	unsigned int i;

	if (w->stopped || (moment != AT_ARM && moment != AT_ARMED &&
			   moment != AT_SYNC && moment != AT_SYNCED))
		return;
	if (moment == AT_SYNC)
		w->source.options.downtime_ms = nth < 4 ? 0 : 10000;
	for (i = 0; i < 6; i++)
		random_act(w, rng);
}

static void test_random_moves(void **state)
{
	struct rng rng = rng_start(backing_kind_name(kind_of(state)));
	unsigned int there, i;
	struct world *w;

	for (there = 0; there < BACKING_KINDS; there++) {
		if (there == BACKING_HUGETLB &&
		    free_huge_pages() < 2 * SIZE / BACKING_HUGE_PAGE)
			continue; /* the tests of hugetlb say that it is not */
		for (i = 0; i < 12; i++) {
			w = world_of(kind_of(state), there, script_random);
			w->own = &rng;
			w->plain_log = i & 1;
			write_run(w, 0, PAGES, 1);
			world_move(w);
			assert_true(backing_resident(&w->here.memory) <=
				    PAGES * 4096);
			check_all(w);
			world_end(w);
		}
	}
}

int main(void)
{
	static struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page_that_is_gone_when_it_is_looked_at),
		with_each_kind(test_zero_records),
		with_each_kind(test_zero_records_that_cannot_be_discarded),
		with_each_kind(test_taken_pages_stay_away),
		with_each_kind(test_pages_that_were_never_sent),
		with_each_kind(test_taken_page_that_is_used_again),
		with_each_kind(test_random_moves),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	keep_pages_small();
	fill_pool(2 * SIZE / BACKING_HUGE_PAGE);
	skip_without_huge_pages(tests, ARRAY_SIZE(tests), "hugetlb", 2 * SIZE);
	return cmocka_run_group_tests(tests, NULL, backing_teardown);
}
