/* SPDX-License-Identifier: MIT */
/*
 * Guest memory: which guest-physical addresses are RAM, and where they lie in
 * this process. Nobody turns a guest's address into a pointer but
 * guest_memory_span().
 *
 * The table of regions is set up once and read-only afterwards, so every
 * thread may translate. Writes that the monitor itself makes into guest memory
 * are marked with guest_memory_mark_dirty(): KVM's log does not see them.
 */
#ifndef MEMORY_GUEST_MEMORY_H
#define MEMORY_GUEST_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/page_set.h"

#define GUEST_PAGE_SHIFT 12
#define GUEST_PAGE_SIZE (1ull << GUEST_PAGE_SHIFT)
#define GUEST_MEMORY_MAX_REGIONS 4

/* A guest-physical address: a type of its own, so that it is never mistaken
 * for a pointer or a length. */
struct gpa {
	uint64_t value;
};

struct memory_region {
	struct gpa start; /* page aligned */
	uint64_t size;	  /* bytes, page aligned, not 0 */
	uint8_t *host;	  /* where byte 0 of the region lies here */
};

struct guest_memory {
	struct memory_region region[GUEST_MEMORY_MAX_REGIONS];
	unsigned int regions;	 /* ascending, not overlapping */
	uint64_t size;		 /* bytes of RAM in all */
	uint64_t frames;	 /* one more than the highest frame number */
	struct page_set written; /* by the monitor itself; shared */
	unsigned int backing;	 /* enum backing_kind, see backing.h */
	int file;		 /* what the regions map, one behind the other;
				    none (0) while the kind is anonymous */
};

/**
 * guest_memory_add_region() - Add RAM above what is there
 *
 * For set-up only, before any other thread runs.
 *
 * Return: 0, or -1 when the region is misaligned, empty, wraps, overlaps or
 * comes below one that is there, or when the table is full
 */
int guest_memory_add_region(struct guest_memory *memory,
			    struct memory_region region);

/**
 * guest_memory_span() - Translate a span of guest memory
 * @start:	guest: any value
 * @length:	guest: any value, bytes
 *
 * Return: pointer to @length bytes, valid as long as the memory is; NULL when
 * @length is 0 or any byte is outside RAM or in another region than the first
 */
void *guest_memory_span(const struct guest_memory *memory, struct gpa start,
			uint64_t length);

/**
 * guest_memory_clip() - The part of a span that begins at the span's first
 *			 RAM byte and lies in one region
 * @start:	guest: in: where the span begins; out: where the part begins
 * @length:	guest: in: of the span; out: of the part, 0 when none is RAM
 *
 * Walks a span over region boundaries and holes: the caller goes on behind the
 * part that was returned. A span that wraps is cut at the end of the address
 * space.
 *
 * Return: pointer to the part, or NULL
 */
void *guest_memory_clip(const struct guest_memory *memory, struct gpa *start,
			uint64_t *length);

/* Note that the monitor wrote [start, start + length), which lies in RAM.
 * Any thread. */
void guest_memory_mark_dirty(struct guest_memory *memory, struct gpa start,
			     uint64_t length);

#endif
