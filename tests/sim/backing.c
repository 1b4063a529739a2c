// SPDX-License-Identifier: MIT
/*
 * The backing of guest memory without a kernel: pages lie in the host's array,
 * and a bit says which of them exist. One that does not is zero there.
 */
#include "sim.h"

#include <errno.h>

/* Storage of page sets: a migration's, and those of two hosts. */
#define SETS 32

static struct {
	uint64_t words[PAGE_SET_BLOCK / 64 + 1];
	bool used;
} sets[SETS];

void page_sets_reset(void)
{
	memset(sets, 0, sizeof(sets));
}

int page_set_create(struct page_set *set, uint64_t pages, struct error *err)
{
	unsigned int i;

	for (i = 0; i < SETS; i++) {
		if (sets[i].used)
			continue;
		memset(&sets[i], 0, sizeof(sets[i]));
		sets[i].used = true;
		page_set_init(set, sets[i].words,
			      &sets[i].words[PAGE_SET_BLOCK / 64], pages);
		return 0;
	}
	return error_set(err, "no room for a set of pages");
}

void page_set_free(struct page_set *set)
{
	unsigned int i;

	for (i = 0; i < SETS; i++)
		if (set->words == sets[i].words)
			sets[i].used = false;
	memset(set, 0, sizeof(*set));
}

void backing_reset(struct host *host)
{
	unsigned int n;

	for (n = 0; n < RAM_PAGES; n++)
		if (frames_have(&host->exists, ram_frame(n)))
			memset(frame_at(host, ram_frame(n)), 0,
			       GUEST_PAGE_SIZE);
	host->exists = (struct frames){ { 0 } };
}

void backing_touched(const void *at, uint64_t length)
{
	uintptr_t first = (uintptr_t)at;
	struct host *host;
	uint64_t n, end;

	for (host = world.host; host < world.host + 2; host++) {
		uintptr_t ram = (uintptr_t)host->ram;

		if (first < ram || first >= ram + RAM_PAGES * GUEST_PAGE_SIZE)
			continue;
		end = (first + length - 1 - ram) >> GUEST_PAGE_SHIFT;
		for (n = (first - ram) >> GUEST_PAGE_SHIFT; n <= end; n++)
			frames_add(&host->exists, ram_frame(n));
	}
}

static struct host *of_memory(const struct guest_memory *memory)
{
	return (struct host *)memory;
}

bool backing_read_populates(const struct guest_memory *memory)
{
	/* Between taking a run out of to_send and reading it. */
	edge();
	return memory->backing != BACKING_ANONYMOUS;
}

int backing_set_huge(const struct guest_memory *memory, struct page_run run,
		     bool huge)
{
	return 0;
}

void backing_allow_huge(const struct guest_memory *memory, struct page_run run)
{
}

uint64_t backing_resident(const struct guest_memory *memory)
{
	const struct host *host = of_memory(memory);

	return (__builtin_popcountll(host->exists.word[0]) +
		__builtin_popcountll(host->exists.word[1])) * GUEST_PAGE_SIZE;
}

int backing_discard(const struct guest_memory *memory, struct page_run run,
		    struct page_run *discarded)
{
	struct host *host = of_memory(memory);
	struct gpa start = { run.first << GUEST_PAGE_SHIFT };
	uint64_t count = run.count, i;

	*discarded = (struct page_run){ run.first, 0 };
	if (!guest_memory_span(memory, start, run.count << GUEST_PAGE_SHIFT))
		return -EINVAL;
	/* A call that fails may have done a part. */
	if (world.setup.discards_fail && chance(8))
		count = draw(count + 1);
	for (i = 0; i < count; i++) {
		if (frames_have(&host->exists, run.first + i))
			memset(frame_at(host, run.first + i), 0,
			       GUEST_PAGE_SIZE);
		frames_drop(&host->exists, run.first + i);
	}
	if (count < run.count)
		return -ENOMEM;
	*discarded = run;
	return 0;
}

/* Not one moment: page tables are walked while the guest writes. */
int backing_populated(const struct guest_memory *memory, struct page_run within,
		      struct page_set *into, struct error *err)
{
	struct host *host = of_memory(memory);
	uint64_t end = within.first + within.count, word, bits;

	edge();
	for (word = 0; word < 2; word++) {
		bits = host->exists.word[word];
		if (within.first > word * 64)
			bits &= within.first >= (word + 1) * 64 ? 0 :
				~0ull << (within.first - word * 64);
		if (end < (word + 1) * 64)
			bits &= end <= word * 64 ? 0 :
				~0ull >> ((word + 1) * 64 - end);
		page_set_or_word(into, word, bits);
		edge();
	}
	return 0;
}
