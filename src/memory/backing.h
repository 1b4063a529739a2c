/* SPDX-License-Identifier: MIT */
/*
 * What guest memory is made of on the host: private anonymous pages, given
 * back to the host by runs, and the question which of them exist.
 */
#ifndef MEMORY_BACKING_H
#define MEMORY_BACKING_H

#include "base/error.h"
#include "memory/guest_memory.h"

/* RAM below this address, the rest from 4 GiB on: the hole holds the PCI
 * window, the interrupt controllers and the firmware area. */
#define BACKING_LOW_LIMIT 0xc0000000ull
#define BACKING_HIGH_START 0x100000000ull
#define BACKING_MIN_SIZE (32ull << 20)
#define BACKING_MAX_SIZE (1ull << 40)

/**
 * backing_create() - Map guest RAM
 * @size:	bytes, a multiple of 4096 from BACKING_MIN_SIZE to
 *		BACKING_MAX_SIZE
 *
 * Nothing is populated. Huge pages are asked for. To be undone by
 * backing_destroy().
 *
 * Return: 0, or -1 with @err
 */
int backing_create(struct guest_memory *memory, uint64_t size,
		   struct error *err);
void backing_destroy(struct guest_memory *memory);

/* Empty set over @pages frames, to be freed by page_set_free(). Memory comes
 * as pages are added. Return: 0, or -1 with @err */
int page_set_create(struct page_set *set, uint64_t pages, struct error *err);
void page_set_free(struct page_set *set);

/**
 * backing_discard() - Give a run of pages, all RAM, back to the host
 *
 * They read as zero from then on.
 *
 * Return: 0, or a negative errno
 */
int backing_discard(const struct guest_memory *memory, struct page_run run);

/* Whether huge pages may back the guest; on from the start. Return: 0, or a
 * negative errno */
int backing_set_huge(const struct guest_memory *memory, struct page_run run,
		     bool huge);

/**
 * backing_populated() - Which pages exist
 * @into:	pages that are present or swapped out are added
 * @within:	only this run is looked at
 *
 * Source: /proc/self/pagemap. A page that does not exist was never written
 * since it was last discarded.
 *
 * Return: 0, or -1 with @err
 */
int backing_populated(const struct guest_memory *memory, struct page_run within,
		      struct page_set *into, struct error *err);

/* Bytes of guest memory resident in this process. */
uint64_t backing_resident(const struct guest_memory *memory);

#endif
