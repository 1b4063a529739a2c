// SPDX-License-Identifier: MIT
/*
 * Inflate and deflate (VIRTIO 1.3 section 5.5.6.1 ff.), one buffer at a time.
 *
 * Pages are not used from the moment they are added until the host has seen
 * them go, and none is asked back before (D12, D13). With MUST_TELL_HOST they
 * are used again when the host has acknowledged the deflate (D10), otherwise as
 * soon as the buffer is in the ring (D11).
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
#define RETRY_MICROSECONDS 100000
#define TOKEN_FRAMES 0

static struct {
	enum { SETTLED, INFLATING, DEFLATING } state;
	uint32_t target, actual; /* num_pages as read last, and reached */
	uint32_t count;		 /* frames on the way */
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
	uint32_t i;

	for (i = 0; i < adjust.count; i++)
		if (memory_tag(le32_get(adjust.frames[i])) != PAGE_BALLOON)
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
	uint32_t i;

	for (i = 0; i < adjust.count; i++)
		use_page(le32_get(adjust.frames[i]));
}

static void send_frames(enum balloon_queue to)
{
	struct virtio_queue *queue = &balloon_driver.queue[to];
	struct vring_segment segment = {
		(uintptr_t)adjust.frames,
		(uint32_t)(adjust.count * sizeof(adjust.frames[0])),
	};

	adjust.state = to == BALLOON_INFLATE ? INFLATING : DEFLATING;
	vring_driver_add(&queue->ring, &segment, 1, 0, TOKEN_FRAMES);
	if (adjust.state == DEFLATING && !balloon_driver.must_tell)
		use_deflated(); /* before the device can have looked */
	virtio_kick(&balloon_driver.device, queue);
}

static bool inflate(uint64_t most)
{
	uint64_t page;

	if (adjust.starved && !timer_due(&retry_timer, RETRY_MICROSECONDS))
		return false;
	adjust.count = 0;
	while (adjust.count < most &&
	       (page = memory_take_page(PAGE_BALLOON)) != 0)
		adjust.frames[adjust.count++] = le32_make((uint32_t)page);
	adjust.starved = !adjust.count;
	if (adjust.starved)
		return false;
	send_frames(BALLOON_INFLATE);
	return true;
}

static bool deflate(uint64_t most)
{
	uint64_t page;

	if (!memory_count(PAGE_BALLOON))
		return false;
	for (adjust.count = 0; adjust.count < most; adjust.count++) {
		page = memory_next(adjust.cursor, PAGE_BALLOON);
		adjust.cursor = page < memory_end() ? page + 1 : 0;
		if (page == memory_end())
			break;
		adjust.frames[adjust.count] = le32_make((uint32_t)page);
	}
	if (adjust.count)
		send_frames(BALLOON_DEFLATE);
	return true; /* or begin at the bottom again */
}

static void finish_frames(void)
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

static bool frames_came_back(void)
{
	uint64_t token;

	return balloon_take_used(adjust.state == INFLATING ? BALLOON_INFLATE :
							     BALLOON_DEFLATE,
				 &token);
}

bool adjust_step(void)
{
	int64_t difference;

	if (adjust.state != SETTLED) {
		if (!frames_came_back())
			return false;
		finish_frames();
		return true;
	}
	difference = balloon_driver_adjust(adjust.target, adjust.actual);
	if (difference > 0)
		return inflate(difference < FRAMES ? (uint64_t)difference :
						     FRAMES);
	if (difference < 0)
		return deflate(-difference < FRAMES ? (uint64_t)-difference :
						      FRAMES);
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
