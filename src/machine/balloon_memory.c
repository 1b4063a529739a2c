// SPDX-License-Identifier: MIT
/*
 * What a machine's balloon does to memory, on the device thread: pages are
 * given back, and parts of huge pages wait for the rest (src/balloon/hold.c).
 */
#include <string.h>

#include "base/log.h"
#include "machine/balloon_device_internal.h"
#include "memory/backing.h"

/* How long parts of huge pages wait for the rest: after the last inflate, and
 * in all; and how much of them. */
#define HOLD_MS 100
#define HOLD_MOST_MS 1000
#define HOLD_MOST_PAGES (64u << 20 >> GUEST_PAGE_SHIFT)

/* Pages read as zero now and KVM's log does not know: without this a
 * destination would keep what it has of them (R26). */
static void note_discard(struct balloon_device *device, struct page_run run)
{
	guest_memory_mark_dirty(device->memory,
				(struct gpa){ run.first << GUEST_PAGE_SHIFT },
				run.count << GUEST_PAGE_SHIFT);
}

static void discard(struct balloon_device *device, struct page_run run)
{
	struct page_run discarded;

	if (backing_discard(device->memory, run, &discarded) < 0) {
		atomic_fetch_add(&device->discard_errors, 1);
		/* A part may be gone all the same. */
		discarded = run;
	} else {
		atomic_fetch_add(&device->discarded, discarded.count);
		atomic_fetch_add(&device->kept, run.count - discarded.count);
	}
	note_discard(device, discarded);
}

void balloon_memory_discard(void *host, const struct page_run *run,
			    unsigned int runs)
{
	struct balloon_device *device = host;
	unsigned int i, gone;

	_Static_assert(BALLOON_RUNS <= BACKING_BATCH, "more than a batch");
	gone = backing_discard_batch(device->memory, run, runs);
	for (i = 0; i < gone; i++) {
		atomic_fetch_add(&device->discarded, run[i].count);
		note_discard(device, run[i]);
	}
	for (; i < runs; i++)
		discard(device, run[i]);
}

static void populate(struct balloon_device *device, struct page_run run)
{
	int rc = backing_populate(device->memory, run);

	if (rc < 0)
		log_limited("balloon", "cannot populate what the guest takes "
			    "back: %s; it comes at the first touch",
			    strerror(-rc));
	else
		atomic_fetch_add(&device->populated, run.count);
}

/* The block at @first as far as there is RAM, in one region. */
static struct page_run block_of(const struct balloon_device *device,
				uint64_t first, uint64_t block)
{
	struct gpa start = { first << GUEST_PAGE_SHIFT };
	uint64_t length = block << GUEST_PAGE_SHIFT;

	guest_memory_clip(device->memory, &start, &length);
	return (struct page_run){ start.value >> GUEST_PAGE_SHIFT,
				  length >> GUEST_PAGE_SHIFT };
}

/* Huge pages, but none of which a part is in the balloon still: to touch one
 * small page of it would bring all of it into being. */
static void populate_blocks(struct balloon_device *device, struct page_run run)
{
	uint64_t block = device->balloon.hold.block;
	uint64_t at = run.first & ~(block - 1);
	struct page_run whole;

	for (; at < run.first + run.count; at += block) {
		whole = block_of(device, at, block);
		if (!balloon_has_inside(&device->balloon, whole))
			populate(device, whole);
	}
}

/* Memory comes back at the first touch, unless the user had it come before that
 * and has asked for this deflate. */
void balloon_memory_returned(void *host, struct page_run run)
{
	struct balloon_device *device = host;

	if (!device->populate || !balloon_wants_less(&device->balloon))
		return;
	if (balloon_holds(&device->balloon))
		populate_blocks(device, run);
	else
		populate(device, run);
}

void balloon_memory_inflated(struct balloon_device *device)
{
	uint64_t now, at;

	if (!device->hold_ends)
		return;
	if (!device->balloon.hold.pages) {
		device->held_since_ms = 0;
		device_thread_set_deadline(&device->thread, 0);
		return;
	}
	now = device_thread_now_ms();
	if (!device->held_since_ms)
		device->held_since_ms = now;
	at = device->held_since_ms + HOLD_MOST_MS;
	device_thread_set_deadline(&device->thread,
				   now + HOLD_MS < at ? now + HOLD_MS : at);
}

void balloon_memory_expired(void *owner)
{
	struct balloon_device *device = owner;

	/* A driver that may have gone has taken the bus. */
	if (atomic_load(&device->bus))
		balloon_flush(&device->balloon);
	else
		balloon_forget(&device->balloon);
	device->held_since_ms = 0;
}

void balloon_device_flush(struct balloon_device *device)
{
	/* The thread is quiet: this does not change behind our back, and a
	 * stop that has nothing to flush need not wake it once more. */
	if (device->hold_ends && device->balloon.hold.pages)
		device_thread_call(&device->thread, balloon_memory_expired,
				   device);
}

void balloon_memory_destroy(struct balloon_device *device)
{
	page_set_free(&device->scratch);
	page_set_free(&device->inside);
	page_set_free(&device->held);
}

int balloon_memory_create(struct balloon_device *device, struct error *err)
{
	uint64_t frames = device->memory->frames;

	if (page_set_create(&device->scratch, frames, err) == 0 &&
	    page_set_create(&device->inside, frames, err) == 0 &&
	    page_set_create(&device->held, frames, err) == 0)
		return 0;
	balloon_memory_destroy(device);
	return -1;
}

/* Of transparent huge pages parts wait for a while; others can only be given
 * back whole. */
static void hold_parts(struct balloon_device *device)
{
	struct balloon_hold hold = { .block = backing_block(device->memory) };

	if (hold.block == 1)
		return;
	device->hold_ends = backing_page_size(device->memory) ==
			    GUEST_PAGE_SIZE;
	hold.most = device->hold_ends ? HOLD_MOST_PAGES : UINT64_MAX;
	balloon_hold(&device->balloon, hold, device->inside, device->held);
}

void balloon_memory_init(struct balloon_device *device, bool populate_ahead)
{
	hold_parts(device);
	device->populate = populate_ahead &&
			   backing_can_populate(device->memory);
	if (populate_ahead && !device->populate)
		log_line("balloon", "this kernel cannot populate memory ahead "
			 "(Linux 5.14 can): it comes at the first touch");
}
