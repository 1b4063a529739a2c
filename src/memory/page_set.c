// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Sets of guest pages, see page_set.h.
 *
 * Everything that only looks for pages goes through next_word*(), which pass
 * over what is empty 4096 pages at a time by the summary, and 262144 pages at
 * a time where a whole word of the summary is zero. A summary bit is allowed
 * to be set over an empty block (that costs 64 loads), never to be clear over
 * a page.
 *
 * Shared sets. An adder sets the page, then makes sure of the summary bit; the
 * taker clears the summary bit, then takes the words. Letter S: whoever adds
 * to a word after the taker took it must see that the summary bit is gone.
 */
#include "memory/page_set.h"

#define WORD_BITS 64u
#define BLOCK_WORDS (PAGE_SET_BLOCK / WORD_BITS)
#define NONE UINT64_MAX

static inline uint64_t popcount(uint64_t v)
{
#ifdef __POPCNT__
	return (uint64_t)__builtin_popcountll(v);
#else
	/* Without the instruction gcc calls libgcc, which neither a kernel
	 * module nor the bare guest has. */
	v -= (v >> 1) & 0x5555555555555555ull;
	v = (v & 0x3333333333333333ull) + ((v >> 2) & 0x3333333333333333ull);
	v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return (v * 0x0101010101010101ull) >> 56;
#endif
}

static inline uint64_t lowest(uint64_t v)
{
	return (uint64_t)__builtin_ctzll(v);
}

static inline uint64_t blocks_of(uint64_t pages)
{
	return pages / PAGE_SET_BLOCK + (pages % PAGE_SET_BLOCK != 0);
}

static inline uint64_t summary_words_of(uint64_t pages)
{
	uint64_t blocks = blocks_of(pages);

	return blocks / WORD_BITS + (blocks % WORD_BITS != 0);
}

/* The bits of word @w within [first, end), which touches that word. */
static inline uint64_t mask_in(uint64_t w, uint64_t first, uint64_t end)
{
	uint64_t base = w * WORD_BITS;
	uint64_t mask = ~0ull;

	if (first > base)
		mask <<= first - base;
	if (end - base < WORD_BITS)
		mask &= (1ull << (end - base)) - 1;
	return mask;
}

static inline bool has_block(const struct page_set *set, uint64_t block)
{
	return set->summary[block / WORD_BITS] >> (block % WORD_BITS) & 1;
}

static inline void mark_block(struct page_set *set, uint64_t block)
{
	set->summary[block / WORD_BITS] |= 1ull << (block % WORD_BITS);
}

static inline void unmark_block(struct page_set *set, uint64_t block)
{
	set->summary[block / WORD_BITS] &= ~(1ull << (block % WORD_BITS));
}

/* The first block at or after @from that may hold a page, or NONE. */
static uint64_t next_block(const struct page_set *set, uint64_t from)
{
	uint64_t words = summary_words_of(set->pages);
	uint64_t s = from / WORD_BITS;
	uint64_t bits;

	if (s >= words)
		return NONE;
	bits = set->summary[s] & (~0ull << (from % WORD_BITS));
	while (!bits) {
		if (++s == words)
			return NONE;
		bits = set->summary[s];
	}
	return s * WORD_BITS + lowest(bits);
}

/* @but may be growing meanwhile, by its owner's page_set_add(): a page that is
 * added now is seen now or later. So a word is read once for one decision. */
static inline uint64_t word_without(const struct page_set *set,
				    const struct page_set *but, uint64_t w)
{
	uint64_t bits = set->words[w];

	if (but)
		bits &= ~__atomic_load_n(&but->words[w], __ATOMIC_RELAXED);
	return bits;
}

/* The first word at or after @from that is not zero, or NONE; @bits gets what
 * was read there. */
static uint64_t next_word_without(const struct page_set *set,
				  const struct page_set *but, uint64_t from,
				  uint64_t *bits)
{
	uint64_t block = next_block(set, from / BLOCK_WORDS);
	uint64_t w = from;

	for (; block != NONE; block = next_block(set, block + 1)) {
		if (w < block * BLOCK_WORDS)
			w = block * BLOCK_WORDS;
		for (; w < (block + 1) * BLOCK_WORDS; w++) {
			*bits = word_without(set, but, w);
			if (*bits)
				return w;
		}
	}
	return NONE;
}

static inline uint64_t next_word(const struct page_set *set, uint64_t from)
{
	uint64_t bits;

	return next_word_without(set, NULL, from, &bits);
}

size_t page_set_words_size(uint64_t pages)
{
	return blocks_of(pages) * BLOCK_WORDS * sizeof(uint64_t);
}

size_t page_set_summary_size(uint64_t pages)
{
	return summary_words_of(pages) * sizeof(uint64_t);
}

void page_set_init(struct page_set *set, void *words, void *summary,
		   uint64_t pages)
{
	set->words = words;
	set->summary = summary;
	set->pages = pages;
}

bool page_set_contains(const struct page_set *set, uint64_t page)
{
	return set->words[page / WORD_BITS] >> (page % WORD_BITS) & 1;
}

static inline uint64_t add_word(struct page_set *set, uint64_t w, uint64_t mask)
{
	uint64_t old = set->words[w], added = mask & ~old;

	/* One store, which a reader of word_without() may meet. */
	__atomic_store_n(&set->words[w], old | mask, __ATOMIC_RELAXED);
	/* Most words of a hint are whole, and new. */
	return added == ~0ull ? WORD_BITS : popcount(added);
}

uint64_t page_set_add(struct page_set *set, struct page_run run)
{
	uint64_t end = run.first + run.count;
	uint64_t grown = 0;
	uint64_t b, w;

	if (!run.count)
		return 0;
	for (w = run.first / WORD_BITS; w <= (end - 1) / WORD_BITS; w++)
		grown += add_word(set, w, mask_in(w, run.first, end));
	for (b = run.first / PAGE_SET_BLOCK; b <= (end - 1) / PAGE_SET_BLOCK;
	     b++)
		mark_block(set, b);
	return grown;
}

/* Every page of the blocks in [first, end) is known to be gone. */
static void unmark_blocks(struct page_set *set, uint64_t first, uint64_t end)
{
	uint64_t s;

	if (first >= end)
		return;
	for (s = first / WORD_BITS; s <= (end - 1) / WORD_BITS; s++)
		set->summary[s] &= ~mask_in(s, first, end);
}

uint64_t page_set_remove(struct page_set *set, struct page_run run)
{
	uint64_t end = run.first + run.count;
	uint64_t shrunk = 0;
	uint64_t mask, w;

	if (!run.count)
		return 0;
	for (w = next_word(set, run.first / WORD_BITS);
	     w <= (end - 1) / WORD_BITS; w = next_word(set, w + 1)) {
		mask = mask_in(w, run.first, end);
		shrunk += popcount(mask & set->words[w]);
		set->words[w] &= ~mask;
	}
	/* Blocks that the run covers in whole, the last being perhaps short. */
	unmark_blocks(set, blocks_of(run.first),
		      end == set->pages ? blocks_of(end)
					: end / PAGE_SET_BLOCK);
	return shrunk;
}

uint64_t page_set_count_in(const struct page_set *set, struct page_run run)
{
	uint64_t end = run.first + run.count;
	uint64_t count = 0;
	uint64_t w;

	if (!run.count)
		return 0;
	for (w = next_word(set, run.first / WORD_BITS);
	     w <= (end - 1) / WORD_BITS; w = next_word(set, w + 1))
		count += popcount(set->words[w] & mask_in(w, run.first, end));
	return count;
}

uint64_t page_set_count(const struct page_set *set)
{
	return page_set_count_in(set, (struct page_run){ 0, set->pages });
}

bool page_set_is_empty(const struct page_set *set)
{
	return next_word(set, 0) == NONE;
}

void page_set_clear(struct page_set *set)
{
	uint64_t b;

	for (b = next_block(set, 0); b != NONE; b = next_block(set, b + 1)) {
		__builtin_memset(&set->words[b * BLOCK_WORDS], 0,
				 BLOCK_WORDS * sizeof(uint64_t));
		unmark_block(set, b);
	}
}

uint64_t page_set_union(struct page_set *dst, const struct page_set *src)
{
	uint64_t grown = 0;
	uint64_t w;

	for (w = next_word(src, 0); w != NONE; w = next_word(src, w + 1))
		grown += page_set_or_word(dst, w, src->words[w]);
	return grown;
}

/* Keep of a block of @dst what @src has, or what it does not have. */
static uint64_t filter_block(struct page_set *dst, const struct page_set *src,
			     uint64_t block, uint64_t invert)
{
	uint64_t shrunk = 0, left = 0;
	uint64_t w, keep;

	for (w = block * BLOCK_WORDS; w < (block + 1) * BLOCK_WORDS; w++) {
		keep = dst->words[w] & (src->words[w] ^ invert);
		shrunk += popcount(dst->words[w] ^ keep);
		dst->words[w] = keep;
		left |= keep;
	}
	if (!left)
		unmark_block(dst, block);
	return shrunk;
}

uint64_t page_set_subtract(struct page_set *dst, const struct page_set *src)
{
	uint64_t shrunk = 0;
	uint64_t b;

	for (b = next_block(dst, 0); b != NONE; b = next_block(dst, b + 1))
		if (has_block(src, b))
			shrunk += filter_block(dst, src, b, ~0ull);
	return shrunk;
}

uint64_t page_set_intersect(struct page_set *dst, const struct page_set *src)
{
	uint64_t shrunk = 0;
	uint64_t b;

	for (b = next_block(dst, 0); b != NONE; b = next_block(dst, b + 1))
		shrunk += filter_block(dst, src, b, 0);
	return shrunk;
}

uint64_t page_set_intersect_count(const struct page_set *a,
				  const struct page_set *b)
{
	uint64_t count = 0;
	uint64_t w;

	for (w = next_word(a, 0); w != NONE; w = next_word(a, w + 1))
		count += popcount(a->words[w] & b->words[w]);
	return count;
}

/* Where the run ends that begins at @first, looked for up to @limit; @bits was
 * read from the word that holds @first. */
static uint64_t end_of_run(const struct page_set *set,
			   const struct page_set *but, uint64_t first,
			   uint64_t bits, uint64_t limit)
{
	uint64_t gaps = ~bits & (~0ull << (first % WORD_BITS));
	uint64_t w = first / WORD_BITS;
	uint64_t end;

	while (!gaps && (w + 1) * WORD_BITS < limit)
		gaps = ~word_without(set, but, ++w);
	if (!gaps)
		return limit;
	end = w * WORD_BITS + lowest(gaps);
	return end < limit ? end : limit;
}

bool page_set_next_run_without(const struct page_set *set,
			       const struct page_set *but, uint64_t from,
			       uint64_t max, struct page_run *run)
{
	uint64_t w = from / WORD_BITS;
	uint64_t bits, limit;

	if (from >= set->pages)
		return false;
	bits = word_without(set, but, w) & (~0ull << (from % WORD_BITS));
	if (!bits)
		w = next_word_without(set, but, w + 1, &bits);
	if (w == NONE)
		return false;
	run->first = w * WORD_BITS + lowest(bits);
	limit = set->pages;
	if (max < limit - run->first)
		limit = run->first + max;
	run->count = end_of_run(set, but, run->first, bits, limit) - run->first;
	return true;
}

bool page_set_next_run(const struct page_set *set, uint64_t from, uint64_t max,
		       struct page_run *run)
{
	return page_set_next_run_without(set, NULL, from, max, run);
}

uint64_t page_set_or_word(struct page_set *set, uint64_t word, uint64_t bits)
{
	uint64_t grown = popcount(bits & ~set->words[word]);

	if (bits) {
		set->words[word] |= bits;
		mark_block(set, word / BLOCK_WORDS);
	}
	return grown;
}

static void add_word_shared(struct page_set *set, uint64_t w, uint64_t mask)
{
	uint64_t block = w / BLOCK_WORDS;
	uint64_t *summary = &set->summary[block / WORD_BITS];
	uint64_t bit = 1ull << (block % WORD_BITS);

	/*
	 * Unconditionally, even over bits that seem to be set: what the caller
	 * wrote into the page before must be seen by the taker who takes this
	 * bit, and a mere load could be overtaken by that write.
	 *
	 * Barrier S, pairs with page_set_take_shared().
	 */
	__atomic_fetch_or(&set->words[w], mask, __ATOMIC_ACQ_REL);
	if (!(__atomic_load_n(summary, __ATOMIC_RELAXED) & bit))
		__atomic_fetch_or(summary, bit, __ATOMIC_RELEASE);
}

void page_set_add_shared(struct page_set *set, struct page_run run)
{
	uint64_t end = run.first + run.count;
	uint64_t w;

	if (!run.count)
		return;
	for (w = run.first / WORD_BITS; w <= (end - 1) / WORD_BITS; w++)
		add_word_shared(set, w, mask_in(w, run.first, end));
}

static uint64_t take_block(struct page_set *dst, struct page_set *shared,
			   uint64_t block)
{
	uint64_t grown = 0;
	uint64_t w, bits;

	for (w = block * BLOCK_WORDS; w < (block + 1) * BLOCK_WORDS; w++) {
		/*
		 * Exchanged even when it is zero: an adder that comes behind
		 * synchronises with this, and so sees the summary bit cleared.
		 *
		 * Barrier S, pairs with add_word_shared().
		 */
		bits = __atomic_exchange_n(&shared->words[w], 0,
					   __ATOMIC_ACQ_REL);
		if (dst)
			grown += page_set_or_word(dst, w, bits);
	}
	return grown;
}

uint64_t page_set_take_shared(struct page_set *dst, struct page_set *shared)
{
	uint64_t words = summary_words_of(shared->pages);
	uint64_t grown = 0;
	uint64_t s, bits;

	for (s = 0; s < words; s++) {
		if (!__atomic_load_n(&shared->summary[s], __ATOMIC_RELAXED))
			continue;
		bits = __atomic_exchange_n(&shared->summary[s], 0,
					   __ATOMIC_ACQUIRE);
		for (; bits; bits &= bits - 1)
			grown += take_block(dst, shared,
					    s * WORD_BITS + lowest(bits));
	}
	return grown;
}
