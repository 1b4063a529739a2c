// SPDX-License-Identifier: MIT
/* Translation of guest addresses: edges, holes, wrap-around. */
#include "unit.h"

#define MiB 0x100000ull
#define HIGH 0x100000000ull

/* [0, 1 MiB), hole, [4 GiB, 4 GiB + 1 MiB), and one that touches it. */
static struct guest_memory memory;

static int setup(void **state)
{
	memset(&memory, 0, sizeof(memory));
	memory_add(&memory, 0, MiB);
	memory_add(&memory, HIGH, MiB);
	memory_add(&memory, HIGH + MiB, 4096);
	memory_finish(&memory);
	return 0;
}

static int teardown(void **state)
{
	memory_delete(&memory);
	return 0;
}

static uint8_t *span(uint64_t start, uint64_t length)
{
	return guest_memory_span(&memory, (struct gpa){ start }, length);
}

static int add(struct guest_memory *to, uint64_t start, uint64_t size)
{
	static uint8_t byte;
	struct memory_region region = { { start }, size, &byte };

	return guest_memory_add_region(to, region);
}

static void test_regions_that_are_refused(void **state)
{
	struct guest_memory own = { .regions = 0 };

	assert_int_equal(add(&own, 0, 0), -1);
	assert_int_equal(add(&own, 1, 4096), -1);
	assert_int_equal(add(&own, 0, 4097), -1);
	assert_int_equal(add(&own, UINT64_MAX - 4095, 4096), -1);
	assert_int_equal(add(&own, 8192, UINT64_MAX - 4095), -1);
	assert_int_equal(own.regions, 0);

	assert_int_equal(add(&own, 8192, 8192), 0);
	assert_int_equal(add(&own, 8192, 8192), -1);
	assert_int_equal(add(&own, 12288, 8192), -1);
	assert_int_equal(add(&own, 0, 4096), -1);
	assert_int_equal(add(&own, 16384, 4096), 0);
	assert_int_equal(add(&own, 32768, 4096), 0);
	assert_int_equal(add(&own, 1ull << 62, 4096), 0);
	assert_int_equal(add(&own, 1ull << 63, 4096), -1);
	assert_int_equal(own.regions, GUEST_MEMORY_MAX_REGIONS);
	assert_int_equal(own.size, 8192 + 3 * 4096);
	assert_int_equal(own.frames, (1ull << 50) + 1);
}

static void test_span_within_a_region(void **state)
{
	uint8_t *low = memory.region[0].host;
	uint8_t *high = memory.region[1].host;

	assert_ptr_equal(span(0, 1), low);
	assert_ptr_equal(span(0, MiB), low);
	assert_ptr_equal(span(MiB - 1, 1), low + MiB - 1);
	assert_ptr_equal(span(HIGH, MiB), high);
	assert_ptr_equal(span(HIGH + 5, 7), high + 5);
	assert_ptr_equal(span(HIGH + MiB, 4096), memory.region[2].host);
}

static void test_span_outside(void **state)
{
	assert_null(span(0, 0));
	assert_null(span(0, MiB + 1));
	assert_null(span(MiB - 1, 2));
	assert_null(span(MiB, 1));
	assert_null(span(HIGH - 1, 1));
	assert_null(span(HIGH - 1, 2));
	assert_null(span(HIGH + MiB + 4096, 1));
	assert_null(span(0, HIGH + MiB));
}

static void test_span_over_two_regions_that_touch(void **state)
{
	assert_null(span(HIGH + MiB - 1, 2));
	assert_non_null(span(HIGH + MiB - 1, 1));
}

static void test_span_that_wraps(void **state)
{
	assert_null(span(UINT64_MAX, 1));
	assert_null(span(UINT64_MAX, 2));
	assert_null(span(UINT64_MAX - 4095, 8192));
	assert_null(span(1, UINT64_MAX));
	assert_null(span(HIGH, UINT64_MAX));
	assert_null(span(HIGH + 1, UINT64_MAX - HIGH));
}

struct part {
	uint64_t start, length;
};

/* Walk a span the way callers do and collect its parts. */
static unsigned int walk(uint64_t start, uint64_t length, struct part *part,
			 unsigned int max)
{
	unsigned int n = 0;
	struct gpa at;
	uint64_t here;
	uint64_t skipped;
	uint8_t *p;

	while (length) {
		at.value = start;
		here = length;
		p = guest_memory_clip(&memory, &at, &here);
		if (!p) {
			assert_int_equal(here, 0);
			break;
		}
		assert_ptr_equal(p, span(at.value, here));
		assert_true(n < max);
		part[n++] = (struct part){ at.value, here };
		skipped = at.value - start;
		assert_true(skipped + here <= length);
		start = at.value + here;
		length -= skipped + here;
	}
	return n;
}

static void test_clip_walks_regions_and_hole(void **state)
{
	struct part part[4];

	assert_int_equal(walk(100, HIGH + 2 * MiB, part, 4), 3);
	assert_int_equal(part[0].start, 100);
	assert_int_equal(part[0].length, MiB - 100);
	assert_int_equal(part[1].start, HIGH);
	assert_int_equal(part[1].length, MiB);
	assert_int_equal(part[2].start, HIGH + MiB);
	assert_int_equal(part[2].length, 4096);
}

static void test_clip_begins_in_the_hole(void **state)
{
	struct part part[4];

	assert_int_equal(walk(MiB + 3, HIGH, part, 4), 2);
	assert_int_equal(part[0].start, HIGH);
	assert_int_equal(part[0].length, MiB);
	assert_int_equal(part[1].length, 3);

	assert_int_equal(walk(HIGH - 1, 2, part, 4), 1);
	assert_int_equal(part[0].start, HIGH);
	assert_int_equal(part[0].length, 1);
}

static void test_clip_finds_nothing(void **state)
{
	struct part part[1];

	assert_int_equal(walk(MiB, HIGH - MiB, part, 1), 0);
	assert_int_equal(walk(HIGH - 1, 1, part, 1), 0);
	assert_int_equal(walk(HIGH + MiB + 4096, UINT64_MAX, part, 1), 0);
	assert_int_equal(walk(UINT64_MAX, 1, part, 1), 0);
}

static void test_clip_of_length_zero(void **state)
{
	struct gpa at = { 0 };
	uint64_t length = 0;

	assert_null(guest_memory_clip(&memory, &at, &length));
	assert_int_equal(length, 0);
}

static void test_clip_of_a_span_that_wraps(void **state)
{
	struct part part[4];

	/* Never reaches what lies below its start. */
	assert_int_equal(walk(UINT64_MAX - 4095, MiB, part, 4), 0);
	assert_int_equal(walk(HIGH + MiB, UINT64_MAX, part, 4), 1);
	assert_int_equal(part[0].start, HIGH + MiB);
	assert_int_equal(part[0].length, 4096);
}

static void test_memory_without_regions(void **state)
{
	struct guest_memory none = { .regions = 0 };
	struct gpa at = { 0 };
	uint64_t length = 4096;

	assert_null(guest_memory_span(&none, at, 1));
	assert_null(guest_memory_clip(&none, &at, &length));
	assert_int_equal(length, 0);
}

/* The address of each byte of RAM, and of no other, translates. */
static void test_spans_against_model(void **state)
{
	struct rng rng = rng_start("guest_memory");
	static const uint64_t edge[] = {
		0, MiB, HIGH, HIGH + MiB, HIGH + MiB + 4096, 0,
	};
	uint64_t start, length, end;
	bool fits;
	int i;

	for (i = 0; i < 100000; i++) {
		start = edge[rng_below(&rng, ARRAY_SIZE(edge))] +
			rng_below(&rng, 9) - 4;
		length = edge[rng_below(&rng, ARRAY_SIZE(edge))] +
			 rng_below(&rng, 9) - 4;
		fits = !__builtin_add_overflow(start, length, &end) && length &&
		       (end <= MiB ||
			(start >= HIGH && end <= HIGH + MiB) ||
			(start >= HIGH + MiB && end <= HIGH + MiB + 4096));
		assert_int_equal(span(start, length) != NULL, fits);
	}
}

static void test_mark_dirty(void **state)
{
	struct gpa at = { HIGH + 4095 };

	guest_memory_mark_dirty(&memory, at, 0);
	assert_true(page_set_is_empty(&memory.written));
	guest_memory_mark_dirty(&memory, at, 1);
	assert_int_equal(page_set_count(&memory.written), 1);
	guest_memory_mark_dirty(&memory, at, 2);
	assert_int_equal(page_set_count(&memory.written), 2);
	assert_true(page_set_contains(&memory.written, HIGH / 4096));
	assert_true(page_set_contains(&memory.written, HIGH / 4096 + 1));
	/* The very last byte of RAM. */
	at.value = HIGH + MiB + 4095;
	guest_memory_mark_dirty(&memory, at, 1);
	assert_true(page_set_contains(&memory.written, memory.frames - 1));
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_regions_that_are_refused),
		UNIT(test_span_within_a_region),
		UNIT(test_span_outside),
		UNIT(test_span_over_two_regions_that_touch),
		UNIT(test_span_that_wraps),
		UNIT(test_clip_walks_regions_and_hole),
		UNIT(test_clip_begins_in_the_hole),
		UNIT(test_clip_finds_nothing),
		UNIT(test_clip_of_length_zero),
		UNIT(test_clip_of_a_span_that_wraps),
		UNIT(test_memory_without_regions),
		UNIT(test_spans_against_model),
		UNIT(test_mark_dirty),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
