/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Sets of guest pages: a bitmap over all page frame numbers, with a summary
 * level, so that gigabytes in which nothing is set cost nothing to pass over.
 *
 * A set allocates nothing; its storage (zeroed, 8-byte aligned) belongs to
 * whoever calls page_set_init(). A page is its guest frame number
 * (address / 4096). Numbers at or beyond `pages` must not be passed.
 *
 * A set has one owner thread at a time and takes no lock. Only the two
 * *_shared() functions may be used by several threads at once, and
 * page_set_next_run_without() may look at another thread's set as @but.
 */
#ifndef MEMORY_PAGE_SET_H
#define MEMORY_PAGE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SET_BLOCK 4096u /* pages under one bit of the summary: 16 MiB */

struct page_set {
	uint64_t *words;   /* bit i of word w: page 64 * w + i */
	uint64_t *summary; /* bit clear: no page of that block is in the set */
	uint64_t pages;    /* frame numbers spanned, [0, pages) */
};

struct page_run {
	uint64_t first; /* frame number */
	uint64_t count; /* pages, never 0 in a run that was returned */
};

/* Bytes of storage for the words (whole blocks) and for the summary. */
size_t page_set_words_size(uint64_t pages);
size_t page_set_summary_size(uint64_t pages);

/**
 * page_set_init() - Make an empty set over zeroed storage
 * @words:	page_set_words_size(@pages) bytes, all zero
 * @summary:	page_set_summary_size(@pages) bytes, all zero
 */
void page_set_init(struct page_set *set, void *words, void *summary,
		   uint64_t pages);

/* 64 pages as bits: page 64 * @word is bit 0. */
static inline uint64_t page_set_word(const struct page_set *set, uint64_t word)
{
	return set->words[word];
}

bool page_set_contains(const struct page_set *set, uint64_t page);

/* Return: how many pages of the run were not (add) or were (remove) in it */
uint64_t page_set_add(struct page_set *set, struct page_run run);
uint64_t page_set_remove(struct page_set *set, struct page_run run);

/* Pages in the set; pages of @run in the set. */
uint64_t page_set_count(const struct page_set *set);
uint64_t page_set_count_in(const struct page_set *set, struct page_run run);
bool page_set_is_empty(const struct page_set *set);

/* Cost follows what is set, not what is spanned. */
void page_set_clear(struct page_set *set);

/* dst |= src, dst &= ~src, dst &= src; both span the same pages.
 * Return: pages by which dst grew, or shrank */
uint64_t page_set_union(struct page_set *dst, const struct page_set *src);
uint64_t page_set_subtract(struct page_set *dst, const struct page_set *src);
uint64_t page_set_intersect(struct page_set *dst, const struct page_set *src);

/* Return: pages that are in both; changes nothing */
uint64_t page_set_intersect_count(const struct page_set *a,
				  const struct page_set *b);

/**
 * page_set_next_run() - The next run of pages that are in the set
 * @from:	First frame number looked at
 * @max:	The run is cut after this many pages (at least 1)
 * @run:	Filled on success
 *
 * Return: false when no page at or after @from is in the set
 */
bool page_set_next_run(const struct page_set *set, uint64_t from, uint64_t max,
		       struct page_run *run);

/* As page_set_next_run(), over the pages that are in @set and not in @but.
 * Another thread may be adding to @but, or emptying it: that is seen now or
 * later. */
bool page_set_next_run_without(const struct page_set *set,
			       const struct page_set *but, uint64_t from,
			       uint64_t max, struct page_run *run);

/**
 * page_set_or_word() - set |= 64 pages given as bits
 * @word:	Index of the word, pages 64 * @word to 64 * @word + 63
 *
 * Return: pages by which the set grew
 */
uint64_t page_set_or_word(struct page_set *set, uint64_t word, uint64_t bits);

/**
 * page_set_add_shared() - Add from any thread, while others do the same
 */
void page_set_add_shared(struct page_set *set, struct page_run run);

/**
 * page_set_take_shared() - Move all pages of @shared into @dst
 *
 * @dst is owned by the caller; NULL drops the pages (returns 0). A page added
 * while this runs is either moved or stays in @shared for the next call; none
 * is lost.
 *
 * Return: pages by which @dst grew
 */
uint64_t page_set_take_shared(struct page_set *dst, struct page_set *shared);

#endif
