/* SPDX-License-Identifier: MIT */
/* The balloon's driver, stepped from the main loop. */
#ifndef BARE_BALLOON_H
#define BARE_BALLOON_H

#include <stdbool.h>
#include <stdint.h>

#include "balloon/queues.h"

struct balloon_counters {
	uint64_t reports, signs, releases; /* ids and signs sent, DONEs seen */
	uint64_t hints, hinted_pages;  /* made available */
	uint64_t taken;		/* blocks taken back and written */
	uint64_t window;	/* of these, whose hint was used after that */
	uint64_t inflated, deflated; /* pages */
};

extern struct balloon_counters balloon_counters;

/* @hinting: take the feature if it is offered. A machine without a balloon is
 * no failure. */
void balloon_init(bool hinting, enum balloon_numbering numbering);

/* Do what can be done without waiting. Return: true when that was something */
bool balloon_step(void);

/* From the next report on, take back every @every-th hinted block, at most
 * @most a report, and write it while its hint is on the way; 0: none. */
void balloon_take(uint64_t every, uint64_t most);

/* Print what there is to know. */
void balloon_say(void);
void balloon_say_device(void);

#endif
