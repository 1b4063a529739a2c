// SPDX-License-Identifier: MIT
/*
 * Inflate and deflate (VIRTIO 1.3 section 5.5.6.1 ff.), one buffer at a time.
 *
 * Pages are not used from the moment they are added until the host has seen
 * them go, and none is asked back before (D12, D13). With MUST_TELL_HOST they
 * are used again when the host has acknowledged the deflate (D10), otherwise as
 * soon as the buffer is in the ring (D11).
 *
 * A buffer is an array of frame numbers, or, where F_PAGE_RANGES was negotiated,
 * the pages themselves (docs/spec/page-ranges.md), whole blocks first.
 */
#include "balloon_internal.h"

#include <stddef.h>

#include "balloon/balloon_driver.h"
#include "base/endian.h"
#include "clock.h"
#include "memory.h"
#include "pattern.h"
#include "serial.h"
#include "workload.h"

#define FRAMES 256 /* a buffer, as Linux */
#define RANGES 64  /* a buffer */
#define RANGES_PAGES (RANGES * BLOCK_PAGES)
#define RETRY_MICROSECONDS 100000
#define TOKEN_FRAMES 0

static struct {
	enum { SETTLED, INFLATING, DEFLATING } state;
	uint32_t target, actual; /* num_pages as read last, and reached */
	uint32_t count;		 /* pages on the way, in so many runs */
	uint32_t runs;
	struct {
		uint64_t page, count;
	} run[FRAMES];
	uint64_t cursor;	 /* where to look for pages to take back */
	bool starved;
	bool keep_deflated;
	__le32 frames[FRAMES];
} adjust;
static struct timer retry_timer;

void adjust_set_target(uint32_t pages)
{
	adjust.target = pages;
}

void balloon_take_deflated(bool on)
{
	adjust.keep_deflated = on;
}

/* Whoever had used a page meanwhile had changed its tag. */
static void look_for_early_use(void)
{
	uint64_t i, j;

	for (i = 0; i < adjust.runs; i++)
		for (j = 0; j < adjust.run[i].count; j++)
			if (memory_tag(adjust.run[i].page + j) != PAGE_BALLOON)
				balloon_counters.early++;
}

/* The pages are ours again. */
static void use_page(uint64_t page)
{
	if (adjust.keep_deflated) {
		pattern_fill(DEFLATED_SEED, page);
		memory_retag(page, 1, PAGE_DEFLATED);
		return;
	}
	if (balloon_driver.poisons)
		poison_fill(page); /* D34 */
	memory_put(page, 1);
}

static void use_deflated(void)
{
	uint64_t i, j;

	for (i = 0; i < adjust.runs; i++)
		for (j = 0; j < adjust.run[i].count; j++)
			use_page(adjust.run[i].page + j);
}

static void begin_buffer(void)
{
	adjust.count = adjust.runs = 0;
}

/* Return: false when the buffer was full */
static bool add_pages(uint64_t page, uint64_t count)
{
	const uint32_t most = balloon_driver.ranges ? RANGES : FRAMES;
	uint32_t last = adjust.runs - 1;

	if (balloon_driver.ranges && adjust.runs &&
	    adjust.run[last].page + adjust.run[last].count == page) {
		adjust.run[last].count += count;
	} else if (adjust.runs < most) {
		adjust.run[adjust.runs].page = page;
		adjust.run[adjust.runs++].count = count;
	} else {
		return false;
	}
	adjust.count += count;
	return true;
}

static void add_frames(struct virtio_queue *queue)
{
	struct vring_segment segment = {
		(uintptr_t)adjust.frames,
		(uint32_t)(adjust.runs * sizeof(adjust.frames[0])),
	};
	uint32_t i;

	for (i = 0; i < adjust.runs; i++)
		adjust.frames[i] = le32_make((uint32_t)adjust.run[i].page);
	vring_driver_add(&queue->ring, &segment, 1, 0, TOKEN_FRAMES);
}

static void add_ranges(struct virtio_queue *queue)
{
	struct vring_segment segment[RANGES];
	uint32_t i;

	for (i = 0; i < adjust.runs; i++) {
		segment[i].address = adjust.run[i].page << PAGE_SHIFT;
		segment[i].length = (uint32_t)(adjust.run[i].count
					       << PAGE_SHIFT);
	}
	vring_driver_add(&queue->ring, segment, 0, (uint16_t)adjust.runs,
			 TOKEN_FRAMES);
}

static void send_pages(enum balloon_queue to)
{
	struct virtio_queue *queue = &balloon_driver.queue[to];

	adjust.state = to == BALLOON_INFLATE ? INFLATING : DEFLATING;
	(balloon_driver.ranges ? add_ranges : add_frames)(queue);
	if (adjust.state == DEFLATING && !balloon_driver.must_tell)
		use_deflated(); /* before the device can have looked */
	virtio_kick(&balloon_driver.device, queue);
}

/* Return: pages, at *@page; 0 when there is none */
static uint64_t take_pages(uint64_t most, uint64_t *page)
{
	if (balloon_driver.ranges && most >= BLOCK_PAGES &&
	    (*page = memory_take_block(PAGE_BALLOON)) != 0)
		return BLOCK_PAGES;
	*page = memory_take_page(PAGE_BALLOON);
	return *page ? 1 : 0;
}

static bool inflate(uint64_t most)
{
	uint64_t page, count;

	if (adjust.starved && !timer_due(&retry_timer, RETRY_MICROSECONDS))
		return false;
	begin_buffer();
	while (adjust.count < most &&
	       (count = take_pages(most - adjust.count, &page)) != 0)
		if (!add_pages(page, count)) {
			memory_put(page, count);
			break;
		}
	adjust.starved = !adjust.count;
	if (adjust.starved)
		return false;
	send_pages(BALLOON_INFLATE);
	return true;
}

static bool deflate(uint64_t most)
{
	uint64_t page;

	if (!memory_count(PAGE_BALLOON))
		return false;
	begin_buffer();
	while (adjust.count < most) {
		page = memory_next(adjust.cursor, PAGE_BALLOON);
		if (page < memory_end() && !add_pages(page, 1))
			break;
		adjust.cursor = page < memory_end() ? page + 1 : 0;
		if (!adjust.cursor)
			break;
	}
	if (adjust.count)
		send_pages(BALLOON_DEFLATE);
	return true; /* or begin at the bottom again */
}

static void finish_pages(void)
{
	if (adjust.state == INFLATING) {
		look_for_early_use();
		adjust.actual += adjust.count;
		balloon_counters.inflated += adjust.count;
	} else {
		if (balloon_driver.must_tell) {
			look_for_early_use();
			use_deflated();
		}
		adjust.actual -= adjust.count;
		balloon_counters.deflated += adjust.count;
	}
	adjust.state = SETTLED;
	virtio_config_write(&balloon_driver.device,
			    offsetof(struct virtio_balloon_config, actual),
			    adjust.actual);
}

static bool pages_came_back(void)
{
	uint64_t token;

	return balloon_take_used(adjust.state == INFLATING ? BALLOON_INFLATE :
							     BALLOON_DEFLATE,
				 &token);
}

/* Of that many pages, how many go into one buffer. */
static uint64_t at_most(int64_t pages)
{
	int64_t most = balloon_driver.ranges ? RANGES_PAGES : FRAMES;

	return (uint64_t)(pages < most ? pages : most);
}

bool adjust_step(void)
{
	int64_t difference;

	if (adjust.state != SETTLED) {
		if (!pages_came_back())
			return false;
		finish_pages();
		return true;
	}
	difference = balloon_driver_adjust(adjust.target, adjust.actual);
	if (difference > 0)
		return inflate(at_most(difference));
	if (difference < 0)
		return deflate(at_most(-difference));
	return false;
}

void adjust_count(void)
{
	balloon_count("balloon_inflate", balloon_counters.inflated);
	balloon_count("balloon_deflate", balloon_counters.deflated);
	balloon_count("target", adjust.target);
	balloon_count("actual", adjust.actual);
	balloon_count("early-uses", balloon_counters.early);
}
