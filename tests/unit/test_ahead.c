// SPDX-License-Identifier: MIT
/* Memory that is brought into being before its content comes. */
#include "vm_fixture.h"

#include <unistd.h>

#include "migration/ahead.h"

static struct vm vm;
static struct ahead ahead;

static int setup(void **state)
{
	vm_create(&vm);
	ahead_init(&ahead);
	return 0;
}

static int teardown(void **state)
{
	ahead_stop(&ahead);
	vm_destroy(&vm);
	return 0;
}

static uint64_t pages_there(void)
{
	struct page_set there = vm_populated(&vm);
	uint64_t count = page_set_count(&there);

	page_set_free(&there);
	return count;
}

/* For as long as it takes; a thread that does nothing is the runner's to end. */
static void await_pages(uint64_t count)
{
	while (pages_there() < count)
		usleep(1000);
}

static void announce(uint64_t first, uint64_t count)
{
	ahead_announce(&ahead, &vm.memory, (struct page_run){ first, count });
}

static bool arrives(uint64_t first, uint64_t count)
{
	return ahead_arrives(&ahead, (struct page_run){ first, count });
}

static void test_announced_runs_are_made(void **state)
{
	assert_int_equal(pages_there(), 0);
	announce(10, 100);
	announce(HIGH_FIRST, 50);
	await_pages(150);
	assert_int_equal(pages_there(), 150);
	assert_true(vm_exists(&vm, 109));
	assert_true(vm_exists(&vm, HIGH_FIRST + 49));
	assert_true(arrives(10, 100));
	assert_true(arrives(HIGH_FIRST, 50));
}

static void test_content_stays(void **state)
{
	fill_page(vm_page(&vm, 12), 77);
	announce(10, 5);
	await_pages(5);
	assert_true(page_filled(vm_page(&vm, 12), 77));
	assert_true(page_filled(vm_page(&vm, 13), 0));
}

static void test_runs_nobody_announced(void **state)
{
	assert_false(arrives(1, 1));
	announce(20, 10);
	await_pages(10);
	assert_false(arrives(20, 9));
	assert_false(arrives(21, 10));
	assert_true(arrives(20, 10));
	assert_false(arrives(20, 10));
}

/* A peer may announce what it likes: what is too much is forgotten. */
static void test_too_many_announcements(void **state)
{
	unsigned int i, made = 0;

	for (i = 0; i < AHEAD_RUNS + 100; i++)
		announce(i, 1);
	await_pages(AHEAD_RUNS);
	for (i = 0; i < AHEAD_RUNS + 100; i++)
		made += arrives(i, 1);
	assert_int_equal(made, AHEAD_RUNS);
	assert_int_equal(pages_there(), AHEAD_RUNS);
	announce(1000, 1);
	await_pages(AHEAD_RUNS + 1);
	assert_true(arrives(1000, 1));
}

/* Reader and thread share the work: each run is made by one of them, and none
 * is made behind ahead_stop(). */
static void test_arrivals_overtake(void **state)
{
	struct rng rng = rng_start("arrivals");
	uint64_t made = 0, came = 0;
	unsigned int round, i, some;

	for (round = 0; round < 100; round++) {
		some = 1 + rng_below(&rng, 8);
		for (i = 0; i < some; i++)
			announce(came + i, 1);
		for (i = 0; i < some; i++)
			made += arrives(came + i, 1);
		came += some;
	}
	ahead_stop(&ahead);
	assert_int_equal(ahead.arrived, came);
	assert_int_equal(ahead.announced, came);
	assert_int_equal(pages_there(), made);
	ahead_init(&ahead);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		TEST(test_announced_runs_are_made),
		TEST(test_content_stays),
		TEST(test_runs_nobody_announced),
		TEST(test_too_many_announcements),
		TEST(test_arrivals_overtake),
	};

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		puts("1..0 # SKIP there is no thread with one CPU");
		return 0;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
