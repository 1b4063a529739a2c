// SPDX-License-Identifier: MIT
/* What guest memory is made of: each kind against the same expectations. */
#include "backing_fixture.h"

#include <errno.h>
#include <sys/uio.h>

#define SMALL (64 * MIB)
#define SMALL_PAGES (SMALL / GUEST_PAGE_SIZE)
#define LOW_PAGES (BACKING_LOW_LIMIT / GUEST_PAGE_SIZE)
#define HIGH_FIRST (BACKING_HIGH_START / GUEST_PAGE_SIZE)
#define LARGE (BACKING_LOW_LIMIT + 64 * MIB) /* two regions */

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

/* ------------------------------------------------------------- discard --- */

static struct page_run rounded_inwards(uint64_t each, struct page_run run)
{
	uint64_t first = (run.first + each - 1) / each * each;
	uint64_t end = (run.first + run.count) / each * each;

	return (struct page_run){ first, first < end ? end - first : 0 };
}

/* In memory of which the first 16 MiB are written. */
static void check_discard(struct guest_memory *memory, struct page_run run)
{
	const struct page_run written = { 0, 16 * MIB / GUEST_PAGE_SIZE };
	struct page_run want = rounded_inwards(host_pages(memory), run), gone;
	uint64_t page, rss;

	put_values(memory, written, 1);
	assert_int_equal(populated_in(memory, written), written.count);
	rss = backing_resident(memory);
	assert_int_equal(rss, 16 * MIB);

	gone = (struct page_run){ 77, 77 };
	assert_int_equal(backing_discard(memory, run, &gone), 0);
	assert_int_equal(gone.count, want.count);
	if (want.count)
		assert_int_equal(gone.first, want.first);
	/* Before anything is read: to read may fill a hole. */
	assert_int_equal(populated_in(memory, written),
			 written.count - want.count);
	assert_int_equal(populated_in(memory, want), 0);
	assert_int_equal(backing_resident(memory), rss - want.count * 4096);
	for (page = 0; page < written.count; page++)
		assert_true(has_value(memory, page,
				      page - want.first < want.count ?
					      0 : page + 1));
}

/* R22: whole host pages only. */
static void test_discard(void **state)
{
	static const struct page_run run[] = {
		{ 0, 1 },    { 0, 512 },     { 0, 4096 },   { 511, 1 },
		{ 511, 2 },  { 512, 512 },   { 512, 1024 }, { 513, 511 },
		{ 513, 1 },  { 1, 1023 },    { 1, 1022 },   { 512, 513 },
		{ 511, 514 }, { 700, 100 },  { 700, 1400 }, { 4095, 1 },
		{ 3584, 512 }, { 3000, 1096 },
	};
	struct guest_memory memory;
	unsigned int i;

	create(&memory, kind_of(state), SMALL);
	for (i = 0; i < ARRAY_SIZE(run); i++)
		check_discard(&memory, run[i]);
	backing_destroy(&memory);
}

static void test_discard_of_what_is_not_there(void **state)
{
	struct page_run run = { 1024, 1024 }, gone;
	struct guest_memory memory;

	create(&memory, kind_of(state), SMALL);
	assert_int_equal(backing_discard(&memory, run, &gone), 0);
	assert_int_equal(gone.first, 1024);
	assert_int_equal(gone.count, 1024);
	assert_int_equal(backing_resident(&memory), 0);
	backing_destroy(&memory);
}

static void no_discard(const struct guest_memory *memory, struct page_run run)
{
	struct page_run gone = { 77, 77 };

	assert_int_equal(backing_discard(memory, run, &gone), -EINVAL);
	assert_int_equal(gone.count, 0);
}

/* Not RAM, or in more than one region. */
static void test_discard_outside_a_region(void **state)
{
	struct guest_memory memory;

	create(&memory, kind_of(state), LARGE);
	put_value(&memory, LOW_PAGES - 1, 1);
	put_value(&memory, HIGH_FIRST, 2);
	no_discard(&memory, (struct page_run){ 512, 0 });
	no_discard(&memory, (struct page_run){ LOW_PAGES, 512 });
	no_discard(&memory, (struct page_run){ LOW_PAGES - 512, 1024 });
	no_discard(&memory, (struct page_run){ HIGH_FIRST - 512, 1024 });
	no_discard(&memory, (struct page_run){ 0, memory.frames });
	no_discard(&memory, (struct page_run){ memory.frames - 512, 1024 });
	no_discard(&memory, (struct page_run){ memory.frames, 1 });
	assert_true(has_value(&memory, LOW_PAGES - 1, 1));
	assert_true(has_value(&memory, HIGH_FIRST, 2));
	backing_destroy(&memory);
}

static void check_intact(const struct guest_memory *memory, struct page_run run)
{
	uint64_t i;

	assert_int_equal(populated_in(memory, run), run.count);
	for (i = 0; i < run.count; i++)
		assert_true(has_value(memory, run.first + i, i + 1));
}

/* R27: locked pages stay (EINVAL); a file that cannot be written gets no holes. */
static void test_discard_that_fails(void **state)
{
	struct page_run run = { 512, 1024 }, gone = { 77, 77 };
	enum backing_kind kind = kind_of(state);
	struct guest_memory memory;
	char path[64];
	int file;

	create(&memory, kind, SMALL);
	put_values(&memory, run, 1);
	file = memory.file;
	if (kind == BACKING_ANONYMOUS) {
		assert_true(lock_pages(page_at(&memory, run.first),
				       run.count * 4096));
	} else {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
		memory.file = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(memory.file >= 0);
	}
	assert_int_equal(backing_discard(&memory, run, &gone),
			 kind == BACKING_ANONYMOUS ? -EINVAL : -EBADF);
	assert_int_equal(gone.count, 0);
	check_intact(&memory, run);
	if (kind != BACKING_ANONYMOUS) {
		close(memory.file);
		memory.file = file;
	}
	backing_destroy(&memory);
}

/* The kernel may come to what it cannot discard behind what it could. */
static void test_discard_that_fails_half_way(void **state)
{
	struct page_run run = { 0, 64 }, gone = { 77, 77 };
	struct guest_memory memory;
	uint64_t i;

	create(&memory, BACKING_ANONYMOUS, SMALL);
	put_values(&memory, run, 1);
	assert_true(lock_pages(page_at(&memory, 32), 4096));
	assert_int_equal(backing_discard(&memory, run, &gone), -EINVAL);
	assert_int_equal(gone.count, 0);
	for (i = 0; i < run.count; i++)
		assert_true(has_value(&memory, i, i + 1) ||
			    (i != 32 && has_value(&memory, i, 0)));
	backing_destroy(&memory);
}

/* Every third page, and some runs; more than enough to be worth a batch. */
static unsigned int scattered_runs(struct page_run *run)
{
	unsigned int i;

	for (i = 0; i < BACKING_BATCH; i++)
		run[i] = (struct page_run){ 4ull * i, 1 + i % 3 };
	return BACKING_BATCH;
}

static bool in_runs(const struct page_run *run, unsigned int runs,
		    uint64_t page)
{
	unsigned int i;

	for (i = 0; i < runs; i++)
		if (page - run[i].first < run[i].count)
			return true;
	return false;
}

/* What is said to be gone is gone, and nothing else. */
static void check_batch(const struct guest_memory *memory,
			const struct page_run *run, unsigned int runs,
			uint64_t written)
{
	uint64_t page;

	for (page = 0; page < written; page++)
		assert_true(has_value(memory, page,
				      in_runs(run, runs, page) ? 0 : page + 1));
}

static void test_batch_of_runs(void **state)
{
	const struct page_run all = { 0, 4 * BACKING_BATCH };
	struct page_run run[BACKING_BATCH];
	unsigned int runs = scattered_runs(run);
	struct guest_memory memory;

	create(&memory, BACKING_ANONYMOUS, SMALL);
	put_values(&memory, all, 1);
	assert_int_equal(backing_discard_batch(&memory, run, runs), runs);
	check_batch(&memory, run, runs, all.count);
	/* What a call for each costs no more is left to it. */
	put_values(&memory, all, 1);
	assert_int_equal(backing_discard_batch(&memory, run, 1), 0);
	check_batch(&memory, run, 0, all.count);
	backing_destroy(&memory);
}

/* R27: up to the run that is locked. */
static void test_batch_that_fails_half_way(void **state)
{
	const struct page_run all = { 0, 4 * BACKING_BATCH };
	struct page_run run[BACKING_BATCH];
	unsigned int runs = scattered_runs(run);
	struct guest_memory memory;

	create(&memory, BACKING_ANONYMOUS, SMALL);
	put_values(&memory, all, 1);
	assert_true(lock_pages(page_at(&memory, run[60].first), 4096));
	assert_int_equal(backing_discard_batch(&memory, run, runs), 60);
	check_batch(&memory, run, 60, all.count);
	backing_destroy(&memory);
}

/* No RAM, or no memory that batches are for: nothing is done. */
static void test_batch_that_is_none(void **state)
{
	struct page_run run[8] = { { 0, 1 }, { 2, 1 }, { 4, 1 }, { 6, 1 },
				   { 8, 1 }, { 10, 1 }, { 12, 1 }, { 14, 1 } };
	enum backing_kind kind = kind_of(state);
	struct guest_memory memory;

	create(&memory, kind, SMALL);
	put_values(&memory, (struct page_run){ 0, 16 }, 1);
	if (kind == BACKING_ANONYMOUS)
		run[7].first = memory.frames;
	assert_int_equal(backing_discard_batch(&memory, run, 8), 0);
	check_batch(&memory, run, 0, 16);
	backing_destroy(&memory);
}

/* --------------------------------------------------- which pages exist --- */

/* Reading a page: the zero page is lent and counts as present; a file's hole is
 * filled. So says backing_read_populates(). */
static void test_reading_what_is_not_there(void **state)
{
	struct page_run one = { 1500, 1 };
	struct guest_memory memory;
	uint64_t held;

	create(&memory, kind_of(state), SMALL);
	assert_true(has_value(&memory, one.first, 0));
	assert_int_equal(populated_in(&memory, one), 1);
	held = backing_read_populates(&memory) ? backing_page_size(&memory) : 0;
	assert_int_equal(backing_resident(&memory), held);
	backing_destroy(&memory);
}

/* Pages that are not mapped are in the file all the same. */
static void test_pages_that_are_not_mapped(void **state)
{
	struct page_run run = { 512, 1024 };
	struct guest_memory memory;

	create(&memory, kind_of(state), SMALL);
	put_values(&memory, run, 1);
	assert_int_equal(backing_resident(&memory), run.count * 4096);
	assert_int_equal(madvise(page_at(&memory, run.first), run.count * 4096,
				 MADV_DONTNEED), 0);
	assert_int_equal(backing_resident(&memory), run.count * 4096);
	check_intact(&memory, run);
	backing_destroy(&memory);
}

static bool has_scan; /* the kernel has PAGEMAP_SCAN */

static bool kernel_has_scan(void)
{
	struct page_run one = { 0, 1 };
	struct guest_memory memory;
	struct page_set set;
	int rc;

	create(&memory, BACKING_ANONYMOUS, SMALL);
	assert_int_equal(page_set_create(&set, SMALL_PAGES, NULL), 0);
	rc = backing_look(&memory, BACKING_LOOK_SCAN, one, &set);
	page_set_free(&set);
	backing_destroy(&memory);
	return rc != -ENOTTY && rc != -EINVAL;
}

static void same_sets(const struct page_set *a, const struct page_set *b)
{
	uint64_t count = page_set_count(a);

	assert_int_equal(page_set_count(b), count);
	assert_int_equal(page_set_intersect_count(a, b), count);
}

/* Every way that fits a kind finds the same pages. */
static void check_looks(const struct guest_memory *memory,
			struct page_run within, const struct page_set *want)
{
	static const enum backing_look looks[BACKING_KINDS][3] = {
		[BACKING_ANONYMOUS] = { BACKING_LOOK_SCAN,
					BACKING_LOOK_PAGEMAP,
					BACKING_LOOK_PAGEMAP },
		[BACKING_MEMFD] = { BACKING_LOOK_FILE, BACKING_LOOK_FILE,
				    BACKING_LOOK_FILE },
		[BACKING_HUGETLB] = { BACKING_LOOK_SCAN, BACKING_LOOK_MINCORE,
				      BACKING_LOOK_PAGEMAP },
	};
	struct page_set set;
	unsigned int i;

	assert_int_equal(page_set_create(&set, memory->frames, NULL), 0);
	for (i = 0; i < 3; i++) {
		if (looks[memory->backing][i] == BACKING_LOOK_SCAN &&
		    !has_scan)
			continue;
		assert_int_equal(backing_look(memory, looks[memory->backing][i],
					      within, &set), 0);
		same_sets(&set, want);
		page_set_clear(&set);
	}
	page_set_free(&set);
}

/* The zero page counts as present however one looks. */
static void test_scan_and_pagemap_agree(void **state)
{
	struct page_run all = { 0, SMALL_PAGES };
	struct guest_memory memory;
	struct page_set set;

	create(&memory, BACKING_ANONYMOUS, SMALL);
	put_value(&memory, 3, 1);
	assert_true(has_value(&memory, 5, 0));
	assert_int_equal(page_set_create(&set, SMALL_PAGES, NULL), 0);
	assert_int_equal(backing_look(&memory, BACKING_LOOK_SCAN, all, &set),
			 0);
	assert_int_equal(page_set_count(&set), 2);
	assert_true(page_set_contains(&set, 3));
	assert_true(page_set_contains(&set, 5));
	check_looks(&memory, all, &set);
	page_set_free(&set);
	backing_destroy(&memory);
}

/* More runs than one call returns, and a terabyte of nothing behind them. */
static void test_a_terabyte(void **state)
{
	struct guest_memory memory;
	struct page_set set;
	uint64_t page;

	create(&memory, kind_of(state), BACKING_MAX_SIZE);
	for (page = 1; page < 6000; page += 3)
		put_value(&memory, page, page);
	put_value(&memory, memory.frames - 1, 1);
	set = populated(&memory);
	assert_int_equal(page_set_count(&set), 2001);
	for (page = 1; page < 6000; page += 3)
		assert_true(page_set_contains(&set, page));
	assert_true(page_set_contains(&set, memory.frames - 1));
	page_set_free(&set);
	backing_destroy(&memory);
}

/* Pages that this process has in its page tables. */
static uint64_t mapped(const struct guest_memory *memory, struct page_run run)
{
	uintptr_t at = (uintptr_t)page_at(memory, run.first) / 4096;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry, i, count = 0;

	for (i = 0; i < run.count; i++) {
		assert_int_equal(pread(fd, &entry, 8, (at + i) * 8), 8);
		count += entry >> 63;
	}
	close(fd);
	return count;
}

static void test_swapped_pages(void **state)
{
	struct page_run run = { 512, 1024 };
	struct guest_memory memory;
	struct page_set set;

	create(&memory, kind_of(state), SMALL);
	put_values(&memory, run, 1);
	assert_int_equal(madvise(page_at(&memory, run.first), run.count * 4096,
				 MADV_PAGEOUT), 0);
	printf("# %llu of %llu pages are still mapped\n",
	       (unsigned long long)mapped(&memory, run),
	       (unsigned long long)run.count);
	set = populated(&memory);
	assert_int_equal(page_set_count(&set), run.count);
	check_looks(&memory, (struct page_run){ 0, SMALL_PAGES }, &set);
	page_set_free(&set);
	check_intact(&memory, run);
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

/* ----------------------------------------------------- against a model --- */

struct model {
	struct guest_memory memory;
	uint64_t each; /* guest pages in a host page */
	uint64_t value[SMALL_PAGES];
	bool exists[SMALL_PAGES];
};

static struct page_run random_run(struct rng *rng)
{
	static const uint64_t grain[] = { 1, 16, 512 };
	uint64_t g = grain[rng_below(rng, 3)];
	struct page_run run = { rng_below(rng, SMALL_PAGES) / g * g, 0 };

	run.count = 1 + rng_below(rng, 1ull << rng_below(rng, 12));
	if (rng_chance(rng, 1, 2))
		run.count = (run.count + g - 1) / g * g;
	if (run.count > SMALL_PAGES - run.first)
		run.count = SMALL_PAGES - run.first;
	return run;
}

static void model_write(struct model *model, struct rng *rng)
{
	uint64_t page = rng_below(rng, SMALL_PAGES), value = rng_next(rng);
	uint64_t count = 1 + rng_below(rng, 40), first;

	for (; count-- && page < SMALL_PAGES; page++) {
		put_value(&model->memory, page, value);
		model->value[page] = value;
		first = page / model->each * model->each;
		memset(&model->exists[first], true, model->each);
	}
}

static void model_discard(struct model *model, struct rng *rng)
{
	struct page_run run = random_run(rng), gone;
	struct page_run want = rounded_inwards(model->each, run);
	uint64_t i;

	assert_int_equal(backing_discard(&model->memory, run, &gone), 0);
	assert_int_equal(gone.count, want.count);
	if (!want.count)
		return;
	assert_int_equal(gone.first, want.first);
	for (i = want.first; i < want.first + want.count; i++) {
		model->value[i] = 0;
		model->exists[i] = false;
	}
}

/* Which pages exist, within a run, is what the model says. */
static void model_populated(const struct model *model, struct page_run within)
{
	struct page_set want, set;
	uint64_t i;

	assert_int_equal(page_set_create(&want, SMALL_PAGES, NULL), 0);
	assert_int_equal(page_set_create(&set, SMALL_PAGES, NULL), 0);
	for (i = within.first; i < within.first + within.count; i++)
		if (model->exists[i])
			page_set_add(&want, (struct page_run){ i, 1 });
	assert_int_equal(backing_populated(&model->memory, within, &set, NULL),
			 0);
	same_sets(&set, &want);
	check_looks(&model->memory, within, &want);
	page_set_free(&set);
	page_set_free(&want);
}

/* What exists is what was written; @holes: the others too, which fills them. */
static void model_content(const struct model *model, bool holes)
{
	uint64_t i, count = 0;

	for (i = 0; i < SMALL_PAGES; i++)
		count += model->exists[i];
	assert_int_equal(backing_resident(&model->memory), count * 4096);
	for (i = 0; i < SMALL_PAGES; i++)
		if (holes || model->exists[i])
			assert_true(has_value(&model->memory, i,
					      model->value[i]));
}

static void test_against_a_model(void **state)
{
	struct page_run all = { 0, SMALL_PAGES };
	struct rng rng = rng_start(backing_kind_name(kind_of(state)));
	struct model *model = calloc(1, sizeof(*model));
	unsigned int i;

	assert_non_null(model);
	create(&model->memory, kind_of(state), SMALL);
	model->each = host_pages(&model->memory);
	for (i = 0; i < 1500; i++) {
		if (rng_chance(&rng, 3, 5))
			model_write(model, &rng);
		else
			model_discard(model, &rng);
		model_populated(model, random_run(&rng));
		if (i % 50)
			continue;
		model_populated(model, all);
		model_content(model, false);
	}
	model_populated(model, all);
	model_content(model, true);
	backing_destroy(&model->memory);
	free(model);
}

static int teardown(void **state)
{
	empty_pool();
	return 0;
}

static bool can_lock(void)
{
	static uint8_t page[4 * MIB] __attribute__((aligned(4096)));
	bool can = lock_pages(page, sizeof(page));

	syscall(SYS_munlock, page, sizeof(page));
	return can;
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

/* Does the kernel take MADV_DONTNEED by process_madvise()? */
static bool has_batches(void)
{
	static uint8_t page[4096] __attribute__((aligned(4096)));
	struct iovec part = { page, sizeof(page) };
	long self = syscall(SYS_pidfd_open, getpid(), 0);
	bool has = syscall(SYS_process_madvise, self, &part, 1, MADV_DONTNEED,
			   0) == sizeof(page);

	if (self >= 0)
		close((int)self);
	return has;
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
	has_scan = kernel_has_scan();
	if (!has_scan)
		skip_tests(tests, count, "test_scan",
			   "this kernel has no PAGEMAP_SCAN");
	if (access(POOL "free_hugepages", R_OK))
		skip_tests(tests, count, "test_too_few",
			   "this kernel has no huge pages of 2 MiB");
	if (read_number(POOL "nr_overcommit_hugepages", ""))
		skip_tests(tests, count, "test_too_few",
			   "this host makes huge pages on demand");
	if (read_number("/proc/meminfo", "SwapFree: ") < 65536)
		skip_tests(tests, count, "test_swapped",
			   "this host has no swap");
	if (!has_huge_pages())
		skip_tests(tests, count, "test_usage anonymous",
			   "this host makes no huge pages, or had none");
	if (!can_populate())
		skip_tests(tests, count, "test_populate",
			   "this kernel has no MADV_POPULATE_WRITE");
	if (!has_batches()) {
		skip_tests(tests, count, "test_batch_of",
			   "this kernel gives nothing back in batches");
		skip_tests(tests, count, "test_batch_that_fails",
			   "this kernel gives nothing back in batches");
	}
	if (!can_lock()) {
		skip_tests(tests, count, "that_fails anonymous",
			   "mlock() is not allowed here");
		skip_tests(tests, count, "half_way",
			   "mlock() is not allowed here");
	}
#ifdef __SANITIZE_THREAD__
	skip_tests(tests, count, "terabyte",
		   "ThreadSanitizer leaves no room for it");
#endif
	skip_without_huge_pages(tests, count, "the_hole hugetlb", LARGE);
	skip_without_huge_pages(tests, count, "test_populate hugetlb", LARGE);
	skip_without_huge_pages(tests, count, "a_region hugetlb", LARGE);
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
		with_each_kind(test_populate),
		with_each_kind(test_discard),
		with_each_kind(test_discard_of_what_is_not_there),
		with_each_kind(test_discard_outside_a_region),
		with_each_kind(test_discard_that_fails),
		cmocka_unit_test(test_discard_that_fails_half_way),
		cmocka_unit_test(test_batch_of_runs),
		cmocka_unit_test(test_batch_that_fails_half_way),
		with_each_kind(test_batch_that_is_none),
		with_each_kind(test_reading_what_is_not_there),
		with_memfd(test_pages_that_are_not_mapped),
		cmocka_unit_test(test_scan_and_pagemap_agree),
		with_anonymous(test_a_terabyte),
		with_memfd(test_a_terabyte),
		with_anonymous(test_swapped_pages),
		with_memfd(test_swapped_pages),
		with_each_kind(test_huge_pages_are_anonymous_memorys),
		with_each_kind(test_against_a_model),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	keep_pages_small();
	fill_pool(LARGE / BACKING_HUGE_PAGE);
	skip_some(tests, ARRAY_SIZE(tests));
	return cmocka_run_group_tests(tests, NULL, teardown);
}
