// SPDX-License-Identifier: MIT
/*
 * What guest memory is made of: each kind made, filled and measured against the
 * same expectations.
 */
#include "backing_fixture.h"

#include <errno.h>

#define LOW_PAGES (BACKING_LOW_LIMIT / GUEST_PAGE_SIZE)
#define HIGH_FIRST (BACKING_HIGH_START / GUEST_PAGE_SIZE)

/* ------------------------------------------------------------ creation --- */

static void test_names(void **state)
{
	enum backing_kind kind = BACKING_KINDS;
	unsigned int i;

	assert_string_equal(backing_kind_name(BACKING_ANONYMOUS), "anonymous");
	assert_string_equal(backing_kind_name(BACKING_MEMFD), "memfd");
	assert_string_equal(backing_kind_name(BACKING_HUGETLB), "hugetlb");
	assert_string_equal(backing_kind_name(BACKING_KINDS), "unknown");
	for (i = 0; i < BACKING_KINDS; i++) {
		assert_int_equal(backing_kind_parse(backing_kind_name(i),
						    &kind), 0);
		assert_int_equal(kind, i);
	}
	kind = BACKING_MEMFD;
	assert_int_equal(backing_kind_parse("", &kind), -1);
	assert_int_equal(backing_kind_parse("memfd2", &kind), -1);
	assert_int_equal(backing_kind_parse("Hugetlb", &kind), -1);
	assert_int_equal(backing_kind_parse("unknown", &kind), -1);
	assert_int_equal(kind, BACKING_MEMFD);
}

static void refused(enum backing_kind kind, uint64_t size, const char *line)
{
	struct guest_memory memory;
	struct error err = { "" };

	assert_int_equal(backing_create(&memory, kind, size, &err), -1);
	assert_string_equal(err.message, line);
	assert_int_equal(memory.regions, 0);
	assert_int_equal(memory.backing, BACKING_ANONYMOUS);
	assert_null(memory.written.words);
	backing_destroy(&memory); /* harmless */
}

static void test_sizes_that_are_refused(void **state)
{
	unsigned int i;

	for (i = 0; i < BACKING_KINDS; i++) {
		refused(i, 0, "memory of 0 bytes: it must be a multiple of 4K "
			"from 32M to 1T");
		refused(i, 32 * MIB - 4096, "memory of 33550336 bytes: it must "
			"be a multiple of 4K from 32M to 1T");
		refused(i, 64 * MIB + 1, "memory of 67108865 bytes: it must be "
			"a multiple of 4K from 32M to 1T");
		refused(i, (1ull << 40) + 4096, "memory of 1099511631872 "
			"bytes: it must be a multiple of 4K from 32M to 1T");
	}
	refused(BACKING_HUGETLB, 33 * MIB, "memory of 34603008 bytes: in huge "
		"pages it must be a multiple of 2M; change the size, or take "
		"another backing");
	refused(BACKING_KINDS, 64 * MIB, "memory of kind 3 is not known here");
}

static void refused_for_want_of_pages(uint64_t size)
{
	uint64_t before = free_huge_pages();
	char line[256];

	snprintf(line, sizeof(line), "memory of %llu MiB needs %llu huge pages "
		 "of 2 MiB and this host has %llu free: raise vm.nr_hugepages, "
		 "or take another backing", (unsigned long long)(size / MIB),
		 (unsigned long long)(size / BACKING_HUGE_PAGE),
		 (unsigned long long)before);
	refused(BACKING_HUGETLB, size, line);
	assert_int_equal(free_huge_pages(), before);
}

/* What others have reserved is not free; nothing stays reserved behind a
 * refusal, be it of the first region or of the second. */
static void test_too_few_huge_pages(void **state)
{
	struct guest_memory other;

	refused_for_want_of_pages(1ull << 40);
	create(&other, BACKING_HUGETLB, 32 * MIB);
	refused_for_want_of_pages(1ull << 40);
	refused_for_want_of_pages((free_huge_pages() + 1) * BACKING_HUGE_PAGE);
	backing_destroy(&other);
}

static void test_small_memory(void **state)
{
	enum backing_kind kind = kind_of(state);
	uint64_t size = kind == BACKING_HUGETLB ? 34 * MIB : 34 * MIB + 12288;
	struct guest_memory memory;
	struct page_run all;
	int file;

	create(&memory, kind, size);
	assert_int_equal(memory.backing, kind);
	assert_int_equal(memory.size, size);
	assert_int_equal(memory.frames, size / GUEST_PAGE_SIZE);
	assert_int_equal(memory.regions, 1);
	assert_int_equal((uintptr_t)memory.region[0].host % BACKING_HUGE_PAGE,
			 0);
	assert_int_equal(backing_page_size(&memory),
			 kind == BACKING_HUGETLB ? 2 * MIB : 4096);
	all = (struct page_run){ 0, memory.frames };
	assert_int_equal(populated_in(&memory, all), 0);
	assert_int_equal(backing_resident(&memory), 0);
	put_value(&memory, 0, 1);
	put_value(&memory, memory.frames - 1, 2);
	assert_int_equal(populated_in(&memory, all), 2 * host_pages(&memory));
	assert_int_equal(backing_resident(&memory),
			 2 * backing_page_size(&memory));
	file = memory.file;
	backing_destroy(&memory);
	assert_int_equal(memory.regions, 0);
	if (kind != BACKING_ANONYMOUS) {
		assert_int_equal(fcntl(file, F_GETFD), -1);
		assert_int_equal(errno, EBADF);
	}
}

/* Both sides of the hole: one file, and no page of it in both regions. */
static void test_memory_above_the_hole(void **state)
{
	const uint64_t at[] = { 0, LOW_PAGES - 1, HIGH_FIRST,
				HIGH_FIRST + 64 * MIB / 4096 - 1 };
	struct page_set expected, found;
	struct guest_memory memory;
	struct page_run gone;
	uint64_t each, i;

	create(&memory, kind_of(state), LARGE);
	each = host_pages(&memory);
	assert_int_equal(memory.regions, 2);
	assert_int_equal(memory.region[1].start.value, BACKING_HIGH_START);
	assert_int_equal(memory.size, LARGE);
	found = populated(&memory);
	assert_true(page_set_is_empty(&found));
	page_set_free(&found);

	assert_int_equal(page_set_create(&expected, memory.frames, NULL), 0);
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		put_value(&memory, at[i], i + 1);
		page_set_add(&expected, (struct page_run){ at[i] & ~(each - 1),
							   each });
	}
	found = populated(&memory);
	assert_int_equal(page_set_count(&found), 4 * each);
	assert_int_equal(page_set_intersect_count(&found, &expected), 4 * each);
	assert_int_equal(backing_resident(&memory), 4 * each * 4096);
	for (i = 0; i < ARRAY_SIZE(at); i++)
		assert_true(has_value(&memory, at[i], i + 1));
	page_set_free(&found);
	page_set_free(&expected);

	/* A discard above the hole is one above the hole. */
	assert_int_equal(backing_discard(&memory,
					 (struct page_run){ HIGH_FIRST, 512 },
					 &gone), 0);
	assert_int_equal(gone.first, HIGH_FIRST);
	assert_int_equal(gone.count, 512);
	assert_int_equal(populated_in(&memory, gone), 0);
	assert_int_equal(backing_resident(&memory), 3 * each * 4096);
	assert_true(has_value(&memory, HIGH_FIRST, 0));
	assert_true(has_value(&memory, LOW_PAGES - 1, 2));
	assert_true(has_value(&memory, at[3], 4));
	backing_destroy(&memory);
}

/* With huge pages, as a machine has them. */
static void test_usage(void **state)
{
	struct guest_memory memory;
	struct backing_usage usage;
	struct page_run gone;

	keep_small(false);
	create(&memory, kind_of(state), SMALL);
	usage = backing_usage(&memory);
	assert_int_equal(usage.resident + usage.huge, 0);
	memset(page_at(&memory, 0), 1, SMALL);
	usage = backing_usage(&memory);
	assert_int_equal(usage.resident, SMALL);
	assert_int_equal(usage.huge, kind_of(state) == BACKING_MEMFD ?
					     0 : SMALL);
	assert_int_equal(backing_discard(&memory, (struct page_run){ 512, 1024 },
					 &gone), 0);
	usage = backing_usage(&memory);
	assert_int_equal(usage.resident, SMALL - 4 * MIB);
	assert_int_equal(usage.huge, kind_of(state) == BACKING_MEMFD ?
					     0 : SMALL - 4 * MIB);
	backing_destroy(&memory);
	keep_small(true);
}

/* What is in small pages anyway has no blocks; keep_pages_small() has seen to
 * it that anonymous memory is. */
static void test_blocks(void **state)
{
	struct guest_memory memory;

	create(&memory, kind_of(state), SMALL);
	assert_int_equal(backing_block(&memory),
			 kind_of(state) == BACKING_HUGETLB ? 512 : 1);
	backing_destroy(&memory);
}

static void test_populate(void **state)
{
	const struct page_run run = { 511, 514 };
	struct guest_memory memory;
	uint64_t each, i;

	create(&memory, kind_of(state), LARGE);
	each = host_pages(&memory);
	assert_true(backing_can_populate(&memory));
	put_value(&memory, 700, 7);
	assert_int_equal(backing_populate(&memory, run), 0);
	assert_int_equal(backing_resident(&memory),
			 (each == 1 ? run.count : 3 * each) * 4096);
	assert_int_equal(populated_in(&memory, run), run.count);
	for (i = 0; i < run.count; i++)
		assert_true(has_value(&memory, run.first + i,
				      run.first + i == 700 ? 7 : 0));
	assert_int_equal(backing_populate(&memory, (struct page_run){
				LOW_PAGES - 1, 2 }), -EINVAL);
	backing_destroy(&memory);
}

static void test_huge_pages_are_anonymous_memorys(void **state)
{
	struct guest_memory memory;
	struct page_run all;

	create(&memory, kind_of(state), SMALL);
	all = (struct page_run){ 0, memory.frames };
	put_value(&memory, 7, 7);
	assert_int_equal(backing_set_huge(&memory, all, false), 0);
	assert_int_equal(backing_set_huge(&memory, all, true), 0);
	assert_true(has_value(&memory, 7, 7));
	backing_destroy(&memory);
}

static bool can_populate(void)
{
	struct guest_memory memory;
	bool can;

	create(&memory, BACKING_ANONYMOUS, SMALL);
	can = backing_can_populate(&memory);
	backing_destroy(&memory);
	return can;
}

#define MOST_MAPPINGS "/proc/sys/vm/max_map_count"
#define FRAGMENTED (160ull << 30) /* enough to run out of the usual 65,530 */

static unsigned int mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned int lines = 0;
	int letter;

	assert_non_null(maps);
	while ((letter = getc(maps)) != EOF)
		lines += letter == '\n';
	fclose(maps);
	return lines;
}

/* A guest of that size whose memory in use alternates with free memory: it may
 * not take the last mapping of the process that receives it. */
static void test_more_runs_than_mappings(void **state)
{
	struct guest_memory memory;
	struct page_run run = { 0, HUGE_PAGES };

	create(&memory, BACKING_ANONYMOUS, FRAGMENTED);
	assert_int_equal(backing_set_huge(&memory, (struct page_run){
							   0, memory.frames },
					  false), 0);
	for (; run.first < memory.frames; run.first += 2 * HUGE_PAGES)
		backing_allow_huge(&memory, run);
	assert_true(mappings() < 30000);
	backing_destroy(&memory);
}

/* Does anonymous memory of this size come in huge pages now? */
static bool has_huge_pages(void)
{
	struct guest_memory memory;
	bool has;

	keep_small(false);
	create(&memory, BACKING_ANONYMOUS, SMALL);
	memset(page_at(&memory, 0), 1, SMALL);
	has = backing_usage(&memory).huge == SMALL;
	backing_destroy(&memory);
	keep_small(true);
	return has;
}

/* What this host cannot show. */
static void skip_some(struct CMUnitTest *tests, size_t count)
{
	if (access(POOL "free_hugepages", R_OK))
		skip_tests(tests, count, "test_too_few",
			   "this kernel has no huge pages of 2 MiB");
	if (read_number(POOL "nr_overcommit_hugepages", ""))
		skip_tests(tests, count, "test_too_few",
			   "this host makes huge pages on demand");
	if (!has_huge_pages())
		skip_tests(tests, count, "test_usage anonymous",
			   "this host makes no huge pages, or had none");
	if (!can_populate())
		skip_tests(tests, count, "test_populate",
			   "this kernel has no MADV_POPULATE_WRITE");
	if (read_number(MOST_MAPPINGS, "") > FRAGMENTED / BACKING_HUGE_PAGE)
		skip_tests(tests, count, "test_more_runs",
			   "this host allows more mappings than it makes");
	skip_without_huge_pages(tests, count, "the_hole hugetlb", LARGE);
	skip_without_huge_pages(tests, count, "test_populate hugetlb", LARGE);
	skip_without_huge_pages(tests, count, "hugetlb", SMALL);
	skip_without_huge_pages(tests, count, "test_too_few", 32 * MIB);
}

int main(void)
{
	static struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_sizes_that_are_refused),
		cmocka_unit_test(test_too_few_huge_pages),
		with_each_kind(test_small_memory),
		with_each_kind(test_memory_above_the_hole),
		with_each_kind(test_usage),
		with_each_kind(test_blocks),
		cmocka_unit_test(test_more_runs_than_mappings),
		with_each_kind(test_populate),
		with_each_kind(test_huge_pages_are_anonymous_memorys),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	keep_pages_small();
	fill_pool(LARGE / BACKING_HUGE_PAGE);
	skip_some(tests, ARRAY_SIZE(tests));
	return cmocka_run_group_tests(tests, NULL, backing_teardown);
}
