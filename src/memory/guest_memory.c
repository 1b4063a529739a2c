// SPDX-License-Identifier: MIT
/* Guest memory: translation by checked span, see guest_memory.h. */
#include "memory/guest_memory.h"

#include <stddef.h>

#include "base/checked.h"

static inline uint64_t region_end(const struct memory_region *region)
{
	return region->start.value + region->size;
}

int guest_memory_add_region(struct guest_memory *memory,
			    struct memory_region region)
{
	uint64_t end;

	if (memory->regions == GUEST_MEMORY_MAX_REGIONS)
		return -1;
	if (!region.size || region.start.value % GUEST_PAGE_SIZE ||
	    region.size % GUEST_PAGE_SIZE)
		return -1;
	if (!checked_add(region.start.value, region.size, &end))
		return -1;
	if (region.start.value >> GUEST_PAGE_SHIFT < memory->frames)
		return -1;

	memory->region[memory->regions++] = region;
	memory->size += region.size;
	memory->frames = end >> GUEST_PAGE_SHIFT;
	return 0;
}

void *guest_memory_span(const struct guest_memory *memory, struct gpa start,
			uint64_t length)
{
	const struct memory_region *region;
	uint64_t offset;
	unsigned int i;

	if (!length)
		return NULL;
	for (i = 0; i < memory->regions; i++) {
		region = &memory->region[i];
		if (start.value < region->start.value)
			return NULL;
		offset = start.value - region->start.value;
		if (checked_within(offset, length, region->size))
			return region->host + offset;
	}
	return NULL;
}

/* Regions ascend, so a span that wraps never comes to those below its start:
 * the first region that ends behind the start decides. */
void *guest_memory_clip(const struct guest_memory *memory, struct gpa *start,
			uint64_t *length)
{
	const struct memory_region *region = memory->region;
	const struct memory_region *stop = region + memory->regions;
	uint64_t hole = 0, left;

	while (region < stop && region_end(region) <= start->value)
		region++;
	if (region < stop && region->start.value > start->value)
		hole = region->start.value - start->value;
	if (region == stop || hole >= *length) {
		*length = 0;
		return NULL;
	}

	start->value += hole;
	*length -= hole;
	left = region_end(region) - start->value;
	if (*length > left)
		*length = left;
	return region->host + (start->value - region->start.value);
}

void guest_memory_mark_dirty(struct guest_memory *memory, struct gpa start,
			     uint64_t length)
{
	struct page_run run;

	if (!length)
		return;
	run.first = start.value >> GUEST_PAGE_SHIFT;
	run.count = ((start.value + length - 1) >> GUEST_PAGE_SHIFT) -
		    run.first + 1;
	page_set_add_shared(&memory->written, run);
}
