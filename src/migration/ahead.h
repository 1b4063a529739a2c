/* SPDX-License-Identifier: MIT */
/*
 * Memory brought into being before its content comes: a thread of the
 * destination's takes the runs that were announced, one after the other, while
 * the content of earlier ones is read. To make a page of 4096 bytes costs more
 * than to fill it.
 *
 * It never changes content, so nothing rests on an announcement being true, or
 * being kept. All functions are for the destination's own thread.
 */
#ifndef MIGRATION_AHEAD_H
#define MIGRATION_AHEAD_H

#include <pthread.h>
#include <stdbool.h>

#include "memory/guest_memory.h"
#include "memory/page_set.h"

#define AHEAD_RUNS 512u /* announced and not yet come; more are forgotten */

struct ahead {
	const struct guest_memory *memory;
	pthread_t thread;
	bool started, cannot; /* there is a thread; there will be none */
	/* Under the lock. Counts of runs, which say where in run[] they are:
	 * arrived <= taken <= announced <= arrived + AHEAD_RUNS. */
	pthread_mutex_t lock;
	pthread_cond_t more;
	uint64_t announced, taken, arrived;
	bool stop;
	struct page_run run[AHEAD_RUNS];
};

void ahead_init(struct ahead *ahead);

/* @run: all of it RAM of @memory, which is the same each time and must outlive
 * ahead_stop() */
void ahead_announce(struct ahead *ahead, const struct guest_memory *memory,
		    struct page_run run);

/* The content of @run comes now.
 * Return: whether the thread has made it or is about to, in huge pages where
 * they fit */
bool ahead_arrives(struct ahead *ahead, struct page_run run);

/* End the thread, if there is one: from here on nobody touches memory. Once, at
 * the end of each ahead_init(). */
void ahead_stop(struct ahead *ahead);

#endif
