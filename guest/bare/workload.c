// SPDX-License-Identifier: MIT
/*
 * Memory with content that can be checked, see workload.h.
 *
 * The writer's pages: pages before its cursor are of this pass, the others of
 * the one before. So a page of an older time is found out, however consistent
 * it is in itself; its first word says of which pass it is.
 */
#include "workload.h"

#include "clock.h"
#include "memory.h"
#include "pattern.h"
#include "serial.h"

#define PAGES_PER_STEP 128
#define SEEDS (PAGE_TAGS - PAGE_KEPT)
/* A writer that was held up catches up at most this long a time. */
#define MOST_ARREARS_MICROSECONDS 100000

static uint64_t seeds[SEEDS];
static unsigned int kept; /* seeds in use */

static struct {
	bool writes;
	uint64_t rate, seed; /* pages a second */
	uint64_t pass, page; /* cursor: next page to write */
	uint64_t paid_until; /* microseconds */
} writer;

static void begin(struct job *job, enum job_state (*step)(struct job *job))
{
	*job = (struct job){ .step = step, .began = clock_microseconds() };
}

static enum job_state fail(struct job *job, const char *error)
{
	job->error = error;
	return JOB_DONE;
}

static void say_speed(const struct job *job)
{
	uint64_t us = clock_microseconds() - job->began;

	say("mib %lu ms %lu", job->pages / MIB_PAGES, us / 1000);
}

/* -------------------------------------------------------- keep, dirty --- */

static bool fill_some(struct job *job, enum page_tag tag)
{
	unsigned int i;
	uint64_t page;

	for (i = 0; i < PAGES_PER_STEP && job->left; i++, job->left--) {
		page = job->high ? memory_take_high_page(tag) :
				   memory_take_page(tag);
		if (!page)
			return false;
		pattern_fill(job->seed, page);
	}
	return true;
}

static enum job_state keep_step(struct job *job)
{
	enum page_tag tag = PAGE_KEPT + kept;

	if (!fill_some(job, tag)) {
		memory_put_all(tag);
		return fail(job, "out of memory");
	}
	if (job->left)
		return JOB_RUNS;
	kept++;
	say_speed(job);
	return JOB_DONE;
}

static enum job_state dirty_step(struct job *job)
{
	bool enough = fill_some(job, PAGE_TRANSIENT);

	if (enough && job->left)
		return JOB_RUNS;
	memory_put_all(PAGE_TRANSIENT);
	if (!enough)
		return fail(job, "out of memory");
	say_speed(job);
	return JOB_DONE;
}

/* A share of each block is kept, so that used and free alternate. */
static enum job_state interleave_step(struct job *job)
{
	enum page_tag tag = PAGE_KEPT + kept;
	unsigned int i;
	uint64_t page;

	for (i = 0; i < PAGES_PER_STEP && job->left; i++, job->left--) {
		page = memory_take_page(PAGE_TRANSIENT);
		if (!page)
			break;
		pattern_fill(job->seed, page);
		if (page % BLOCK_PAGES < job->share)
			memory_retag(page, 1, tag);
	}
	if (i == PAGES_PER_STEP && job->left)
		return JOB_RUNS;
	memory_put_all(PAGE_TRANSIENT);
	if (job->left) {
		memory_put_all(tag);
		return fail(job, "out of memory");
	}
	kept++;
	say_speed(job);
	return JOB_DONE;
}

const char *workload_keep(struct job *job, uint64_t mib, uint64_t seed)
{
	if (kept == SEEDS)
		return "too many things are kept";
	seeds[kept] = seed;
	begin(job, keep_step);
	job->seed = seed;
	job->left = job->pages = mib * MIB_PAGES;
	return NULL;
}

const char *workload_keep_high(struct job *job, uint64_t mib, uint64_t seed)
{
	const char *error = workload_keep(job, mib, seed);

	job->high = !error;
	return error;
}

const char *workload_dirty(struct job *job, uint64_t mib, uint64_t seed)
{
	begin(job, dirty_step);
	job->seed = seed;
	job->left = job->pages = mib * MIB_PAGES;
	return NULL;
}

const char *workload_interleave(struct job *job, uint64_t used, uint64_t freed,
				uint64_t seed)
{
	if (!used)
		return "there must be something to keep";
	if (kept == SEEDS)
		return "too many things are kept";
	seeds[kept] = seed;
	begin(job, interleave_step);
	job->seed = seed;
	job->left = job->pages = (used + freed) * MIB_PAGES;
	job->share = used * BLOCK_PAGES / (used + freed);
	return NULL;
}

/* -------------------------------------------------------- check, spoil --- */

/* Return: false when nothing checkable is in the page */
static bool seed_of(uint64_t page, uint64_t *seed)
{
	enum page_tag tag = memory_tag(page);

	if (tag == PAGE_TAKEN)
		*seed = *memory_block_seed(page);
	else if (tag == PAGE_DEFLATED)
		*seed = DEFLATED_SEED;
	else if (tag >= PAGE_KEPT && tag < PAGE_KEPT + kept)
		*seed = seeds[tag - PAGE_KEPT];
	else
		return false;
	return true;
}

static const char *holder_of(uint64_t page)
{
	switch (memory_tag(page)) {
	case PAGE_TAKEN:
		return "taken";
	case PAGE_DEFLATED:
		return "deflated";
	default:
		return "kept";
	}
}

static void check_page(struct job *job, uint64_t page, uint64_t seed)
{
	unsigned int wrong = pattern_check(seed, page);

	job->pages++;
	if (wrong == PAGE_WORDS || job->bad++)
		return;
	say("first-bad seed %lu %s page %lu offset %u is %16lx not %16lx", seed,
	    holder_of(page), page, wrong * 8, memory_words(page)[wrong],
	    pattern_word(seed, page, wrong));
}

static enum job_state check_step(struct job *job)
{
	unsigned int i = 0;
	uint64_t seed;

	for (; job->page < memory_end() && i < PAGES_PER_STEP; job->page++) {
		if (!seed_of(job->page, &seed))
			continue;
		check_page(job, job->page, seed);
		i++;
	}
	if (job->page < memory_end())
		return JOB_RUNS;
	say("pages %lu bad %lu", job->pages, job->bad);
	say_speed(job);
	return job->bad ? fail(job, "kept memory differs") : JOB_DONE;
}

const char *workload_check(struct job *job)
{
	begin(job, check_step);
	return NULL;
}

uint64_t workload_pages_from(uint64_t page)
{
	uint64_t pages = 0, seed;

	for (; page < memory_end(); page++)
		pages += seed_of(page, &seed);
	return pages;
}

const char *workload_spoil(void)
{
	uint64_t page, seed;

	for (page = 0; page < memory_end(); page++) {
		if (!seed_of(page, &seed))
			continue;
		memory_words(page)[1] ^= 1;
		return NULL;
	}
	return "nothing is kept";
}

/* ------------------------------------------------------------- writer --- */

static uint64_t pass_seed(uint64_t pass)
{
	return writer.seed + (pass << 32);
}

static void write_page(uint64_t page, uint64_t pass)
{
	pattern_fill(pass_seed(pass), page);
	memory_words(page)[0] = pass;
}

static enum job_state writer_begin_step(struct job *job)
{
	unsigned int i;
	uint64_t page;

	for (i = 0; i < PAGES_PER_STEP && job->left; i++, job->left--) {
		page = memory_take_page(PAGE_WRITER);
		if (!page) {
			memory_put_all(PAGE_WRITER);
			return fail(job, "out of memory");
		}
		write_page(page, 0);
	}
	if (job->left)
		return JOB_RUNS;
	writer.pass = 1;
	writer.page = memory_next(0, PAGE_WRITER);
	writer.paid_until = clock_microseconds();
	writer.writes = true;
	return JOB_DONE;
}

const char *workload_writer(struct job *job, uint64_t mib, uint64_t rate,
			    uint64_t seed)
{
	if (writer.writes)
		return "there is a writer already";
	if (!mib || !rate)
		return "a writer needs pages and a rate";
	memory_put_all(PAGE_WRITER);
	writer.rate = rate * MIB_PAGES;
	writer.seed = seed;
	begin(job, writer_begin_step);
	job->left = mib * MIB_PAGES;
	return NULL;
}

const char *workload_writer_stop(void)
{
	if (!writer.writes)
		return "there is no writer";
	writer.writes = false;
	return NULL;
}

static void write_next(void)
{
	write_page(writer.page, writer.pass);
	writer.page = memory_next(writer.page + 1, PAGE_WRITER);
	if (writer.page < memory_end())
		return;
	writer.pass++;
	writer.page = memory_next(0, PAGE_WRITER);
}

bool workload_writer_step(void)
{
	uint64_t now, due, i;

	if (!writer.writes)
		return false;
	now = clock_microseconds();
	/* Also where the clock was set back. */
	if (now - writer.paid_until > MOST_ARREARS_MICROSECONDS)
		writer.paid_until = now - MOST_ARREARS_MICROSECONDS;
	due = (now - writer.paid_until) * writer.rate / 1000000;
	if (!due)
		return false;
	if (due > PAGES_PER_STEP)
		due = PAGES_PER_STEP;
	writer.paid_until += due * 1000000 / writer.rate;
	for (i = 0; i < due; i++)
		write_next();
	return true;
}

static void check_writer_page(struct job *job, uint64_t page)
{
	uint64_t pass = writer.pass - (page >= writer.page);
	uint64_t *words = memory_words(page);
	uint64_t found = words[0];
	unsigned int wrong;

	/* The pass is put away, so that the rest is the pattern's. */
	words[0] = pattern_first(pass_seed(pass), page);
	wrong = pattern_check(pass_seed(pass), page);
	words[0] = found;
	job->pages++;
	if ((wrong == PAGE_WORDS && found == pass) || job->bad++)
		return;
	say("first-bad seed %lu page %lu offset %u of pass %lu is not of pass "
	    "%lu", writer.seed, page, wrong == PAGE_WORDS ? 0 : wrong * 8,
	    found, pass);
}

/* The writer has no turn while a job that looks at its pages runs. */
static enum job_state writer_check_step(struct job *job)
{
	unsigned int i;

	for (i = 0; i < PAGES_PER_STEP; i++) {
		job->page = memory_next(job->page, PAGE_WRITER);
		if (job->page == memory_end())
			break;
		check_writer_page(job, job->page++);
	}
	if (job->page < memory_end())
		return JOB_RUNS;
	writer.writes = job->seed; /* as it was before */
	writer.paid_until = clock_microseconds();
	say("passes %lu", writer.pass - 1);
	say("pages %lu bad %lu", job->pages, job->bad);
	return job->bad ? fail(job, "the writer's memory differs") : JOB_DONE;
}

const char *workload_writer_check(struct job *job)
{
	if (!memory_count(PAGE_WRITER))
		return "there was no writer";
	begin(job, writer_check_step);
	job->seed = writer.writes;
	writer.writes = false;
	return NULL;
}
