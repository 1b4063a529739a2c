/* SPDX-License-Identifier: MIT */
/*
 * Coroutines: what blocks in the real program runs on a stack of its own and
 * gives way wherever it touches the world outside.
 *
 * The one who resumes is the scheduler; coroutine_now is NULL there.
 */
#ifndef SIM_COROUTINE_H
#define SIM_COROUTINE_H

#include <stdbool.h>
#include <stdint.h>

#define NEVER UINT64_MAX

struct coroutine {
	void *stack_pointer;
	bool active;
	/* What it waits for; NULL: nothing. */
	bool (*ready)(void *of);
	void *of;
	uint64_t deadline; /* of the wait, simulated ns */
	void (*main)(void *argument);
	void *argument;
};

extern struct coroutine *coroutine_now;

/* Begin on the stack [stack, stack + size); runs at the first resume. */
void coroutine_start(struct coroutine *coroutine, void *stack, uint64_t size,
		     void (*main)(void *argument), void *argument);

/* Scheduler only: run it until it gives way or ends. */
void coroutine_resume(struct coroutine *coroutine);

/* Give way; does nothing in the scheduler. */
void coroutine_yield(void);

/* Go on when @ready(@of), or after @deadline.
 * Return: false when the deadline came first */
bool coroutine_wait(bool (*ready)(void *of), void *of, uint64_t deadline);

/* Would it get on if it were resumed at @now? */
static inline bool coroutine_runnable(const struct coroutine *coroutine,
				      uint64_t now)
{
	if (!coroutine->active)
		return false;
	return !coroutine->ready || now >= coroutine->deadline ||
	       coroutine->ready(coroutine->of);
}

#endif
