/* SPDX-License-Identifier: MIT */
/* The balloon's driver, stepped from the main loop. */
#ifndef BARE_BALLOON_H
#define BARE_BALLOON_H

#include <stdbool.h>
#include <stdint.h>

#include "balloon/queues.h"
#include "job.h"

/* What to take of what the device offers. */
struct balloon_choice {
	bool hinting, statistics, reporting, must_tell_host, page_ranges;
	bool experiments; /* protocols beside the standard one; with hinting
			     only */
	bool poison;	       /* free pages hold poison_value (D38) */
	uint32_t poison_value;
	enum balloon_numbering numbering;
};

/* A machine without a balloon is no failure. */
void balloon_init(const struct balloon_choice *choice);

/* Do what can be done without waiting. Return: true when that was something */
bool balloon_step(void);

/* From the next report on, take back every @every-th hinted block, at most
 * @most a report, and write it while its hint is on the way; 0: none. */
void balloon_take(uint64_t every, uint64_t most);

/* How often the driver looks whether the host wants something. */
void balloon_poll_every(uint64_t microseconds);

/* Write deflated pages at the earliest moment that is allowed, and keep them
 * (PAGE_DEFLATED) instead of freeing them. */
void balloon_take_deflated(bool on);

/* Have so many buffers of pages on the way at a time; one at the start.
 * Return: NULL, or why not */
const char *balloon_buffers(uint64_t most);

/* Begin a job: wait until the target is @pages and reached; it says how long
 * that took since the driver has read it, or 0 where it was reached before. */
const char *balloon_await(struct job *job, uint64_t pages);

/* Begin a job: report all free blocks that the host does not know of, which
 * happens at this word only. Return: NULL, or why not */
const char *balloon_report_now(struct job *job);

/* Misbehave in one of the ways of balloon_rogue.c. Return: NULL, or why not */
const char *balloon_rogue(uint64_t kind);

/* Print the counter of that name, or all for NULL. Return: whether there is
 * any */
bool balloon_say(const char *key);

/* Print what was negotiated. */
void balloon_say_device(void);

#endif
