// SPDX-License-Identifier: MIT
/* Commands that fill memory, and look whether it is still what it was. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE_SIZE 4096
#define PAGE_WORDS (PAGE_SIZE / sizeof(uint64_t))
#define MIB_PAGES ((1024 * 1024) / PAGE_SIZE)

/* Memory whose content must stay what it is: a function of seed and place. */
struct kept {
	struct kept *next;
	uint64_t *words;
	uint64_t pages;
	uint64_t seed;
};

/*
 * Memory that a child rewrites for ever, page after page. What each page must
 * hold follows from the cursor alone, so a page of an older time is found out
 * even though it is consistent in itself.
 */
struct writer {
	struct writer *next;
	uint64_t *words; /* shared with the child, as is the cursor */
	uint64_t pages;
	uint64_t seed;
	struct cursor {
		_Atomic uint64_t
			pass; /* pages before next_page are of this pass */
		_Atomic uint64_t
			next_page; /* and from here on of the one before */
		_Atomic bool stop;
		_Atomic bool stopped;
	} * cursor;
};

static struct kept *all_kept;
static struct writer *all_writers;

/* The word at a place: splitmix64 of seed and place, never zero. */
static uint64_t word_at(uint64_t seed, uint64_t place)
{
	uint64_t x = seed * 0xd1342543de82ef95 + place * 0x9e3779b97f4a7c15;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	x ^= x >> 31;
	return x ? x : 1;
}

static void fill_page(uint64_t *words, uint64_t page, uint64_t seed)
{
	for (uint64_t i = 0; i < PAGE_WORDS; i++)
		words[i] = word_at(seed, page * PAGE_WORDS + i);
}

/* The index of the first wrong word, or PAGE_WORDS. */
static uint64_t first_wrong(const uint64_t *words, uint64_t page, uint64_t seed)
{
	uint64_t i = 0;

	while (i < PAGE_WORDS &&
	       words[i] == word_at(seed, page * PAGE_WORDS + i))
		i++;
	return i;
}

static uint64_t *allocate(uint64_t pages, int sharing)
{
	void *at = mmap(NULL, pages * PAGE_SIZE, PROT_READ | PROT_WRITE,
			sharing | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/*
 * Has the kernel write to the swap what is kept; check() brings it back. What
 * was just written is still at hand in the swap cache: touched and sent out a
 * second time, it is gone.
 */
const char *agent_swap_out(char **args)
{
	for (int time = 0; time < 2; time++) {
		for (struct kept *kept = all_kept; kept; kept = kept->next)
			if (madvise(kept->words, kept->pages * PAGE_SIZE,
				    MADV_PAGEOUT))
				return strerror(errno);
		usleep(time ? 0 : 500000);
		for (struct kept *kept = all_kept; kept && !time;
		     kept = kept->next)
			for (uint64_t i = 0; i < kept->pages; i++)
				*(volatile uint64_t *)(kept->words +
						       i * PAGE_WORDS);
	}
	return NULL;
}

const char *agent_keep(char **args)
{
	struct kept *kept = malloc(sizeof(*kept));

	if (!kept)
		return "out of memory";
	kept->pages = strtoull(args[0], NULL, 10) * MIB_PAGES;
	kept->seed = strtoull(args[1], NULL, 10);
	kept->words = allocate(kept->pages, MAP_PRIVATE);
	if (!kept->words) {
		free(kept);
		return strerror(errno);
	}
	for (uint64_t page = 0; page < kept->pages; page++)
		fill_page(kept->words + page * PAGE_WORDS, page, kept->seed);
	kept->next = all_kept;
	all_kept = kept;
	return NULL;
}

const char *agent_check(char **args)
{
	uint64_t pages = 0, bad = 0;

	for (struct kept *kept = all_kept; kept; kept = kept->next) {
		pages += kept->pages;
		for (uint64_t page = 0; page < kept->pages; page++) {
			const uint64_t *words = kept->words + page * PAGE_WORDS;
			uint64_t wrong = first_wrong(words, page, kept->seed);

			if (wrong == PAGE_WORDS)
				continue;
			if (!bad++)
				say("first-bad seed %" PRIu64 " page %" PRIu64
				    " offset %zu is %016" PRIx64
				    " not %016" PRIx64,
				    kept->seed, page, wrong * sizeof(uint64_t),
				    words[wrong],
				    word_at(kept->seed,
					    page * PAGE_WORDS + wrong));
		}
	}
	say("pages %" PRIu64 " bad %" PRIu64, pages, bad);
	return bad ? "kept memory differs" : NULL;
}

/* Shows that check() can fail. */
const char *agent_spoil(char **args)
{
	if (!all_kept)
		return "nothing is kept";
	all_kept->words[(all_kept->pages - 1) * PAGE_WORDS + 1] ^= 1;
	return NULL;
}

/* Leaves free memory behind that holds something. */
const char *agent_dirty(char **args)
{
	uint64_t pages = strtoull(args[0], NULL, 10) * MIB_PAGES;
	uint64_t seed = strtoull(args[1], NULL, 10);
	pid_t child = fork();
	int status;

	if (child < 0)
		return strerror(errno);
	if (child == 0) {
		uint64_t *words = allocate(pages, MAP_PRIVATE);

		for (uint64_t page = 0; words && page < pages; page++)
			fill_page(words + page * PAGE_WORDS, page, seed);
		_exit(!words);
	}
	if (waitpid(child, &status, 0) != child)
		return strerror(errno);
	return status ? "the child that dirties memory failed" : NULL;
}

static uint64_t writer_seed(const struct writer *writer, uint64_t pass)
{
	return writer->seed + (pass << 32);
}

/* Rewrites MIB for ever at RATE MiB/s, in pieces of ten milliseconds. */
__attribute__((noreturn)) static void write_for_ever(struct writer *writer,
						     uint64_t rate)
{
	struct cursor *cursor = writer->cursor;
	uint64_t piece = rate * MIB_PAGES / 100 + 1;
	uint64_t written = 0;

	for (;;) {
		uint64_t page = cursor->next_page;

		while (cursor->stop) {
			cursor->stopped = true;
			usleep(1000);
		}
		fill_page(writer->words + page * PAGE_WORDS, page,
			  writer_seed(writer, cursor->pass));
		if (page + 1 < writer->pages) {
			cursor->next_page = page + 1;
		} else {
			/* Nobody looks between these two: see stop_writer(). */
			cursor->pass++;
			cursor->next_page = 0;
		}
		if (++written % piece == 0)
			usleep(10000);
	}
}

const char *agent_start_writer(char **args)
{
	struct writer *writer = malloc(sizeof(*writer));
	pid_t child;

	if (!writer)
		return "out of memory";
	writer->pages = strtoull(args[0], NULL, 10) * MIB_PAGES;
	writer->seed = strtoull(args[2], NULL, 10);
	writer->words = allocate(writer->pages, MAP_SHARED);
	writer->cursor = (void *)allocate(1, MAP_SHARED);
	if (!writer->pages || !writer->words || !writer->cursor)
		return "no memory for the writer";
	for (uint64_t page = 0; page < writer->pages; page++)
		fill_page(writer->words + page * PAGE_WORDS, page,
			  writer_seed(writer, 0));
	writer->cursor->pass = 1;
	child = fork();
	if (child < 0)
		return strerror(errno);
	if (child == 0)
		write_for_ever(writer, strtoull(args[1], NULL, 10));
	writer->next = all_writers;
	all_writers = writer;
	return NULL;
}

static void stop_writer(struct cursor *cursor)
{
	cursor->stopped = false;
	cursor->stop = true;
	while (!cursor->stopped)
		usleep(1000);
}

const char *agent_check_writers(char **args)
{
	uint64_t pages = 0, bad = 0;

	for (struct writer *writer = all_writers; writer;
	     writer = writer->next) {
		struct cursor *cursor = writer->cursor;

		stop_writer(cursor);
		for (uint64_t page = 0; page < writer->pages; page++) {
			uint64_t pass =
				cursor->pass - (page >= cursor->next_page);
			const uint64_t *words =
				writer->words + page * PAGE_WORDS;
			uint64_t wrong = first_wrong(words, page,
						     writer_seed(writer, pass));

			if (wrong < PAGE_WORDS && !bad++)
				say("first-bad seed %" PRIu64 " page %" PRIu64
				    " offset %zu is not of pass %" PRIu64,
				    writer->seed, page,
				    wrong * sizeof(uint64_t), pass);
		}
		pages += writer->pages;
		say("passes %" PRIu64, cursor->pass - 1);
		cursor->stop = false;
	}
	say("pages %" PRIu64 " bad %" PRIu64, pages, bad);
	return bad ? "the writer's memory differs" : NULL;
}
