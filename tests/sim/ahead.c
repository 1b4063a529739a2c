// SPDX-License-Identifier: MIT
/*
 * Memory brought into being ahead, without a thread: ahead.h for the simulator.
 * What was announced is brought about at any of the edges before it arrives, or
 * not at all; and a run whose content never comes as well.
 */
#include "sim.h"

#include "migration/ahead.h"

void ahead_init(struct ahead *ahead)
{
	memset(ahead, 0, sizeof(*ahead));
}

static void make_some(struct ahead *ahead)
{
	struct gpa start;
	struct page_run run;

	while (ahead->taken < ahead->announced && chance(2)) {
		run = ahead->run[ahead->taken++ % AHEAD_RUNS];
		start.value = run.first << GUEST_PAGE_SHIFT;
		backing_touched(guest_memory_span(ahead->memory, start,
						  run.count
							  << GUEST_PAGE_SHIFT),
				run.count << GUEST_PAGE_SHIFT);
	}
}

void ahead_announce(struct ahead *ahead, const struct guest_memory *memory,
		    struct page_run run)
{
	ahead->memory = memory;
	if (ahead->announced - ahead->taken < AHEAD_RUNS)
		ahead->run[ahead->announced++ % AHEAD_RUNS] = run;
	make_some(ahead);
}

bool ahead_arrives(struct ahead *ahead, struct page_run run)
{
	make_some(ahead);
	return chance(2);
}

void ahead_stop(struct ahead *ahead)
{
	make_some(ahead);
}
