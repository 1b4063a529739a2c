// SPDX-License-Identifier: MIT
/* Page sets against a byte per page, and their shared half under threads. */
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>

/* A set beside the naive model of it. */
struct pair {
	struct page_set set;
	uint8_t *model;
	uint64_t pages;
};

static struct pair pair_new(uint64_t pages)
{
	return (struct pair){
		.set = page_set_new(pages),
		.model = zeroed(pages),
		.pages = pages,
	};
}

static void pair_delete(struct pair *pair)
{
	page_set_delete(&pair->set);
	free(pair->model);
}

static uint64_t model_count(const struct pair *pair, uint64_t first,
			    uint64_t count)
{
	uint64_t n = 0;
	uint64_t i;

	for (i = first; i < first + count; i++)
		n += pair->model[i];
	return n;
}

/* No page without its summary bit, no bit behind the last page. */
static void check_shape(const struct page_set *set)
{
	uint64_t words = page_set_words_size(set->pages) / 8;
	uint64_t w, block, bits;

	for (w = 0; w < words; w++) {
		bits = set->words[w];
		block = w / (PAGE_SET_BLOCK / 64);
		if (bits)
			assert_true(set->summary[block / 64] >> (block % 64) &
				    1);
		if (w == set->pages / 64)
			assert_int_equal(bits >> (set->pages % 64), 0);
		else if (w > set->pages / 64)
			assert_int_equal(bits, 0);
	}
	for (w = 0; w < page_set_summary_size(set->pages) / 8; w++)
		for (bits = set->summary[w]; bits; bits &= bits - 1)
			assert_true((w * 64 + (uint64_t)__builtin_ctzll(bits)) *
					    PAGE_SET_BLOCK <
				    set->pages);
}

/* Enumerate set \ but and compare page for page. */
static void check_runs(const struct pair *pair, const struct pair *but,
		       uint64_t max)
{
	struct page_run run = { 0, 0 };
	uint64_t next = 0;
	uint64_t i;
	bool any;

	for (;;) {
		any = but ? page_set_next_run_without(&pair->set, &but->set,
						      run.first + run.count,
						      max, &run)
			  : page_set_next_run(&pair->set, run.first + run.count,
					      max, &run);
		for (i = next; i < (any ? run.first : pair->pages); i++)
			assert_false(pair->model[i] &&
				     !(but && but->model[i]));
		if (!any)
			return;
		assert_in_range(run.count, 1, max);
		for (i = run.first; i < run.first + run.count; i++)
			assert_true(pair->model[i] &&
				    !(but && but->model[i]));
		next = run.first + run.count;
		/* A run ends for a reason. */
		if (run.count < max && next < pair->pages)
			assert_false(pair->model[next] &&
				     !(but && but->model[next]));
	}
}

static void check_all(const struct pair *pair)
{
	uint64_t count = model_count(pair, 0, pair->pages);

	check_shape(&pair->set);
	assert_int_equal(page_set_count(&pair->set), count);
	assert_int_equal(page_set_is_empty(&pair->set), count == 0);
	check_runs(pair, NULL, UINT64_MAX);
}

/* Runs of all lengths, often at either end and at the borders of words and
 * blocks. */
static struct page_run random_run(struct rng *rng, uint64_t pages)
{
	static const uint64_t grain[] = { 1, 64, PAGE_SET_BLOCK };
	uint64_t g = grain[rng_below(rng, 3)];
	struct page_run run;

	run.first = rng_below(rng, pages);
	run.first -= run.first % g;
	if (rng_chance(rng, 1, 8))
		run.first = 0;
	run.count = rng_below(rng, 1ull << rng_below(rng, 16));
	if (rng_chance(rng, 1, 2))
		run.count += g - run.count % g;
	if (run.count > pages - run.first || rng_chance(rng, 1, 16))
		run.count = pages - run.first;
	return run;
}

static void step_one(struct rng *rng, struct pair *pair)
{
	struct page_run run = random_run(rng, pair->pages);
	uint64_t before = model_count(pair, run.first, run.count);
	uint64_t word, bits, i, grown = 0;

	switch (rng_below(rng, 5)) {
	case 0:
		assert_int_equal(page_set_add(&pair->set, run),
				 run.count - before);
		memset(pair->model + run.first, 1, run.count);
		break;
	case 1:
		assert_int_equal(page_set_remove(&pair->set, run), before);
		memset(pair->model + run.first, 0, run.count);
		break;
	case 2:
		assert_int_equal(page_set_count_in(&pair->set, run), before);
		if (run.count)
			assert_int_equal(page_set_contains(&pair->set,
							   run.first),
					 pair->model[run.first]);
		break;
	case 3:
		word = rng_below(rng, (pair->pages + 63) / 64);
		bits = rng_next(rng) & rng_next(rng);
		if (rng_chance(rng, 1, 4))
			bits = 0;
		for (i = 0; i < 64; i++) {
			if (word * 64 + i >= pair->pages)
				bits &= ~(1ull << i);
			if (bits >> i & 1) {
				grown += !pair->model[word * 64 + i];
				pair->model[word * 64 + i] = 1;
			}
		}
		assert_int_equal(page_set_or_word(&pair->set, word, bits),
				 grown);
		break;
	case 4:
		page_set_add_shared(&pair->set, run);
		memset(pair->model + run.first, 1, run.count);
		break;
	}
}

static uint64_t combine_model(struct pair *dst, const struct pair *src,
			      unsigned int op)
{
	uint64_t changed = 0;
	uint8_t value;
	uint64_t i;

	for (i = 0; i < dst->pages; i++) {
		value = op == 0	  ? dst->model[i] | src->model[i]
			: op == 1 ? dst->model[i] & !src->model[i]
				  : dst->model[i] & src->model[i];
		changed += value != dst->model[i];
		dst->model[i] = value;
	}
	return changed;
}

static uint64_t model_common(const struct pair *a, const struct pair *b)
{
	uint64_t n = 0;
	uint64_t i;

	for (i = 0; i < a->pages; i++)
		n += a->model[i] & b->model[i];
	return n;
}

static void step_two(struct rng *rng, struct pair *dst, struct pair *src)
{
	unsigned int op = (unsigned int)rng_below(rng, 6);
	uint64_t changed = 0;

	switch (op) {
	case 0:
		changed = page_set_union(&dst->set, &src->set);
		break;
	case 1:
		changed = page_set_subtract(&dst->set, &src->set);
		break;
	case 2:
		changed = page_set_intersect(&dst->set, &src->set);
		break;
	case 3:
		changed = page_set_take_shared(&dst->set, &src->set);
		assert_int_equal(combine_model(dst, src, 0), changed);
		memset(src->model, 0, src->pages);
		return;
	case 4:
		if (rng_chance(rng, 1, 2))
			page_set_clear(&dst->set);
		else
			assert_int_equal(page_set_take_shared(NULL, &dst->set),
					 0);
		memset(dst->model, 0, dst->pages);
		return;
	case 5:
		assert_int_equal(page_set_intersect_count(&dst->set,
							  &src->set),
				 model_common(dst, src));
		return;
	}
	assert_int_equal(combine_model(dst, src, op), changed);
}

static void random_sequence(struct rng *rng, uint64_t pages, int steps)
{
	struct pair pair[2] = { pair_new(pages), pair_new(pages) };
	uint64_t at;
	int i;

	for (i = 0; i < steps; i++) {
		at = rng_below(rng, 2);
		if (rng_chance(rng, 1, 6))
			step_two(rng, &pair[at], &pair[!at]);
		else
			step_one(rng, &pair[at]);
		if (i % 8 && pages > 10000)
			continue;
		check_all(&pair[0]);
		check_all(&pair[1]);
		check_runs(&pair[at], &pair[!at],
			   rng_chance(rng, 1, 2) ? UINT64_MAX
						 : 1 + rng_below(rng, 5000));
		check_runs(&pair[at], NULL, 1 + rng_below(rng, 200));
	}
	pair_delete(&pair[0]);
	pair_delete(&pair[1]);
}

static void test_against_model(void **state)
{
	/* None of the larger ones a multiple of a word or of a block; the
	 * largest has more than one word of summary. */
	static const uint64_t sizes[] = {
		1,    2,    63,	   64,	  65,	 127,	4095,
		4096, 4097, 12288, 12300, 40001, 300007,
	};
	struct rng rng = rng_start("page_set");
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		random_sequence(&rng, sizes[i], sizes[i] > 100000 ? 150 : 400);
}

static void test_storage_sizes(void **state)
{
	assert_int_equal(page_set_words_size(0), 0);
	assert_int_equal(page_set_words_size(1), 512);
	assert_int_equal(page_set_words_size(4096), 512);
	assert_int_equal(page_set_words_size(4097), 1024);
	assert_int_equal(page_set_summary_size(0), 0);
	assert_int_equal(page_set_summary_size(1), 8);
	assert_int_equal(page_set_summary_size(64 * 4096), 8);
	assert_int_equal(page_set_summary_size(64 * 4096 + 1), 16);
}

static void test_set_without_pages(void **state)
{
	struct page_set set;
	struct page_run run;

	page_set_init(&set, NULL, NULL, 0);
	assert_true(page_set_is_empty(&set));
	assert_int_equal(page_set_count(&set), 0);
	assert_false(page_set_next_run(&set, 0, 1, &run));
	page_set_clear(&set);
}

static void test_runs_of_length_zero_change_nothing(void **state)
{
	struct page_set set = page_set_new(100);
	struct page_run none = { 100, 0 };

	assert_int_equal(page_set_add(&set, none), 0);
	assert_int_equal(page_set_remove(&set, none), 0);
	assert_int_equal(page_set_count_in(&set, none), 0);
	page_set_add_shared(&set, none);
	assert_true(page_set_is_empty(&set));
	page_set_delete(&set);
}

static void test_iteration_ends(void **state)
{
	struct page_set set = page_set_new(5000);
	struct page_run run;

	page_set_add(&set, (struct page_run){ 4999, 1 });
	assert_true(page_set_next_run(&set, 0, UINT64_MAX, &run));
	assert_int_equal(run.first, 4999);
	assert_int_equal(run.count, 1);
	assert_false(page_set_next_run(&set, 5000, 1, &run));
	assert_false(page_set_next_run(&set, UINT64_MAX, 1, &run));
	page_set_delete(&set);
}

static void test_summary_follows_removal(void **state)
{
	struct page_set set = page_set_new(3 * 4096 + 10);

	page_set_add(&set, (struct page_run){ 0, set.pages });
	assert_int_equal(set.summary[0], 0xf);
	page_set_remove(&set, (struct page_run){ 1, set.pages - 1 });
	assert_int_equal(set.summary[0], 0x1);
	page_set_clear(&set);
	assert_int_equal(set.summary[0], 0);
	page_set_delete(&set);
}

static void test_terabytes_of_nothing_cost_nothing(void **state)
{
	/* Words that are never touched cost no memory either. */
	uint64_t pages = 1ull << 30;
	struct page_set set;
	struct page_run run;
	void *words = calloc(1, page_set_words_size(pages));
	void *summary = calloc(1, page_set_summary_size(pages));
	int i;

	assert_non_null(words);
	assert_non_null(summary);
	page_set_init(&set, words, summary, pages);
	page_set_add(&set, (struct page_run){ pages - 7, 7 });
	for (i = 0; i < 1000; i++) {
		assert_true(page_set_next_run(&set, 0, UINT64_MAX, &run));
		assert_int_equal(run.first, pages - 7);
		assert_int_equal(run.count, 7);
		assert_int_equal(page_set_count(&set), 7);
		assert_int_equal(page_set_remove(&set, (struct page_run){
							       0, pages - 7 }),
				 0);
	}
	page_set_clear(&set);
	assert_true(page_set_is_empty(&set));
	free(words);
	free(summary);
}

/*
 * Threads. A writer raises the version of a page and marks it; the taker reads
 * the version of what it took, like a migration that sends a page. After the
 * last take the taker has seen the last version of each: no mark was lost, and
 * none was taken before the write it stands for could be seen.
 */
#define SHARED_PAGES (5 * PAGE_SET_BLOCK + 77)
#define WRITERS 3

static struct page_set shared;
/* Each writer has its own, so that it needs no locked instruction to count:
 * that would be the barrier that is to be tested. */
static _Atomic uint32_t version[WRITERS][SHARED_PAGES];
static atomic_uint writers_left;

struct writer {
	pthread_t thread;
	_Atomic uint32_t *version;
	struct rng rng;
	uint64_t rounds;
};

static void *write_pages(void *argument)
{
	struct writer *writer = argument;
	struct page_run run;
	uint64_t i, page;

	for (i = 0; i < writer->rounds; i++) {
		run.first = rng_below(&writer->rng, SHARED_PAGES);
		/* Hot spots, so that writers and taker meet in one word. */
		if (rng_chance(&writer->rng, 1, 2))
			run.first %= 200;
		run.count = 1 + rng_below(&writer->rng, 3);
		if (run.count > SHARED_PAGES - run.first)
			run.count = SHARED_PAGES - run.first;
		for (page = run.first; page < run.first + run.count; page++)
			atomic_store_explicit(&writer->version[page],
					      (uint32_t)i,
					      memory_order_relaxed);
		page_set_add_shared(&shared, run);
	}
	atomic_fetch_sub(&writers_left, 1);
	return NULL;
}

static uint32_t seen[WRITERS][SHARED_PAGES];

static void see(uint64_t page)
{
	int i;

	for (i = 0; i < WRITERS; i++)
		seen[i][page] = atomic_load_explicit(&version[i][page],
						     memory_order_relaxed);
}

static void take_versions(struct page_set *taken)
{
	struct page_run run = { 0, 0 };
	uint64_t grown = page_set_take_shared(taken, &shared);
	uint64_t page;

	assert_int_equal(page_set_count(taken), grown);
	while (page_set_next_run(taken, run.first + run.count, UINT64_MAX,
				 &run))
		for (page = run.first; page < run.first + run.count; page++)
			see(page);
	page_set_clear(taken);
}

static void test_shared_sets_lose_no_page(void **state)
{
	struct rng rng = rng_start("page_set shared");
	struct page_set taken = page_set_new(SHARED_PAGES);
	struct writer writer[WRITERS];
	int i;

	shared = page_set_new(SHARED_PAGES);
	atomic_store(&writers_left, WRITERS);
	for (i = 0; i < WRITERS; i++) {
		writer[i].rng.state = rng_next(&rng);
		writer[i].rounds = 150000;
		writer[i].version = version[i];
		assert_int_equal(pthread_create(&writer[i].thread, NULL,
						write_pages, &writer[i]),
				 0);
	}
	while (atomic_load(&writers_left))
		take_versions(&taken);
	for (i = 0; i < WRITERS; i++)
		pthread_join(writer[i].thread, NULL);
	take_versions(&taken);

	assert_memory_equal(seen, version, sizeof(seen));
	assert_int_equal(page_set_count(&shared), 0);
	page_set_delete(&shared);
	page_set_delete(&taken);
}

/*
 * The sender walks to_send without hinted, while the device thread adds to
 * hinted: a page that is added is left out now or later, and a run is a run.
 */
static struct page_set growing;
static atomic_uint grown;

static void *grow(void *argument)
{
	struct page_run run = { 0, 1 };

	/* Step by step behind, beside and before the walker. */
	for (; run.first < SHARED_PAGES; run.first++)
		page_set_add(&growing, run);
	atomic_store(&grown, 1);
	return NULL;
}

static void walk_without_growing(const struct page_set *all)
{
	struct page_run run = { 0, 0 };
	uint64_t next = 0;

	while (page_set_next_run_without(all, &growing, next, 3, &run)) {
		assert_true(run.first >= next);
		assert_in_range(run.count, 1, 3);
		assert_true(run.count <= SHARED_PAGES - run.first);
		next = run.first + run.count;
	}
}

static void test_walking_beside_a_set_that_grows(void **state)
{
	struct page_set all = page_set_new(SHARED_PAGES);
	struct page_run run;
	pthread_t thread;
	int i;

	page_set_add(&all, (struct page_run){ 0, SHARED_PAGES });
	growing = page_set_new(SHARED_PAGES);
	for (i = 0; i < 300; i++) {
		page_set_clear(&growing);
		atomic_store(&grown, 0);
		assert_int_equal(pthread_create(&thread, NULL, grow, NULL), 0);
		while (!atomic_load(&grown))
			walk_without_growing(&all);
		pthread_join(thread, NULL);
		assert_false(page_set_next_run_without(&all, &growing, 0, 1,
						       &run));
	}
	page_set_delete(&all);
	page_set_delete(&growing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_storage_sizes),
		cmocka_unit_test(test_set_without_pages),
		cmocka_unit_test(test_runs_of_length_zero_change_nothing),
		cmocka_unit_test(test_iteration_ends),
		cmocka_unit_test(test_summary_follows_removal),
		cmocka_unit_test(
			test_terabytes_of_nothing_cost_nothing),
		cmocka_unit_test(test_against_model),
		cmocka_unit_test(test_shared_sets_lose_no_page),
		cmocka_unit_test(test_walking_beside_a_set_that_grows),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
