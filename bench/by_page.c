// SPDX-License-Identifier: MIT
/*
 * For a second aerostat (build/bench/aerostat-by-page) that gives memory back one
 * page at a time, as balloons did in 2017, and else is the same program: put
 * before backing_discard() by the linker, and in place of the call for many.
 */
#include "memory/backing.h"

int __real_backing_discard(struct guest_memory *memory, struct page_run run,
			   struct page_run *discarded);
int __wrap_backing_discard(struct guest_memory *memory, struct page_run run,
			   struct page_run *discarded);

int __wrap_backing_discard(struct guest_memory *memory, struct page_run run,
			   struct page_run *discarded)
{
	struct page_run one = { run.first, 1 };
	uint64_t i;

	for (i = 0; i < run.count; i++, one.first++)
		if (__real_backing_discard(memory, one, discarded) < 0)
			return -1;
	*discarded = run;
	return 0;
}

unsigned int __wrap_backing_discard_batch(struct guest_memory *memory,
					  const struct page_run *run,
					  unsigned int runs);

unsigned int __wrap_backing_discard_batch(struct guest_memory *memory,
					  const struct page_run *run,
					  unsigned int runs)
{
	return 0;
}
