/* SPDX-License-Identifier: MIT */
/* Work that takes long: begun by a command, carried on by steps from the main
 * loop, so that the balloon and the serial port are served meanwhile. */
#ifndef BARE_JOB_H
#define BARE_JOB_H

#include <stdbool.h>
#include <stdint.h>

/* What a step says; JOB_RUNS: call it again. */
enum job_state { JOB_RUNS, JOB_DONE };

struct job {
	enum job_state (*step)(struct job *job); /* NULL: none */
	uint64_t page, pages, left, bad, seed;
	uint64_t share;	   /* pages of each block that are kept */
	bool high;	   /* from the end of memory */
	uint64_t began;	   /* microseconds */
	const char *error; /* at its end */
};

#endif
