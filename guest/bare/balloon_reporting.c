// SPDX-License-Identifier: MIT
/*
 * Free page reporting (VIRTIO 1.3 section 5.5.6.7): free blocks are told to the
 * host, up to 32 in a buffer as Linux does, and not touched until the buffer
 * comes back (D39). Then they are free again, and not told again until some of
 * their pages were in use. This happens on command only, so that a test knows
 * when.
 *
 * With poison a block is filled with it before it is told (D38), and the host
 * gives back nothing else (V14): this is looked at when the block is used.
 */
#include "balloon_internal.h"

#include <stddef.h>

#include "clock.h"
#include "memory.h"
#include "serial.h"

#define SEGMENTS 32
#define PAGES_PER_STEP 256
#define TOKEN_REPORT 0

static struct {
	struct vring_segment segment[SEGMENTS];
	uint16_t count;
	uint64_t filling, filled; /* block that gets its poison, and pages */
	bool wanted, sent;
} reporting;

/* ------------------------------------------------------------ poison --- */

/* The value of poison_val is a pattern of four bytes. */
static uint64_t poison_word(void)
{
	return (uint64_t)balloon_driver.poison << 32 | balloon_driver.poison;
}

void poison_fill(uint64_t page)
{
	uint64_t *words = memory_words(page);
	uint64_t word = poison_word();
	unsigned int i;

	for (i = 0; i < PAGE_WORDS; i++)
		words[i] = word;
}

static bool has_poison(uint64_t page)
{
	const uint64_t *words = memory_words(page);
	uint64_t word = poison_word();
	unsigned int i;

	for (i = 0; i < PAGE_WORDS && words[i] == word; i++)
		;
	return i == PAGE_WORDS;
}

static void look_at_block(uint64_t page)
{
	uint64_t last = page + BLOCK_PAGES;

	balloon_counters.poison_checked += BLOCK_PAGES;
	for (; page < last; page++) {
		if (has_poison(page) || balloon_counters.poison_bad++)
			continue;
		say("first-bad poison page %lu begins with %16lx", page,
		    memory_words(page)[0]);
	}
}

void reporting_init(void)
{
	if (balloon_driver.poisons)
		memory_watch_reported(look_at_block);
}

/* ----------------------------------------------------------- reports --- */

static void send_report(void)
{
	struct virtio_queue *queue = &balloon_driver.queue[BALLOON_REPORTING];

	vring_driver_add(&queue->ring, reporting.segment, 0, reporting.count,
			 TOKEN_REPORT);
	reporting.sent = true;
	balloon_counters.report_buffers++;
	virtio_kick(&balloon_driver.device, queue);
}

static void finish_report(void)
{
	uint16_t i;

	for (i = 0; i < reporting.count; i++)
		memory_put_reported(reporting.segment[i].address >>
				    PAGE_SHIFT);
	balloon_counters.reported += (uint64_t)reporting.count * BLOCK_PAGES;
	reporting.count = 0;
	reporting.sent = false;
}

/* Return: false when there is none */
static bool add_block(void)
{
	uint64_t page = memory_take_unreported(PAGE_REPORTED);

	if (!page)
		return false;
	reporting.segment[reporting.count++] = (struct vring_segment){
		page << PAGE_SHIFT, BLOCK_PAGES * PAGE_SIZE
	};
	if (balloon_driver.poisons) {
		reporting.filling = page;
		reporting.filled = 0;
	}
	return true;
}

static void go_on_filling(void)
{
	unsigned int i;

	for (i = 0; i < PAGES_PER_STEP; i++)
		poison_fill(reporting.filling + reporting.filled++);
	if (reporting.filled == BLOCK_PAGES)
		reporting.filling = 0;
}

bool reporting_step(void)
{
	uint64_t token;

	if (reporting.sent) {
		if (!balloon_take_used(BALLOON_REPORTING, &token))
			return false;
		finish_report();
		return true;
	}
	if (!reporting.wanted)
		return false;
	if (reporting.filling)
		go_on_filling();
	else if (reporting.count < SEGMENTS && add_block())
		return true;
	else if (reporting.count)
		send_report();
	else
		reporting.wanted = false;
	return true;
}

static enum job_state report_job_step(struct job *job)
{
	if (reporting.wanted || reporting.sent)
		return JOB_RUNS;
	say("reported-pages %lu us %lu", balloon_counters.reported - job->pages,
	    clock_microseconds() - job->began);
	return JOB_DONE;
}

const char *balloon_report_now(struct job *job)
{
	if (!balloon_has_queue(BALLOON_REPORTING))
		return "reporting is not negotiated";
	*job = (struct job){
		.step = report_job_step,
		.pages = balloon_counters.reported,
		.began = clock_microseconds(),
	};
	reporting.wanted = true;
	return NULL;
}

void reporting_count(void)
{
	const struct balloon_counters *c = &balloon_counters;

	balloon_count("reported-pages", c->reported);
	balloon_count("report-buffers", c->report_buffers);
	if (!balloon_driver.poisons)
		return;
	balloon_count("poison", balloon_driver.poison);
	balloon_count("poison-checked", c->poison_checked);
	balloon_count("poison-bad", c->poison_bad);
}
