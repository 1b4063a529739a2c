// SPDX-License-Identifier: MIT
/*
 * Inflate, deflate and reporting queue: pages the guest gives to the host and
 * takes back. Reports are ranges, which are the buffers themselves; the other
 * two carry arrays of frame numbers, or ranges as well where the driver took
 * F_PAGE_RANGES (docs/spec/page-ranges.md, P-1 to P-8).
 *
 * The pages of a drain are gathered in a set, so that the host hears of runs
 * instead of single pages; the buffers are returned after it has heard of all
 * of them ("discard strictly before used", R24), but for what is held (hold.c)
 * and for numbers of pages that the driver may not use before it has told us: it
 * fills its next buffer while we discard.
 */
#include "balloon/balloon_internal.h"

#include "base/endian.h"

/* Frame numbers of one drain, beside one ring's worth of buffers. A buffer
 * that has more than this is not believed. */
#define FRAMES_BUDGET (1u << 20)

/* Frame numbers copied at a time. */
#define FRAMES_CHUNK 64

/* Add what is RAM of @count frame numbers to the frames of this drain. */
static void gather(struct balloon *balloon, const __le32 *frames,
		   uint64_t count)
{
	struct page_run run = { 0, 1 };
	struct gpa start;
	uint64_t i;

	for (i = 0; i < count; i++) {
		run.first = le32_get(frames[i]);
		start.value = run.first << GUEST_PAGE_SHIFT;
		if (guest_memory_span(balloon->memory, start, GUEST_PAGE_SIZE))
			page_set_add(&balloon->run_pages, run);
		else
			balloon->counters.bad_frames++;
	}
}

/* Return: frame numbers read */
static uint64_t gather_buffer(struct balloon *balloon,
			      const struct virtqueue *queue)
{
	const struct virtqueue_chain *chain = &balloon->chain;
	uint64_t bytes = chain->readable_bytes;
	__le32 frames[FRAMES_CHUNK];
	uint64_t at, part;

	/* An array that ends within a number is no array of numbers. */
	if (!bytes || bytes % 4 || bytes / 4 > FRAMES_BUDGET) {
		balloon->counters.malformed++;
		return 0;
	}
	for (at = 0; at < bytes; at += part) {
		part = bytes - at < sizeof(frames) ? bytes - at
						   : sizeof(frames);
		if (virtqueue_copy_out(queue, chain, at, frames, part)) {
			balloon->counters.malformed++;
			break;
		}
		gather(balloon, frames, part / 4);
	}
	return at / 4;
}

void balloon_discard_end(struct balloon *balloon)
{
	if (balloon->runs)
		balloon->ops->discard(balloon->host, balloon->run,
				      balloon->runs);
	balloon->runs = 0;
}

/* The part of @run that lies in the region of its first page; @run is the rest
 * then. */
static struct page_run first_part(const struct balloon *balloon,
				  struct page_run *run)
{
	struct gpa start = { run->first << GUEST_PAGE_SHIFT };
	uint64_t length = run->count << GUEST_PAGE_SHIFT;
	struct page_run part = { run->first, 0 };

	guest_memory_clip(balloon->memory, &start, &length);
	part.count = length >> GUEST_PAGE_SHIFT;
	run->first += part.count;
	run->count -= part.count;
	return part;
}

void balloon_discard_run(struct balloon *balloon, struct page_run run)
{
	while (run.count) {
		if (balloon->runs == BALLOON_RUNS)
			balloon_discard_end(balloon);
		balloon->run[balloon->runs++] = first_part(balloon, &run);
	}
}

void balloon_discard_set(struct balloon *balloon, const struct page_set *set)
{
	struct page_run run = { 0, 0 };

	while (page_set_next_run(set, run.first + run.count, UINT64_MAX, &run))
		balloon_discard_run(balloon, run);
	balloon_discard_end(balloon);
}

static void tell_reported(struct balloon *balloon)
{
	balloon_discard_set(balloon, &balloon->run_pages);
}

static void tell_inflated(struct balloon *balloon)
{
	if (balloon_holds(balloon))
		balloon_hold_inflated(balloon);
	else
		balloon_discard_set(balloon, &balloon->run_pages);
}

static void tell_deflated(struct balloon *balloon)
{
	struct page_run run = { 0, 0 }, rest;

	if (balloon_holds(balloon))
		balloon_hold_deflated(balloon);
	while (page_set_next_run(&balloon->run_pages, run.first + run.count,
				 UINT64_MAX, &run))
		for (rest = run; rest.count;)
			balloon->ops->returned(balloon->host,
					       first_part(balloon, &rest));
}

/*
 * A driver that has one buffer of numbers on the way, as Linux's, waits for each.
 * The pages of this one come back by a deflate (V3), and that is served when this
 * drain is through, as a reset is.
 */
static bool acknowledges_first(const struct balloon *balloon,
			       enum balloon_queue index)
{
	return index == BALLOON_INFLATE &&
	       balloon_has_feature(balloon, VIRTIO_BALLOON_F_MUST_TELL_HOST) &&
	       !balloon_has_feature(balloon, BALLOON_F_PAGE_RANGES);
}

static void acknowledge(struct balloon *balloon, enum balloon_queue index,
			unsigned int taken)
{
	unsigned int i;

	if (balloon->broken)
		return;
	for (i = 0; i < taken; i++)
		virtqueue_push(&balloon->queue[index], balloon->heads[i], 0);
	balloon_publish(balloon, index);
}

/* The end of a drain: tell of what was gathered, and return the buffers. */
static void finish(struct balloon *balloon, enum balloon_queue index,
		   unsigned int taken, void (*tell)(struct balloon *balloon))
{
	bool first = acknowledges_first(balloon, index);

	if (first)
		acknowledge(balloon, index, taken);
	if (!balloon->broken)
		tell(balloon);
	page_set_clear(&balloon->run_pages);
	if (!first)
		acknowledge(balloon, index, taken);
}

static bool drain_frames(struct balloon *balloon, enum balloon_queue index,
			 void (*tell)(struct balloon *balloon))
{
	struct virtqueue *queue = &balloon->queue[index];
	uint64_t frames = 0;
	unsigned int taken = 0;

	while (taken < queue->size && frames < FRAMES_BUDGET &&
	       balloon_pop(balloon, queue)) {
		frames += gather_buffer(balloon, queue);
		balloon->heads[taken++] = balloon->chain.head;
	}
	finish(balloon, index, taken, tell);
	return !balloon->broken &&
	       (taken == queue->size || frames >= FRAMES_BUDGET);
}

/* The pages in RAM of one buffer of ranges; @keep adds them to those of this
 * drain. Return: how many */
static uint64_t gather_ranges(struct balloon *balloon, bool keep)
{
	const struct virtqueue_chain *chain = &balloon->chain;
	uint64_t at, covered = 0;
	struct page_run run;
	uint16_t i;

	if (chain->readable) {
		balloon->counters.malformed++;
		return 0;
	}
	for (i = 0; i < chain->writable; i++) {
		at = 0;
		while (balloon_next_run(balloon, chain->segment[i], &at,
					&run)) {
			if (keep)
				page_set_add(&balloon->run_pages, run);
			covered += run.count;
		}
	}
	return covered;
}

/* @covered: in, out: pages in all buffers */
static bool drain_ranges(struct balloon *balloon, enum balloon_queue index,
			 bool keep, uint64_t *covered,
			 void (*tell)(struct balloon *balloon))
{
	struct virtqueue *queue = &balloon->queue[index];
	unsigned int taken = 0;
	uint64_t pages = 0;

	while (taken < queue->size && pages < BALLOON_PAGES_BUDGET &&
	       balloon_pop(balloon, queue)) {
		pages += gather_ranges(balloon, keep);
		balloon->heads[taken++] = balloon->chain.head;
	}
	*covered += pages;
	finish(balloon, index, taken, tell);
	return !balloon->broken &&
	       (taken == queue->size || pages >= BALLOON_PAGES_BUDGET);
}

static bool drain_pages(struct balloon *balloon, enum balloon_queue index,
			void (*tell)(struct balloon *balloon))
{
	if (balloon_has_feature(balloon, BALLOON_F_PAGE_RANGES))
		return drain_ranges(balloon, index, true,
				    &balloon->counters.in_ranges, tell);
	return drain_frames(balloon, index, tell);
}

bool balloon_drain_inflate(struct balloon *balloon)
{
	return drain_pages(balloon, BALLOON_INFLATE, tell_inflated);
}

bool balloon_drain_deflate(struct balloon *balloon)
{
	return drain_pages(balloon, BALLOON_DEFLATE, tell_deflated);
}

/*
 * Free page reporting. The guest does not touch these pages until they are
 * returned (D39). It may rely on their content to be its poison then (D38,
 * V14), and a page given back reads as zero.
 */
bool balloon_drain_reporting(struct balloon *balloon)
{
	uint64_t pages = 0;
	bool more = drain_ranges(balloon, BALLOON_REPORTING, !balloon->poison,
				 &pages, tell_reported);

	balloon->counters.reported += pages;
	if (balloon->poison)
		balloon->counters.inhibited += pages;
	return more;
}
