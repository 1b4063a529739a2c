/* SPDX-License-Identifier: MIT */
/*
 * What the unit tests share: cmocka with its headers, a seeded generator, and
 * guest memory that a test owns.
 *
 * A random test calls rng_start() first. Its seed is printed and is taken from
 * the environment variable SEED where that is set, so that a failure can be
 * played again.
 */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "memory/guest_memory.h"
#include "memory/page_set.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

struct rng {
	uint64_t state;
};

/* splitmix64 */
static inline uint64_t rng_next(struct rng *rng)
{
	uint64_t z = (rng->state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Uniform enough in [0, bound). */
static inline uint64_t rng_below(struct rng *rng, uint64_t bound)
{
	return rng_next(rng) % bound;
}

/* True @n times out of @of. */
static inline bool rng_chance(struct rng *rng, uint64_t n, uint64_t of)
{
	return rng_below(rng, of) < n;
}

static inline struct rng rng_start(const char *test)
{
	const char *given = getenv("SEED");
	struct timespec now;
	uint64_t seed;

	if (given) {
		seed = strtoull(given, NULL, 0);
	} else {
		clock_gettime(CLOCK_REALTIME, &now);
		seed = (uint64_t)now.tv_sec * 1000000007ull +
		       (uint64_t)now.tv_nsec;
	}
	printf("# %s: SEED=%llu\n", test, (unsigned long long)seed);
	fflush(stdout);
	return (struct rng){ seed };
}

static inline void *zeroed(size_t size)
{
	size_t whole = (size + 4095) / 4096 * 4096;
	void *p = aligned_alloc(4096, whole ? whole : 4096);

	assert_non_null(p);
	memset(p, 0, whole ? whole : 4096);
	return p;
}

static inline struct page_set page_set_new(uint64_t pages)
{
	struct page_set set;

	page_set_init(&set, zeroed(page_set_words_size(pages)),
		      zeroed(page_set_summary_size(pages)), pages);
	return set;
}

static inline void page_set_delete(struct page_set *set)
{
	free(set->words);
	free(set->summary);
}

static inline void memory_add(struct guest_memory *memory, uint64_t start,
			      uint64_t size)
{
	struct memory_region region = {
		.start = { start },
		.size = size,
		.host = zeroed(size),
	};

	assert_int_equal(guest_memory_add_region(memory, region), 0);
}

/* After the last memory_add(). */
static inline void memory_finish(struct guest_memory *memory)
{
	memory->written = page_set_new(memory->frames);
}

static inline void memory_delete(struct guest_memory *memory)
{
	unsigned int i;

	for (i = 0; i < memory->regions; i++)
		free(memory->region[i].host);
	page_set_delete(&memory->written);
	memset(memory, 0, sizeof(*memory));
}

/* Bytes of RAM that must be there. */
static inline void *ram(const struct guest_memory *memory, uint64_t start,
			uint64_t length)
{
	void *p = guest_memory_span(memory, (struct gpa){ start }, length);

	assert_non_null(p);
	return p;
}

/* Has the monitor marked all of [start, start + length) as written? */
static inline bool marked(const struct guest_memory *memory, uint64_t start,
			  uint64_t length)
{
	uint64_t page = start / 4096;

	for (; page <= (start + length - 1) / 4096; page++)
		if (!page_set_contains(&memory->written, page))
			return false;
	return true;
}

#endif
