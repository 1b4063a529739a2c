// SPDX-License-Identifier: MIT
/*
 * Sources that do not keep to docs/spec/stream.md, record by record: what a
 * destination is sent ends with one line that says why, and nothing runs.
 */
#include "stream_fixture.h"

/* A case that is one call. */
#define MAKER(name, call)                                                      \
	static void name(void)                                                 \
	{                                                                      \
		call;                                                          \
	}

static void bad_magic(void)
{
	put_start();
	stream.data[7] = 'U';
	put_finish();
}

static void bad_oldest(void)
{
	put_start();
	stream.data[12] = 2;
	put_finish();
}

static void bad_oldest_at_most(void)
{
	put_start();
	memset(stream.data + 12, 0xff, 4);
	put_finish();
}

static void empty(void)
{
}

static void config_too_long(void)
{
	put_header(1, 1, 0);
	put_record(STREAM_CONFIG, STREAM_CONFIG_MAX + 1);
	put_zeroes(STREAM_CONFIG_MAX + 1);
}

static void config_of_all_there_is(void)
{
	put_header(1, 1, 0);
	put_record(STREAM_CONFIG, UINT64_MAX);
}

static void config_empty(void)
{
	put_header(1, 1, 0);
	put_record(STREAM_CONFIG, 0);
	put_record(STREAM_CPUID, 0);
	put_finish();
}

static void cpuid_before_config(void)
{
	put_header(1, 1, 0);
	put_record(STREAM_CPUID, 0);
	put_record(STREAM_CONFIG, 0);
}

static void cpuid_too_long(void)
{
	put_start();
	le64_store(stream.data + stream.used - CPUID_BYTES - 8,
		   STREAM_CONFIG_MAX + 1);
	put_zeroes(STREAM_CONFIG_MAX);
}

static void optional_before_config(void)
{
	put_header(1, 1, 0);
	put_record(0x80000002, 0);
}

static void config_twice(void)
{
	put_start();
	put_record(STREAM_CONFIG, 0);
	put_finish();
}

static void unknown_type(void)
{
	put_start();
	put_record(0x12, 0);
	put_finish();
}

static void type_of_an_answer(void)
{
	put_start();
	put_record(STREAM_READY, 0);
	put_finish();
}

static void optional_too_long(void)
{
	put_start();
	put_record(0x80001234, (1 << 20) + 1);
}

static void optional_of_all_there_is(void)
{
	put_start();
	put_record(0x80001234, UINT64_MAX);
}

static void pages_bad(uint64_t first, uint64_t count, uint64_t length)
{
	put_start();
	put_record(STREAM_PAGES, length);
	put_run(first, count);
	put_zeroes(8192);
	put_finish();
}

MAKER(pages_none, pages_bad(0, 0, 16))
MAKER(pages_without_a_run, pages_bad(0, 1, 15))
MAKER(pages_of_length_zero, pages_bad(0, 1, 0))
MAKER(pages_too_many, pages_bad(0, 1025, 16 + 1025 * 4096))
MAKER(pages_cut, pages_bad(0, 2, 16 + 4096))
MAKER(pages_too_long, pages_bad(0, 1, 16 + 8192))
MAKER(pages_not_whole, pages_bad(0, 1, 16 + 4095))
MAKER(pages_in_the_hole, pages_bad(LOW_PAGES, 1, 16 + 4096))
MAKER(pages_into_the_hole, pages_bad(LOW_PAGES - 1, 2, 16 + 8192))
MAKER(pages_before_the_region, pages_bad(HIGH_FIRST - 1, 2, 16 + 8192))
MAKER(pages_behind, pages_bad(FRAMES, 1, 16 + 4096))
MAKER(pages_over_the_end, pages_bad(FRAMES - 1, 2, 16 + 8192))
/* First frame times 4096 is 0 again. */
MAKER(pages_that_wrap, pages_bad(1ull << 52, 1, 16 + 4096))
MAKER(pages_that_wrap_to_the_start, pages_bad(UINT64_MAX, 2, 16 + 8192))
MAKER(pages_whose_count_wraps, pages_bad(0, (1ull << 52) + 1, 16 + 4096))
/* 16 + count * 4096 is 16 in 64 bits. */
MAKER(pages_whose_length_wraps, pages_bad(0, 1ull << 52, 16))
MAKER(pages_of_all_there_is, pages_bad(0, 1, UINT64_MAX))

static void zero_bad(uint64_t first, uint64_t count)
{
	put_start();
	put_record(STREAM_ZERO, 32);
	put_run(0, 1);
	put_run(first, count);
	put_finish();
}

MAKER(zero_none, zero_bad(0, 0))
MAKER(zero_in_the_hole, zero_bad(LOW_PAGES, 1))
MAKER(zero_over_the_hole, zero_bad(0, FRAMES))
MAKER(zero_that_wraps, zero_bad(UINT64_MAX, 2))
MAKER(zero_whose_count_wraps, zero_bad(0, 1ull << 52))
MAKER(zero_whose_sum_wraps, zero_bad(HIGH_FIRST, (1ull << 52) - HIGH_FIRST + 1))

static void zero_empty(void)
{
	put_start();
	put_record(STREAM_ZERO, 0);
	put_finish();
}

static void zero_not_whole(void)
{
	put_start();
	put_record(STREAM_ZERO, 24);
	put_run(0, 1);
	put_run(0, 1);
	put_finish();
}

static void zero_too_many(void)
{
	unsigned int i;

	put_start();
	put_record(STREAM_ZERO, (STREAM_RUNS_MAX + 1) * 16);
	for (i = 0; i <= STREAM_RUNS_MAX; i++)
		put_run(0, 1);
	put_finish();
}

static void announce_bad(uint64_t first, uint64_t count)
{
	put_start();
	put_record(STREAM_ANNOUNCE, 16);
	put_run(first, count);
	put_finish();
}

MAKER(announce_none, announce_bad(0, 0))
MAKER(announce_too_many, announce_bad(0, STREAM_PAGES_MAX + 1))
MAKER(announce_over_the_hole, announce_bad(LOW_PAGES - 1, 2))
MAKER(announce_whose_count_wraps, announce_bad(0, 1ull << 52 | 1))

static void announce_empty(void)
{
	put_start();
	put_record(STREAM_ANNOUNCE, 0);
	put_finish();
}

static void announce_not_whole(void)
{
	put_start();
	put_record(STREAM_ANNOUNCE, 24);
	put_run(LOW_PAGES, 1);
	put_run(0, 1);
	put_finish();
}

static void announce_behind_memory(void)
{
	put_start();
	put_one_state();
	put_record(STREAM_ANNOUNCE, 16);
	put_run(0, 1);
	put_finish();
}

static void state_bad(uint64_t length)
{
	put_start();
	put_record(STREAM_STATE, length);
	put_zeroes(64);
}

MAKER(state_empty, state_bad(0))
MAKER(state_short, state_bad(7))
MAKER(state_too_long, state_bad(STREAM_STATE_MAX + 1))
MAKER(state_of_all_there_is, state_bad(UINT64_MAX))

static void state_too_often(void)
{
	unsigned int i;

	put_start();
	for (i = 0; i <= STREAM_STATES_MAX; i++)
		put_one_state();
	put_end();
	put_record(STREAM_COMMIT, 0);
}

static void verify_bad(uint32_t flags, uint64_t length, uint64_t first,
		       uint64_t count)
{
	put_start();
	le32_store(stream.data + 16, flags);
	put_record(STREAM_VERIFY, length);
	put_run(first, count);
	put_zeroes(64);
	put_finish();
}

MAKER(verify_not_announced, verify_bad(0, 24, 0, 1))
MAKER(verify_empty, verify_bad(1, 0, 0, 1))
MAKER(verify_not_whole, verify_bad(1, 23, 0, 1))
MAKER(verify_too_many, verify_bad(1, 24 * (STREAM_RUNS_MAX + 1), 0, 1))
MAKER(verify_none, verify_bad(1, 24, 0, 0))
MAKER(verify_outside, verify_bad(1, 24, LOW_PAGES - 1, 2))
MAKER(verify_that_wraps, verify_bad(1, 24, 1ull << 52, 1))
MAKER(verify_differs, verify_bad(1, 24, 0, 1))

static void end_short(void)
{
	put_start();
	put_record(STREAM_END, 7);
	put_zeroes(64);
}

static void end_long(void)
{
	put_start();
	put_record(STREAM_END, 9);
	put_zeroes(64);
}

static void end_twice(void)
{
	put_start();
	put_one_state();
	put_end();
	put_end();
	put_record(STREAM_COMMIT, 0);
}

static void commit_before_end(void)
{
	put_start();
	put_record(STREAM_COMMIT, 0);
	put_finish();
}

static void commit_missing(void)
{
	put_start();
	put_one_state();
	put_end();
}

static void commit_not_empty(void)
{
	put_start();
	put_one_state();
	put_end();
	put_record(STREAM_COMMIT, 1);
	put_zeroes(1);
}

static void pages_instead_of_commit(void)
{
	put_start();
	put_one_state();
	put_end();
	put_pages(0, 1);
}

#define CASE(make, says) { #make, make, says }

static const struct {
	const char *name;
	void (*make)(void);
	const char *says; /* in the message */
} refused[] = {
	CASE(bad_magic, "not an aerostat"),
	CASE(bad_oldest, "needs a reader of version 2"),
	CASE(bad_oldest_at_most, "needs a reader of version 4294967295"),
	CASE(empty, "no header"),
	CASE(config_too_long, "0x1 is out of place or too long"),
	CASE(config_of_all_there_is, "0x1 is out of place or too long"),
	CASE(config_empty, "configuration"),
	CASE(cpuid_before_config, "0x2 is out of place"),
	CASE(cpuid_too_long, "0x2 is out of place or too long"),
	CASE(optional_before_config, "0x80000002 is out of place"),
	CASE(config_twice, "0x1 is of no known type"),
	CASE(unknown_type, "0x12 is of no known type"),
	CASE(type_of_an_answer, "0x80 is of no known type"),
	CASE(optional_too_long, "0x80001234"),
	CASE(optional_of_all_there_is, "0x80001234"),
	CASE(pages_none, "0x10"),
	CASE(pages_without_a_run, "0x10 is cut short"),
	CASE(pages_of_length_zero, "0x10 is cut short"),
	CASE(pages_too_many, "0x10"),
	CASE(pages_cut, "0x10"),
	CASE(pages_too_long, "0x10"),
	CASE(pages_not_whole, "0x10"),
	CASE(pages_in_the_hole, "0x10"),
	CASE(pages_into_the_hole, "0x10"),
	CASE(pages_before_the_region, "0x10"),
	CASE(pages_behind, "0x10"),
	CASE(pages_over_the_end, "0x10"),
	CASE(pages_that_wrap, "0x10"),
	CASE(pages_that_wrap_to_the_start, "0x10"),
	CASE(pages_whose_count_wraps, "0x10"),
	CASE(pages_whose_length_wraps, "0x10"),
	CASE(pages_of_all_there_is, "0x10"),
	CASE(zero_none, "0x11"),
	CASE(zero_in_the_hole, "0x11"),
	CASE(zero_over_the_hole, "0x11"),
	CASE(zero_that_wraps, "0x11"),
	CASE(zero_whose_count_wraps, "0x11"),
	CASE(zero_whose_sum_wraps, "0x11"),
	CASE(zero_empty, "0x11 has a bad length"),
	CASE(zero_not_whole, "0x11 has a bad length"),
	CASE(zero_too_many, "0x11 has a bad length"),
	CASE(announce_none, "0x80000002 names pages"),
	CASE(announce_too_many, "0x80000002 names pages"),
	CASE(announce_over_the_hole, "0x80000002 names pages"),
	CASE(announce_whose_count_wraps, "0x80000002 names pages"),
	CASE(announce_empty, "0x80000002 has a bad length"),
	CASE(announce_not_whole, "0x80000002 has a bad length"),
	CASE(announce_behind_memory, "0x80000002 is out of place"),
	CASE(state_empty, "0x20 has a bad length"),
	CASE(state_short, "0x20 has a bad length"),
	CASE(state_too_long, "0x20 has a bad length"),
	CASE(state_of_all_there_is, "0x20 has a bad length"),
	CASE(state_too_often, "0x20 has a bad length or comes too often"),
	CASE(verify_not_announced, "0x30 is out of place"),
	CASE(verify_empty, "0x30"),
	CASE(verify_not_whole, "0x30"),
	CASE(verify_too_many, "0x30"),
	CASE(verify_none, "0x30"),
	CASE(verify_outside, "0x30 names pages that are not RAM"),
	CASE(verify_that_wraps, "0x30 names pages that are not RAM"),
	CASE(verify_differs, "verification failed"),
	CASE(end_short, "0x3f has a bad length"),
	CASE(end_long, "0x3f has a bad length"),
	CASE(end_twice, "0x3f came instead of COMMIT"),
	CASE(commit_before_end, "0x40 is of no known type"),
	CASE(commit_missing, "did not commit"),
	CASE(commit_not_empty, "0x40 came instead of COMMIT"),
	CASE(pages_instead_of_commit, "0x10 came instead of COMMIT"),
};

static void test_what_is_refused(void **state)
{
	struct answers answers;
	struct page_set there;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		forget();
		refused[i].make();
		answers = receive(stream.data, stream.used);
		if (world->rc == 0 ||
		    !strstr(world->err.message, refused[i].says))
			print_error("%s: %s\n", refused[i].name,
				    world->err.message);
		check_refused(&answers);
		assert_non_null(strstr(world->err.message, refused[i].says));
		/* None of these brings memory but the hash of a zero page. */
		there = vm_populated(&world->there);
		assert_true(page_set_count(&there) <= 1);
		page_set_free(&there);
	}
	forget();
}

/* Section 1 gives an order within step 4, and a WAITING its place before it;
 * section 4 says that it is empty. */
static void test_what_is_out_of_order(void **state)
{
	struct answers answers;

	put_start();
	put_one_state();
	put_pages(0, 1);
	put_finish();
	answers = receive(stream.data, stream.used);
	check_refused(&answers);
	forget();

	put_start();
	put_record(STREAM_WAITING, 5);
	put_zeroes(5);
	put_finish();
	answers = receive(stream.data, stream.used);
	check_refused(&answers);
	forget();

	put_start();
	put_one_state();
	put_record(STREAM_WAITING, 0);
	put_finish();
	answers = receive(stream.data, stream.used);
	check_refused(&answers);
	forget();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_what_is_out_of_order),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, destination_setup,
				      destination_teardown);
}
