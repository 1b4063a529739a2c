// SPDX-License-Identifier: MIT
/*
 * What a machine's balloon does to memory, on the device thread: pages are
 * given back, and parts of huge pages wait for the rest (src/balloon/hold.c).
 */
#include <linux/pci_regs.h>

#include "base/cleanup.h"
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

void balloon_memory_returned(void *host, struct page_run run)
{
	/* Memory comes back at the first touch. */
}

/* A driver that may have gone has lost the bus: Linux takes it from the devices
 * before a kexec, whose kernel uses all memory before it resets them. */
static bool has_bus(struct balloon_device *device)
{
	scoped_lock(device->lock);
	return device->pci.pci.config[PCI_COMMAND] & PCI_COMMAND_MASTER;
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

	if (has_bus(device))
		balloon_flush(&device->balloon);
	else
		balloon_forget(&device->balloon);
	device->held_since_ms = 0;
}

void balloon_device_flush(struct balloon_device *device)
{
	if (device->hold_ends)
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
void balloon_memory_hold(struct balloon_device *device)
{
	struct balloon_hold hold = { .block = backing_block(device->memory) };

	if (hold.block == 1)
		return;
	device->hold_ends = backing_page_size(device->memory) ==
			    GUEST_PAGE_SIZE;
	hold.most = device->hold_ends ? HOLD_MOST_PAGES : UINT64_MAX;
	balloon_hold(&device->balloon, hold, device->inside, device->held);
}
