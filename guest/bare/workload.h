/* SPDX-License-Identifier: MIT */
/*
 * Memory with content that can be checked, and the work that makes it. Long
 * work is a job: begun by a command, carried on by steps from the main loop,
 * so that the balloon and the serial port are served meanwhile.
 */
#ifndef BARE_WORKLOAD_H
#define BARE_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

/* What a step says; JOB_RUNS: call it again. */
enum job_state { JOB_RUNS, JOB_DONE };

struct job {
	enum job_state (*step)(struct job *job); /* NULL: none */
	uint64_t page, pages, left, bad, seed;
	uint64_t began;	   /* microseconds */
	const char *error; /* at its end */
};

/* Each begins a job. Return: NULL, or why not */
const char *workload_keep(struct job *job, uint64_t mib, uint64_t seed);
const char *workload_dirty(struct job *job, uint64_t mib, uint64_t seed);
const char *workload_check(struct job *job);
const char *workload_writer(struct job *job, uint64_t mib, uint64_t rate,
			    uint64_t seed);
const char *workload_writer_check(struct job *job);

/* Change one bit that is kept. Return: NULL, or why not */
const char *workload_spoil(void);

/* The writer writes no more; its pages stay as they are until the next one. */
const char *workload_writer_stop(void);

/* Let the writer have its turn. Return: true when it wrote */
bool workload_writer_step(void);

#endif
