// SPDX-License-Identifier: MIT
/*
 * Guest memory that is given back, run by run and in batches: what goes is what
 * was said, each kind against the same expectations.
 */
#include "backing_fixture.h"

#include <errno.h>
#include <sys/uio.h>

#define LOW_PAGES (BACKING_LOW_LIMIT / GUEST_PAGE_SIZE)
#define HIGH_FIRST (BACKING_HIGH_START / GUEST_PAGE_SIZE)

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

/* R27: locked pages stay (EINVAL); a file that cannot be written gets no
 * holes. */
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

/* Memory whose first pages are written, and runs in them, more than enough to
 * be worth a batch. */
struct batch {
	struct guest_memory memory;
	struct page_run all, run[BACKING_BATCH];
};

static void create_batch(struct batch *batch)
{
	unsigned int i;

	batch->all = (struct page_run){ 0, 4 * BACKING_BATCH };
	for (i = 0; i < BACKING_BATCH; i++)
		batch->run[i] = (struct page_run){ 4ull * i, 1 + i % 3 };
	create(&batch->memory, BACKING_ANONYMOUS, SMALL);
	put_values(&batch->memory, batch->all, 1);
}

static unsigned int discard_batch(const struct batch *batch, unsigned int runs)
{
	return backing_discard_batch(&batch->memory, batch->run, runs);
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
	struct batch batch;

	create_batch(&batch);
	assert_int_equal(discard_batch(&batch, BACKING_BATCH), BACKING_BATCH);
	check_batch(&batch.memory, batch.run, BACKING_BATCH, batch.all.count);
	/* What a call for each costs no more is left to it. */
	put_values(&batch.memory, batch.all, 1);
	assert_int_equal(discard_batch(&batch, 1), 0);
	check_batch(&batch.memory, batch.run, 0, batch.all.count);
	backing_destroy(&batch.memory);
}

/* R27: up to the run that is locked. */
static void test_batch_that_fails_half_way(void **state)
{
	struct batch batch;

	create_batch(&batch);
	assert_true(lock_pages(page_at(&batch.memory, batch.run[60].first),
			       4096));
	assert_int_equal(discard_batch(&batch, BACKING_BATCH), 60);
	check_batch(&batch.memory, batch.run, 60, batch.all.count);
	backing_destroy(&batch.memory);
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

static bool can_lock(void)
{
	static uint8_t page[4 * MIB] __attribute__((aligned(4096)));
	bool can = lock_pages(page, sizeof(page));

	syscall(SYS_munlock, page, sizeof(page));
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

/* What this host cannot show. */
static void skip_some(struct CMUnitTest *tests, size_t count)
{
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
	skip_without_huge_pages(tests, count, "a_region hugetlb", LARGE);
	skip_without_huge_pages(tests, count, "hugetlb", SMALL);
}

int main(void)
{
	static struct CMUnitTest tests[] = {
		with_each_kind(test_discard),
		with_each_kind(test_discard_of_what_is_not_there),
		with_each_kind(test_discard_outside_a_region),
		with_each_kind(test_discard_that_fails),
		cmocka_unit_test(test_discard_that_fails_half_way),
		cmocka_unit_test(test_batch_of_runs),
		cmocka_unit_test(test_batch_that_fails_half_way),
		with_each_kind(test_batch_that_is_none),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	keep_pages_small();
	fill_pool(LARGE / BACKING_HUGE_PAGE);
	skip_some(tests, ARRAY_SIZE(tests));
	return cmocka_run_group_tests(tests, NULL, backing_teardown);
}
