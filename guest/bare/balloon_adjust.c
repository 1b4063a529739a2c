// SPDX-License-Identifier: MIT
/*
 * Inflate and deflate (VIRTIO 1.3 section 5.5.6.1 ff.), one buffer at a time as
 * Linux does, or several on the way where a command says so.
 *
 * Pages are not used from the moment they are added until the host has seen
 * them go, and none is asked back before (D12, D13, P-6). With MUST_TELL_HOST
 * they are used again when the host has acknowledged the deflate (D10),
 * otherwise as soon as the buffer is in the ring (D11).
 *
 * A buffer is an array of frame numbers, or, where F_PAGE_RANGES was negotiated,
 * the pages themselves (docs/spec/page-ranges.md), whole blocks first.
 */
#include "balloon_internal.h"

#include <stddef.h>

#include "balloon/balloon_driver.h"
#include "base/endian.h"
#include "clock.h"
#include "lib.h"
#include "memory.h"
#include "pattern.h"
#include "serial.h"
#include "workload.h"

#define FRAMES 256 /* a buffer, as Linux */
#define RANGES 64  /* a buffer */
#define RANGES_PAGES (RANGES * BLOCK_PAGES)
#define RETRY_MICROSECONDS 100000
#define MOST_BUFFERS 16
/* Several on the way: `actual` is told this often, and at the end. */
#define TELL_PAGES (64 * MIB_PAGES)

struct buffer {
	bool on_way;
	uint32_t count; /* pages, in so many runs */
	uint32_t runs;
	struct {
		uint64_t page, count;
	} run[FRAMES];
	__le32 frames[FRAMES];
};

static struct {
	enum balloon_queue to;	 /* of what is on the way */
	unsigned int on_way;	 /* buffers */
	uint32_t pages_on_way;
	unsigned int most;	 /* buffers on the way at a time; 0: one */
	uint32_t target, actual; /* num_pages as read last, and reached */
	uint32_t told;		 /* `actual` as written last */
	uint64_t cursor;	 /* where to look for pages to take back */
	bool starved;
	bool keep_deflated;
	uint64_t asked, settled; /* microseconds: a new target, reached */
	struct buffer buffer[MOST_BUFFERS];
} adjust;
static struct timer retry_timer;

void adjust_set_target(uint32_t pages)
{
	if (pages != adjust.target)
		adjust.asked = clock_microseconds();
	adjust.target = pages;
}

const char *balloon_buffers(uint64_t most)
{
	if (!most || most > MOST_BUFFERS)
		return "there can be 1 to 16 buffers";
	if (adjust.on_way)
		return "a buffer is on the way";
	/* All of this memory is there from here on: a host that counts what it
	 * gets back does not meet our own first touch of it. */
	memset(adjust.buffer, 0, sizeof(adjust.buffer));
	adjust.most = (unsigned int)most;
	return NULL;
}

void balloon_take_deflated(bool on)
{
	adjust.keep_deflated = on;
}

/* Whoever had used a page meanwhile had changed its tag. */
static void look_for_early_use(const struct buffer *buffer)
{
	uint64_t i, j;

	for (i = 0; i < buffer->runs; i++)
		for (j = 0; j < buffer->run[i].count; j++)
			if (memory_tag(buffer->run[i].page + j) != PAGE_BALLOON)
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

static void use_deflated(const struct buffer *buffer)
{
	uint64_t i, j;

	for (i = 0; i < buffer->runs; i++)
		for (j = 0; j < buffer->run[i].count; j++)
			use_page(buffer->run[i].page + j);
}

/* There is one when fewer are on the way than may be. */
static struct buffer *begin_buffer(void)
{
	struct buffer *buffer = adjust.buffer;

	while (buffer->on_way)
		buffer++;
	buffer->count = buffer->runs = 0;
	return buffer;
}

/* Return: false when the buffer was full */
static bool add_pages(struct buffer *buffer, uint64_t page, uint64_t count)
{
	const uint32_t most = balloon_driver.ranges ? RANGES : FRAMES;
	uint32_t last = buffer->runs - 1;

	if (balloon_driver.ranges && buffer->runs &&
	    buffer->run[last].page + buffer->run[last].count == page) {
		buffer->run[last].count += count;
	} else if (buffer->runs < most) {
		buffer->run[buffer->runs].page = page;
		buffer->run[buffer->runs++].count = count;
	} else {
		return false;
	}
	buffer->count += count;
	return true;
}

static uint64_t token_of(const struct buffer *buffer)
{
	return (uint64_t)(buffer - adjust.buffer);
}

static void add_frames(struct virtio_queue *queue, struct buffer *buffer)
{
	struct vring_segment segment = {
		(uintptr_t)buffer->frames,
		(uint32_t)(buffer->runs * sizeof(buffer->frames[0])),
	};
	uint32_t i;

	for (i = 0; i < buffer->runs; i++)
		buffer->frames[i] = le32_make((uint32_t)buffer->run[i].page);
	vring_driver_add(&queue->ring, &segment, 1, 0, token_of(buffer));
}

static void add_ranges(struct virtio_queue *queue, struct buffer *buffer)
{
	struct vring_segment segment[RANGES];
	uint32_t i;

	for (i = 0; i < buffer->runs; i++) {
		segment[i].address = buffer->run[i].page << PAGE_SHIFT;
		segment[i].length = (uint32_t)(buffer->run[i].count
					       << PAGE_SHIFT);
	}
	vring_driver_add(&queue->ring, segment, 0, (uint16_t)buffer->runs,
			 token_of(buffer));
}

static void send_pages(struct buffer *buffer, enum balloon_queue to)
{
	struct virtio_queue *queue = &balloon_driver.queue[to];

	adjust.to = to;
	adjust.on_way++;
	adjust.pages_on_way += buffer->count;
	buffer->on_way = true;
	(balloon_driver.ranges ? add_ranges : add_frames)(queue, buffer);
	if (to == BALLOON_DEFLATE && !balloon_driver.must_tell)
		use_deflated(buffer); /* before the device can have looked */
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
	struct buffer *buffer;
	uint64_t page, count;

	if (adjust.starved && !timer_due(&retry_timer, RETRY_MICROSECONDS))
		return false;
	buffer = begin_buffer();
	while (buffer->count < most &&
	       (count = take_pages(most - buffer->count, &page)) != 0)
		if (!add_pages(buffer, page, count)) {
			memory_put(page, count);
			break;
		}
	adjust.starved = !buffer->count;
	if (adjust.starved)
		return false;
	send_pages(buffer, BALLOON_INFLATE);
	return true;
}

static bool deflate(uint64_t most)
{
	struct buffer *buffer;
	uint64_t page;

	if (!memory_count(PAGE_BALLOON))
		return false;
	/* From the bottom again: past nothing that is on the way. */
	if (!adjust.cursor && adjust.on_way)
		return false;
	buffer = begin_buffer();
	while (buffer->count < most) {
		page = memory_next(adjust.cursor, PAGE_BALLOON);
		if (page < memory_end() && !add_pages(buffer, page, 1))
			break;
		adjust.cursor = page < memory_end() ? page + 1 : 0;
		if (!adjust.cursor)
			break;
	}
	if (buffer->count)
		send_pages(buffer, BALLOON_DEFLATE);
	return true; /* or begin at the bottom again */
}

static void tell_actual(void)
{
	int64_t untold = (int64_t)adjust.actual - adjust.told;

	if (adjust.on_way && untold < TELL_PAGES && -untold < TELL_PAGES)
		return;
	virtio_config_write(&balloon_driver.device,
			    offsetof(struct virtio_balloon_config, actual),
			    adjust.actual);
	adjust.told = adjust.actual;
	if (adjust.actual == adjust.target)
		adjust.settled = clock_microseconds();
}

static void finish_pages(struct buffer *buffer)
{
	if (adjust.to == BALLOON_INFLATE) {
		look_for_early_use(buffer);
		adjust.actual += buffer->count;
		balloon_counters.inflated += buffer->count;
	} else {
		if (balloon_driver.must_tell) {
			look_for_early_use(buffer);
			use_deflated(buffer);
		}
		adjust.actual -= buffer->count;
		balloon_counters.deflated += buffer->count;
	}
	buffer->on_way = false;
	adjust.on_way--;
	adjust.pages_on_way -= buffer->count;
	tell_actual();
}

/* Of that many pages, how many go into one buffer. */
static uint64_t at_most(int64_t pages)
{
	int64_t most = balloon_driver.ranges ? RANGES_PAGES : FRAMES;

	return (uint64_t)(pages < most ? pages : most);
}

/* What `actual` will be once all has come back that is on the way. */
static uint32_t expected(void)
{
	return adjust.to == BALLOON_INFLATE ?
		       adjust.actual + adjust.pages_on_way :
		       adjust.actual - adjust.pages_on_way;
}

/* May another buffer be on the way? One always may. */
static bool has_room(void)
{
	uint16_t needed = balloon_driver.ranges ? RANGES : 1;

	return !adjust.on_way ||
	       (adjust.on_way < adjust.most &&
		balloon_driver.queue[adjust.to].ring.free >= needed);
}

bool adjust_step(void)
{
	int64_t difference;
	uint64_t token;

	if (adjust.on_way && balloon_take_used(adjust.to, &token)) {
		finish_pages(&adjust.buffer[token]);
		return true;
	}
	if (!has_room())
		return false;
	difference = balloon_driver_adjust(adjust.target, expected());
	/* It turns round when nothing is on the way. */
	if (adjust.on_way && (difference > 0) != (adjust.to == BALLOON_INFLATE))
		return false;
	if (difference > 0)
		return inflate(at_most(difference));
	if (difference < 0)
		return deflate(at_most(-difference));
	return false;
}

/* The target as the host sees it reached; the driver never sleeps meanwhile. */
static enum job_state await_step(struct job *job)
{
	if (adjust.target != job->pages || adjust.actual != job->pages ||
	    adjust.on_way)
		return JOB_RUNS;
	say("actual %u us %lu", adjust.actual,
	    adjust.settled > job->began ? adjust.settled - adjust.asked : 0);
	return JOB_DONE;
}

const char *balloon_await(struct job *job, uint64_t pages)
{
	*job = (struct job){
		.step = await_step,
		.pages = pages,
		.began = clock_microseconds(),
	};
	return NULL;
}

void adjust_count(void)
{
	balloon_count("balloon_inflate", balloon_counters.inflated);
	balloon_count("balloon_deflate", balloon_counters.deflated);
	balloon_count("target", adjust.target);
	balloon_count("actual", adjust.actual);
	balloon_count("early-uses", balloon_counters.early);
}
