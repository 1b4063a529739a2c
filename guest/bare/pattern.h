/* SPDX-License-Identifier: MIT */
/* What a page is filled with: a function of a seed and its place. */
#ifndef BARE_PATTERN_H
#define BARE_PATTERN_H

#include <stdint.h>

#include "memory.h"

#define PATTERN_STEP 0x9e3779b97f4a7c15ull

/* The page's first word; each further one is PATTERN_STEP more. Whoever has
 * another seed or place has another first word. */
static inline uint64_t pattern_first(uint64_t seed, uint64_t page)
{
	uint64_t x = seed * 0xd1342543de82ef95ull + page * PATTERN_STEP;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static inline uint64_t pattern_word(uint64_t seed, uint64_t page,
				    uint64_t index)
{
	return pattern_first(seed, page) + index * PATTERN_STEP;
}

static inline void pattern_fill(uint64_t seed, uint64_t page)
{
	uint64_t word = pattern_first(seed, page);
	uint64_t *words = memory_words(page);
	unsigned int i;

	for (i = 0; i < PAGE_WORDS; i++, word += PATTERN_STEP)
		words[i] = word;
}

/* Return: index of the first wrong word, or PAGE_WORDS */
static inline unsigned int pattern_check(uint64_t seed, uint64_t page)
{
	uint64_t word = pattern_first(seed, page);
	const uint64_t *words = memory_words(page);
	unsigned int i;

	for (i = 0; i < PAGE_WORDS && words[i] == word; i++)
		word += PATTERN_STEP;
	return i;
}

#endif
