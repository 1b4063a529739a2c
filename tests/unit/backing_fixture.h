/* SPDX-License-Identifier: MIT */
/*
 * Guest memory of each kind the host has, for tests.
 *
 * Where root finds no huge pages at all, some are asked of the host and given
 * back at the end; where there are too few a test is skipped and says so.
 */
#ifndef BACKING_FIXTURE_H
#define BACKING_FIXTURE_H

#include "unit.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memory/backing.h"

#define MIB (1ull << 20)
#define HUGE_PAGES 512u /* guest pages in a huge one */
#define POOL_SIZE "/proc/sys/vm/nr_hugepages"
#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/"

/* What most tests take, and what lies on both sides of the hole. */
#define SMALL (64 * MIB)
#define SMALL_PAGES (SMALL / GUEST_PAGE_SIZE)
#define LARGE (BACKING_LOW_LIMIT + 64 * MIB)

static const enum backing_kind every_kind[] = {
	BACKING_ANONYMOUS, BACKING_MEMFD, BACKING_HUGETLB,
};

/* A test of a kind, which it finds in *state. */
#define with_anonymous(test) \
	{ #test " anonymous", test, NULL, NULL, (void *)&every_kind[0] }
#define with_memfd(test) \
	{ #test " memfd", test, NULL, NULL, (void *)&every_kind[1] }
#define with_hugetlb(test) \
	{ #test " hugetlb", test, NULL, NULL, (void *)&every_kind[2] }
#define with_each_kind(test) \
	with_anonymous(test), with_memfd(test), with_hugetlb(test)

static inline uint64_t read_number(const char *path, const char *key)
{
	char line[256], format[64];
	FILE *file = fopen(path, "re");
	unsigned long long value = 0;

	snprintf(format, sizeof(format), "%s%%llu", key);
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, format, &value) == 1)
			break;
	if (file)
		fclose(file);
	return value;
}

static inline uint64_t free_huge_pages(void)
{
	return read_number(POOL "free_hugepages", "") -
	       read_number(POOL "resv_hugepages", "");
}

static inline void set_pool(uint64_t pages)
{
	FILE *file = fopen(POOL_SIZE, "we");

	if (!file)
		return;
	fprintf(file, "%llu\n", (unsigned long long)pages);
	fclose(file);
}

static bool pool_is_ours;

/* Up to @pages huge pages, but never more than half of what is available. Until
 * the program ends it has the pool before other tests that ask so. */
static inline void fill_pool(uint64_t pages)
{
	uint64_t half = read_number("/proc/meminfo", "MemAvailable: ") / 4096;

	flock(open(POOL_SIZE, O_RDONLY | O_CLOEXEC), LOCK_EX);
	if (geteuid() || read_number(POOL_SIZE, ""))
		return;
	pool_is_ours = true;
	set_pool(pages < half ? pages : half);
}

static inline void empty_pool(void)
{
	if (pool_is_ours)
		set_pool(0);
}

static inline void skipped(void **state)
{
}

/* Skip the tests whose names have @part in them, for a @reason that TAP shows.
 * (cmocka's own skip() prints "not ok", which meson counts as a failure.) */
static inline void skip_tests(struct CMUnitTest *tests, size_t count,
			      const char *part, const char *reason)
{
	char *name;
	size_t i;

	for (i = 0; i < count; i++) {
		if (!strstr(tests[i].name, part) ||
		    tests[i].test_func == skipped)
			continue;
		if (asprintf(&name, "%s # SKIP %s", tests[i].name, reason) < 0)
			abort();
		tests[i].name = name; /* for the life of the program */
		tests[i].test_func = skipped;
	}
}

/* Skip what needs huge pages of @bytes in all, where there are fewer. */
static inline void skip_without_huge_pages(struct CMUnitTest *tests,
					   size_t count, const char *part,
					   uint64_t bytes)
{
	uint64_t there = free_huge_pages();
	char reason[128];

	if (there >= bytes / BACKING_HUGE_PAGE)
		return;
	snprintf(reason, sizeof(reason), "%llu huge pages of 2 MiB are free "
		 "and %llu needed", (unsigned long long)there,
		 (unsigned long long)(bytes / BACKING_HUGE_PAGE));
	skip_tests(tests, count, part, reason);
}

static inline void create(struct guest_memory *memory, enum backing_kind kind,
			  uint64_t size)
{
	struct error err = { "" };

	if (backing_create(memory, kind, size, &err) < 0)
		fail_msg("%s", err.message);
}

static inline enum backing_kind kind_of(void **state)
{
	return *(const enum backing_kind *)*state;
}

/* Host pages in guest pages: 1 or 512. */
static inline uint64_t host_pages(const struct guest_memory *memory)
{
	return backing_page_size(memory) / GUEST_PAGE_SIZE;
}

static inline uint64_t *page_at(const struct guest_memory *memory,
				uint64_t page)
{
	return ram(memory, page << GUEST_PAGE_SHIFT, GUEST_PAGE_SIZE);
}

/* What page_filled() of this value is true for; 0 is a page of zeroes. */
static inline void put_value(const struct guest_memory *memory, uint64_t page,
			     uint64_t value)
{
	uint64_t *at = page_at(memory, page);
	unsigned int i;

	for (i = 0; i < 512; i++)
		at[i] = value ? value * 0x9e3779b97f4a7c15ull + i : 0;
}

static inline void put_values(const struct guest_memory *memory,
			      struct page_run run, uint64_t value)
{
	uint64_t i;

	for (i = 0; i < run.count; i++)
		put_value(memory, run.first + i, value + i);
}

/* Whole pages compared; reads the page. */
static inline bool has_value(const struct guest_memory *memory, uint64_t page,
			     uint64_t value)
{
	uint64_t want[512];
	unsigned int i;

	for (i = 0; i < 512; i++)
		want[i] = value ? value * 0x9e3779b97f4a7c15ull + i : 0;
	return !memcmp(page_at(memory, page), want, sizeof(want));
}

/* To be freed by page_set_free(). */
static inline struct page_set populated(const struct guest_memory *memory)
{
	struct page_run all = { 0, memory->frames };
	struct page_set set;

	assert_int_equal(page_set_create(&set, memory->frames, NULL), 0);
	assert_int_equal(backing_populated(memory, all, &set, NULL), 0);
	return set;
}

static inline uint64_t populated_in(const struct guest_memory *memory,
				    struct page_run run)
{
	struct page_set set = populated(memory);
	uint64_t count = page_set_count_in(&set, run);

	page_set_free(&set);
	return count;
}

/* What put_values() of 1 has put there is there. */
static inline void check_intact(const struct guest_memory *memory,
				struct page_run run)
{
	uint64_t i;

	assert_int_equal(populated_in(memory, run), run.count);
	for (i = 0; i < run.count; i++)
		assert_true(has_value(memory, run.first + i, i + 1));
}

/* Whole host pages, of @each guest pages, within a run. */
static inline struct page_run rounded_inwards(uint64_t each,
					      struct page_run run)
{
	uint64_t first = (run.first + each - 1) / each * each;
	uint64_t end = (run.first + run.count) / each * each;

	return (struct page_run){ first, first < end ? end - first : 0 };
}

/* Behind the last test of a program. */
static inline int backing_teardown(void **state)
{
	empty_pool();
	return 0;
}

/* mlock(); the address sanitizer's does nothing and says it did. */
static inline bool lock_pages(void *at, size_t bytes)
{
	return !syscall(SYS_mlock, at, bytes);
}

/* khugepaged fills the holes of what it merges, whenever it comes by; tests
 * that count pages keep it out. */
static inline void keep_small(bool on)
{
	assert_int_equal(prctl(PR_SET_THP_DISABLE, on, 0, 0, 0), 0);
}

static inline void keep_pages_small(void)
{
	keep_small(true);
}

#endif
