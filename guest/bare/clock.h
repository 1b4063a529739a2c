/* SPDX-License-Identifier: MIT */
/* Time by the TSC. */
#ifndef BARE_CLOCK_H
#define BARE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* @tsc_khz: 0 to find it out */
void clock_init(uint64_t tsc_khz);
uint64_t clock_khz(void);

/* Where clock_khz() comes from. */
const char *clock_source(void);

uint64_t clock_microseconds(void);

/* A recurring moment. */
struct timer {
	uint64_t last; /* TSC */
};

/* Return: true when @microseconds have gone by since it last said so. A clock
 * that was set back, as a move to another host may do, counts as due. */
bool timer_due(struct timer *timer, uint64_t microseconds);

/* Let the CPU go, for a part of a millisecond, if the timer of the local APIC
 * works; else return at once. */
void clock_idle_init(void);
void clock_idle(void);

#endif
