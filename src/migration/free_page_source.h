/* SPDX-License-Identifier: MIT */
/*
 * Which pages the guest does not use: what a migration asks of whoever has a
 * balloon. One report at a time.
 *
 * From start() to drain() the set belongs to the source's own thread. drain()
 * waits for that thread and never for the guest: a dead guest must not hold up
 * a migration.
 */
#ifndef MIGRATION_FREE_PAGE_SOURCE_H
#define MIGRATION_FREE_PAGE_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/page_set.h"

enum free_page_state {
	FREE_PAGE_NONE,	     /* no report under way */
	FREE_PAGE_REQUESTED, /* the guest was asked */
	FREE_PAGE_ACCEPTING, /* hints arrive */
	FREE_PAGE_COMPLETE,  /* the guest has no more */
};

struct free_page_progress {
	enum free_page_state state;
	uint64_t hints, pages, rejected; /* of this report */
	struct page_run sample; /* pages hinted so far, one run; count 0: none */
};

struct free_page_source;

/* All members mandatory. */
struct free_page_source_ops {
	/* Ask for a report; hints are added to @hinted, an empty set.
	 * Return: false when the guest cannot be asked: it has no such driver,
	 * or does not run */
	bool (*start)(struct free_page_source *source, struct page_set *hinted);
	/* Return at a change of state or after @timeout_ms. */
	void (*wait)(struct free_page_source *source, unsigned int timeout_ms,
		     struct free_page_progress *progress);
	/* No hint counts any more; the set is the caller's again. Harmless
	 * when no report is under way. */
	void (*drain)(struct free_page_source *source,
		      struct free_page_progress *progress);
	/* The guest gets back what it handed over: once, at the end. */
	void (*done)(struct free_page_source *source);
};

struct free_page_source {
	const struct free_page_source_ops *ops;
};

#endif
