// SPDX-License-Identifier: MIT
/* What a migration does next, by tables. */
#include "unit.h"

#include "migration/policy.h"

static void test_expected_downtime(void **state)
{
	static const struct {
		struct round_stats stats;
		uint64_t ms;
	} table[] = {
		/* Nothing measured yet. */
		{ { .pages_left = 0, .fixed_ms = 30 }, 30 },
		{ { .pages_left = 1, .fixed_ms = 30 }, UINT64_MAX },
		/* Nothing left: what is fixed. */
		{ { .pages_done = 100, .busy_ms = 50, .fixed_ms = 7 }, 7 },
		/* As fast as so far. */
		{ { .pages_left = 10, .pages_done = 100, .busy_ms = 50,
		    .fixed_ms = 7 }, 12 },
		{ { .pages_left = 200, .pages_done = 100, .busy_ms = 50 },
		  100 },
		/* Faster than can be measured. */
		{ { .pages_left = 1000, .pages_done = 10, .fixed_ms = 1 }, 1 },
		/* The product does not fit 64 bits. */
		{ { .pages_left = 1ull << 40, .pages_done = 1ull << 40,
		    .busy_ms = 1ull << 30 }, 1ull << 30 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(policy_expected_downtime_ms(&table[i].stats),
				 table[i].ms);
}

static void test_when_to_stop(void **state)
{
	static const struct {
		struct round_stats stats;
		bool stop;
	} table[] = {
		{ { .pages_done = 1, .fixed_ms = 30, .downtime_ms = 300 },
		  true },
		{ { .pages_done = 1, .fixed_ms = 300, .downtime_ms = 300 },
		  true },
		{ { .pages_done = 1, .fixed_ms = 301, .downtime_ms = 300 },
		  false },
		{ { .pages_left = 270, .pages_done = 1000, .busy_ms = 1000,
		    .fixed_ms = 30, .downtime_ms = 300 }, true },
		{ { .pages_left = 271, .pages_done = 1000, .busy_ms = 1000,
		    .fixed_ms = 30, .downtime_ms = 300 }, false },
		{ { .pages_left = 1, .downtime_ms = 300 }, false },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(policy_should_stop(&table[i].stats),
				 table[i].stop);
}

/* The less is left, the sooner; the more is allowed, the sooner. */
static void test_stopping_is_monotonous(void **state)
{
	struct rng rng = rng_start("stopping is monotonous");
	unsigned int i;

	for (i = 0; i < 20000; i++) {
		struct round_stats stats = {
			.pages_left = rng_below(&rng, 1 << 20),
			.pages_done = rng_below(&rng, 1 << 20),
			.busy_ms = rng_below(&rng, 10000),
			.fixed_ms = rng_below(&rng, 100),
			.downtime_ms = rng_below(&rng, 1000),
		}, other = stats;

		if (!policy_should_stop(&stats))
			continue;
		other.pages_left = rng_below(&rng, stats.pages_left + 1);
		other.downtime_ms += rng_below(&rng, 1000);
		assert_true(policy_should_stop(&other));
	}
}

static void test_when_to_wait(void **state)
{
	static const struct {
		struct report_wait_stats stats;
		bool wait;
	} table[] = {
		{ { .state = FREE_PAGE_NONE }, false },
		{ { .state = FREE_PAGE_COMPLETE }, false },
		/* Asked: two seconds to answer. */
		{ { .state = FREE_PAGE_REQUESTED }, true },
		{ { .state = FREE_PAGE_REQUESTED, .waited_ms = 1999,
		    .since_progress_ms = 1999 }, true },
		{ { .state = FREE_PAGE_REQUESTED, .waited_ms = 2000 }, false },
		/* Hinting: as long as hints come. */
		{ { .state = FREE_PAGE_ACCEPTING }, true },
		{ { .state = FREE_PAGE_ACCEPTING, .waited_ms = 59999,
		    .since_progress_ms = 1999 }, true },
		{ { .state = FREE_PAGE_ACCEPTING, .waited_ms = 2500,
		    .since_progress_ms = 2000 }, false },
		/* As long as they come faster than the link is: 1000 pages are
		 * 4 MiB. */
		{ { .state = FREE_PAGE_ACCEPTING, .waited_ms = 300,
		    .accepting_ms = 100, .pages = 100,
		    .link_rate = 4096000 }, true },
		{ { .state = FREE_PAGE_ACCEPTING, .waited_ms = 300,
		    .accepting_ms = 100, .pages = 99,
		    .link_rate = 4096000 }, false },
		{ { .state = FREE_PAGE_ACCEPTING, .waited_ms = 300,
		    .accepting_ms = 1000, .pages = 1000,
		    .link_rate = 4096000 }, true },
		{ { .state = FREE_PAGE_ACCEPTING, .waited_ms = 300,
		    .accepting_ms = 1000, .pages = 999,
		    .link_rate = 4096000 }, false },
		{ { .state = FREE_PAGE_ACCEPTING, .waited_ms = 300,
		    .accepting_ms = 99, .link_rate = 4096000 }, true },
		{ { .state = FREE_PAGE_ACCEPTING, .waited_ms = 300,
		    .accepting_ms = 1000 }, true },
		{ { .state = FREE_PAGE_ACCEPTING, .waited_ms = 9,
		    .accepting_ms = 1000, .pages = UINT64_MAX,
		    .link_rate = 1 }, true },
		/* But not for ever. */
		{ { .state = FREE_PAGE_ACCEPTING, .waited_ms = 60000 }, false },
		{ { .state = FREE_PAGE_ACCEPTING,
		    .waited_ms = UINT64_MAX }, false },
		{ { .state = (enum free_page_state)77 }, false },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(policy_should_wait(&table[i].stats),
				 table[i].wait);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expected_downtime),
		cmocka_unit_test(test_when_to_stop),
		cmocka_unit_test(test_stopping_is_monotonous),
		cmocka_unit_test(test_when_to_wait),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
