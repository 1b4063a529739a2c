// SPDX-License-Identifier: MIT
/*
 * Which pages of guest memory exist, by every way to look, each kind against
 * the same expectations and a model.
 */
#include "backing_fixture.h"

#include <errno.h>

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

/* What this host cannot show. */
static void skip_some(struct CMUnitTest *tests, size_t count)
{
	has_scan = kernel_has_scan();
	if (!has_scan)
		skip_tests(tests, count, "test_scan",
			   "this kernel has no PAGEMAP_SCAN");
	if (read_number("/proc/meminfo", "SwapFree: ") < 65536)
		skip_tests(tests, count, "test_swapped",
			   "this host has no swap");
#ifdef __SANITIZE_THREAD__
	skip_tests(tests, count, "terabyte",
		   "ThreadSanitizer leaves no room for it");
#endif
	skip_without_huge_pages(tests, count, "hugetlb", SMALL);
}

int main(void)
{
	static struct CMUnitTest tests[] = {
		with_each_kind(test_reading_what_is_not_there),
		with_memfd(test_pages_that_are_not_mapped),
		cmocka_unit_test(test_scan_and_pagemap_agree),
		with_anonymous(test_a_terabyte),
		with_memfd(test_a_terabyte),
		with_anonymous(test_swapped_pages),
		with_memfd(test_swapped_pages),
		with_each_kind(test_against_a_model),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	keep_pages_small();
	fill_pool(SMALL / BACKING_HUGE_PAGE);
	skip_some(tests, ARRAY_SIZE(tests));
	return cmocka_run_group_tests(tests, NULL, backing_teardown);
}
