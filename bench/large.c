// SPDX-License-Identifier: MIT
/*
 * What a guest's size costs a migration, apart from its use: the real source over
 * a guest of any size whose memory is not there. A guest's pages in use and its
 * free ones lie scattered over all of its RAM. Where the source asks the host
 * which pages exist it is told at once, what it sends is dropped, and each page it
 * looks at is one and the same. KVM's own part, whose bitmap has a bit for each
 * page, is not in it.
 *
 *	large TIB USED_GIB FREE_GIB ROUNDS
 *
 * Prints, a line for each round: TIB,SETUP,ROUND,SKIP in nanoseconds.
 *	SETUP	sets made, the log armed, the pages that exist taken
 *	ROUND	all pages in use sent, and a log read that holds 64 of them
 *	SKIP	free pages hinted, left out, and nothing sent
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "memory/backing.h"
#include "migration/source_internal.h"

#define USED_PIECE 512u	 /* pages: a huge page */
#define FREE_PIECE 1024u /* as Linux hints them */
#define WRITTEN 64u

static struct guest_memory memory;
static struct page_set used, freed;
static uint64_t sent;
static _Alignas(4096) uint8_t content[STREAM_PAGES_MAX * 4096];

/* ------------------------------------------------ instead of a host --- */

int __wrap_backing_populated(const struct guest_memory *of,
			     struct page_run within, struct page_set *into,
			     struct error *err);
void *__wrap_guest_memory_span(const struct guest_memory *of, struct gpa start,
			       uint64_t length);
int __wrap_channel_write_pages(struct channel *channel,
			       const struct iovec *parts, int count,
			       const void *pages, size_t bytes,
			       struct error *err);
int __wrap_channel_write_record(struct channel *channel, uint32_t type,
				const void *payload, uint64_t length,
				struct error *err);

int __wrap_backing_populated(const struct guest_memory *of,
			     struct page_run within, struct page_set *into,
			     struct error *err)
{
	page_set_union(into, &used);
	page_set_union(into, &freed);
	return 0;
}

void *__wrap_guest_memory_span(const struct guest_memory *of, struct gpa start,
			       uint64_t length)
{
	return content;
}

int __wrap_channel_write_pages(struct channel *channel,
			       const struct iovec *parts, int count,
			       const void *pages, size_t bytes,
			       struct error *err)
{
	sent += bytes >> GUEST_PAGE_SHIFT;
	return 0;
}

int __wrap_channel_write_record(struct channel *channel, uint32_t type,
				const void *payload, uint64_t length,
				struct error *err)
{
	return 0;
}

static int log_arm(struct dirty_log *log, const struct page_set *populated,
		   struct error *err)
{
	return 0;
}

static int64_t log_sync(struct dirty_log *log, const struct page_set *populated,
			struct page_set *into, struct error *err)
{
	struct page_run run = { 0, 0 };
	unsigned int i;

	for (i = 0; i < WRITTEN; i++) {
		if (!page_set_next_run(&used, run.first + run.count, 1, &run))
			errx(1, "too little in use");
		page_set_add(into, run);
	}
	return WRITTEN;
}

static void log_disarm(struct dirty_log *log)
{
}

static void drain(struct free_page_source *source,
		  struct free_page_progress *progress)
{
	memset(progress, 0, sizeof(*progress));
}

static const struct dirty_log_ops log_ops = {
	.arm = log_arm, .sync = log_sync, .disarm = log_disarm
};
static const struct free_page_source_ops free_page_ops = { .drain = drain };
static struct dirty_log fake_log = { &log_ops };
static struct free_page_source free_pages = { &free_page_ops };

/* ------------------------------------------------------------- guest --- */

static uint64_t draw(void)
{
	static uint64_t state = 7;

	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return state >> 20;
}

static void scatter(struct page_set *into, const struct page_set *but,
		    uint64_t pages, uint64_t piece)
{
	uint64_t places = memory.frames / piece;
	struct page_run run = { 0, piece };

	while (pages) {
		run.first = draw() % places * piece;
		if (page_set_count_in(into, run) || page_set_count_in(but, run))
			continue;
		page_set_add(into, run);
		pages -= pages < piece ? pages : piece;
	}
}

static void create_guest(uint64_t tib, uint64_t used_gib, uint64_t free_gib)
{
	struct memory_region all = { .size = tib << 40 };
	struct error error = { "" };

	/* Room that nobody may touch. */
	all.host = mmap(NULL, all.size, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all.host == MAP_FAILED)
		err(1, "%llu TiB of addresses", (unsigned long long)tib);
	if (guest_memory_add_region(&memory, all) < 0 ||
	    page_set_create(&used, memory.frames, &error) < 0 ||
	    page_set_create(&freed, memory.frames, &error) < 0)
		errx(1, "a guest of %llu TiB: %s", (unsigned long long)tib,
		     error.message);
	scatter(&used, &freed, used_gib << 18, USED_PIECE);
	scatter(&freed, &used, free_gib << 18, FREE_PIECE);
	memset(content, 0x5a, sizeof(content));
}

/* ------------------------------------------------------------ measure --- */

static void check(int rc, const struct error *error)
{
	if (rc < 0)
		errx(1, "%s", error->message);
}

static void expect(const char *what, uint64_t found, uint64_t wanted)
{
	if (found != wanted)
		errx(1, "%llu pages %s, not %llu", (unsigned long long)found,
		     what, (unsigned long long)wanted);
}

static uint64_t set_up(struct migration_source *source)
{
	uint64_t started = migration_now_ns();
	struct error error;

	check(migration_source_init(source, &memory, &error), &error);
	source->dirty_log = &fake_log;
	source->free_pages = &free_pages;
	check(source_arm(source, &error), &error);
	return migration_now_ns() - started;
}

/* The hints themselves come from the guest; each is the device's to take. */
static uint64_t skip(struct migration_source *source)
{
	uint64_t started, took;
	struct error error;

	page_set_union(&source->hinted, &freed);
	started = migration_now_ns();
	source->reporting = true;
	source_drain(source);
	took = migration_now_ns() - started;
	expect("left out", page_set_count(&source->left_out),
	       page_set_count(&freed));
	/* And a pass that finds nothing but what is hinted. */
	page_set_clear(&source->to_send);
	page_set_union(&source->hinted, &freed);
	page_set_union(&source->to_send, &freed);
	sent = 0;
	started = migration_now_ns();
	check(source_send_pages(source, false, &error), &error);
	took += migration_now_ns() - started;
	expect("sent", sent, 0);
	page_set_clear(&source->hinted);
	page_set_clear(&source->to_send);
	page_set_union(&source->to_send, &used);
	return took;
}

static uint64_t send_round(struct migration_source *source)
{
	uint64_t started = migration_now_ns();
	struct error error;

	sent = 0;
	check(source_send_pages(source, false, &error), &error);
	if (source_sync_log(source, &error) != WRITTEN)
		errx(1, "the log is not read");
	started = migration_now_ns() - started;
	expect("sent", sent, page_set_count(&used));
	expect("to send again", page_set_count(&source->to_send), WRITTEN);
	return started;
}

int main(int argc, char **argv)
{
	unsigned long long tib, in_use, is_free, rounds, setup, skipped, round;

	setvbuf(stdout, NULL, _IOLBF, 0);

	if (argc != 5)
		errx(2, "usage: large TIB USED_GIB FREE_GIB ROUNDS");
	tib = strtoull(argv[1], NULL, 10);
	in_use = strtoull(argv[2], NULL, 10);
	is_free = strtoull(argv[3], NULL, 10);
	create_guest(tib, in_use, is_free);
	for (rounds = strtoull(argv[4], NULL, 10); rounds; rounds--) {
		struct migration_source source;

		setup = set_up(&source);
		skipped = skip(&source);
		round = send_round(&source);
		migration_source_destroy(&source);
		printf("%llu,%llu,%llu,%llu\n", tib, setup, round, skipped);
	}
	return 0;
}
