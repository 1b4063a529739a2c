// SPDX-License-Identifier: MIT
/*
 * A source that works for a long time and has nothing to send: the destination
 * gives up after 30 seconds in which nothing came. The clock is the test's.
 */
#include "migration_fixture.h"

#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>

#define RUNS 60u

/* Seconds that each look at the clock takes, on top of the host's own. */
static atomic_uint seconds_a_look;
static atomic_ullong passed;

int clock_gettime(clockid_t clock, struct timespec *now)
{
	long rc = syscall(SYS_clock_gettime, clock, now);

	passed += seconds_a_look;
	now->tv_sec += passed;
	return rc;
}

static struct world *slow_world(void (*script)(struct world *w,
					       enum moment moment,
					       unsigned int nth))
{
	passed = seconds_a_look = 0;
	return world_new(script);
}

static void script_slow_round(struct world *w, enum moment moment,
			      unsigned int nth)
{
	if (moment == AT_ARMED)
		seconds_a_look = 1;
	if (moment == AT_SYNC)
		seconds_a_look = 0;
}

/* As swapped memory of a guest that zeroes what it frees. */
static void test_zero_pages_that_take_long(void **state)
{
	struct world *w = slow_world(script_slow_round);
	unsigned int i;

	for (i = 0; i < RUNS; i++)
		write_run(w, 3 * i, 1, 0);
	world_move(w);
	assert_int_equal(w->status.pages_zero, RUNS);
	assert_in_range(tally(&w->line.recorded).waiting, RUNS / 6, RUNS / 5);
	world_delete(w);
}

static void script_slow_hashes(struct world *w, enum moment moment,
			       unsigned int nth)
{
	/* Behind the last look at the log only the hashes take time. */
	if (moment == AT_SYNCED && w->stopped)
		seconds_a_look = 1;
	if (moment == AT_WAS_RUNNING)
		seconds_a_look = 0;
}

static void test_hashes_that_take_long(void **state)
{
	struct world *w = slow_world(script_slow_hashes);
	unsigned int i;
	struct tally t;

	w->source.options.verify = true;
	for (i = 0; i < RUNS; i++)
		write_run(w, 3 * i, 1, 1 + i);
	world_move(w);
	t = tally(&w->line.recorded);
	assert_int_equal(w->status.verified_pages, RUNS);
	assert_in_range(t.verify_records, RUNS / 6, RUNS / 5 + 1);
	assert_int_equal(t.waiting, 0);
	world_delete(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zero_pages_that_take_long),
		cmocka_unit_test(test_hashes_that_take_long),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
