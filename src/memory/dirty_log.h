/* SPDX-License-Identifier: MIT */
/*
 * Which pages were written: what a migration asks of whoever runs the guest.
 *
 * The order that keeps a running guest's memory safe: arm, then ask the guest
 * for its free pages; before each sync close that report and wait until its
 * thread has let go of the set. Nothing but sync() clears the log, and it
 * clears exactly the pages it added to the caller's set.
 */
#ifndef MEMORY_DIRTY_LOG_H
#define MEMORY_DIRTY_LOG_H

#include "base/error.h"
#include "memory/page_set.h"

struct dirty_log;

/* All members mandatory; called by one thread. */
struct dirty_log_ops {
	/* From the return of arm() on every write is logged. Pages of
	 * @populated are clean then; any other page may come up as written at
	 * the first sync(). Again after disarm() if need be. */
	int (*arm)(struct dirty_log *log, const struct page_set *populated,
		   struct error *err);
	/* Add the pages written since they were last added (or since arm())
	 * to @into, as far as they are in @populated; only those are cleared.
	 * Return: pages written, or -1 with @err */
	int64_t (*sync)(struct dirty_log *log, const struct page_set *populated,
			struct page_set *into, struct error *err);
	/* Stop logging. Harmless when not armed. */
	void (*disarm)(struct dirty_log *log);
};

struct dirty_log {
	const struct dirty_log_ops *ops;
};

#endif
