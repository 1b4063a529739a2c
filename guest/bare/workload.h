/* SPDX-License-Identifier: MIT */
/* Memory with content that can be checked, and the jobs that make it. */
#ifndef BARE_WORKLOAD_H
#define BARE_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "job.h"

/* What is in a page of PAGE_DEFLATED. */
#define DEFLATED_SEED 0x5b4c3d2e00000000ull

/* Each begins a job. Return: NULL, or why not */
const char *workload_keep(struct job *job, uint64_t mib, uint64_t seed);
const char *workload_keep_high(struct job *job, uint64_t mib, uint64_t seed);
const char *workload_dirty(struct job *job, uint64_t mib, uint64_t seed);
const char *workload_interleave(struct job *job, uint64_t used, uint64_t freed,
				uint64_t seed);
const char *workload_check(struct job *job);
const char *workload_writer(struct job *job, uint64_t mib, uint64_t rate,
			    uint64_t seed);
const char *workload_writer_check(struct job *job);

/* Pages with content to check, from @page on. */
uint64_t workload_pages_from(uint64_t page);

/* Change one bit that is kept. Return: NULL, or why not */
const char *workload_spoil(void);

/* The writer writes no more; its pages stay as they are until the next one. */
const char *workload_writer_stop(void);

/* Let the writer have its turn. Return: true when it wrote */
bool workload_writer_step(void);

#endif
