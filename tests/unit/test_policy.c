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
		{ { FREE_PAGE_NONE, 0, 0 }, false },
		{ { FREE_PAGE_COMPLETE, 0, 0 }, false },
		/* Asked: two seconds to answer. */
		{ { FREE_PAGE_REQUESTED, 0, 0 }, true },
		{ { FREE_PAGE_REQUESTED, 1999, 1999 }, true },
		{ { FREE_PAGE_REQUESTED, 2000, 0 }, false },
		/* Hinting: as long as hints come. */
		{ { FREE_PAGE_ACCEPTING, 0, 0 }, true },
		{ { FREE_PAGE_ACCEPTING, 59999, 1999 }, true },
		{ { FREE_PAGE_ACCEPTING, 2500, 2000 }, false },
		/* But not for ever. */
		{ { FREE_PAGE_ACCEPTING, 60000, 0 }, false },
		{ { FREE_PAGE_ACCEPTING, UINT64_MAX, 0 }, false },
		{ { (enum free_page_state)77, 0, 0 }, false },
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
