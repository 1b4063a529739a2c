/* SPDX-License-Identifier: MIT */
/*
 * What the rigs share: a balloon over memory of the host's, without a machine
 * around it, and the driver half of one of its queues. No guest runs: what is
 * measured here is the device alone.
 */
#ifndef BENCH_RIG_H
#define BENCH_RIG_H

#include <err.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "balloon/balloon.h"
#include "memory/backing.h"
#include "virtio/vring_driver.h"

#define MIB (1ull << 20)
#define RIG_RING 256 /* entries, as the machine's queues */
#define RIG_RING_AT 0x10000ull
#define RIG_HELD (64 * MIB >> GUEST_PAGE_SHIFT) /* at most */

struct rig {
	struct guest_memory memory;
	struct balloon balloon;
	struct page_set hinted;
	struct vring_driver ring;
	uint64_t discards, discarded; /* calls, pages */
};

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void rig_note(struct rig *rig, struct page_run run)
{
	rig->discarded += run.count;
	guest_memory_mark_dirty(&rig->memory,
				(struct gpa){ run.first << GUEST_PAGE_SHIFT },
				run.count << GUEST_PAGE_SHIFT);
}

/* As the machine's own (src/machine/balloon_memory.c). */
static void rig_discard(void *host, const struct page_run *run,
			unsigned int runs)
{
	struct rig *rig = host;
	struct page_run discarded;
	unsigned int i, gone;

	gone = backing_discard_batch(&rig->memory, run, runs);
	rig->discards += gone != 0;
	for (i = 0; i < gone; i++)
		rig_note(rig, run[i]);
	for (; i < runs; i++) {
		if (backing_discard(&rig->memory, run[i], &discarded) < 0)
			errx(1, "a discard failed");
		rig->discards++;
		rig_note(rig, discarded);
	}
}

static void rig_returned(void *host, struct page_run run)
{
}

static bool rig_linger(void *host, const struct virtqueue *free_page_queue)
{
	return false;
}

static void rig_report_changed(void *host, enum report_state state)
{
}

static void rig_interrupt(void *host, enum balloon_queue queue)
{
}

static void rig_changed(void *host)
{
}

static void rig_broken(void *host, const char *reason)
{
	errx(1, "the device broke: %s", reason);
}

static const struct balloon_host_ops rig_ops = {
	.discard = rig_discard,
	.returned = rig_returned,
	.linger = rig_linger,
	.report_changed = rig_report_changed,
	.interrupt = rig_interrupt,
	.config_changed = rig_changed,
	.statistics_changed = rig_changed,
	.broken = rig_broken,
};

static inline void rig_set(struct page_set *set, uint64_t pages)
{
	struct error error;

	if (page_set_create(set, pages, &error) < 0)
		errx(1, "%s", error.message);
}

/* Memory of @bytes, and a balloon whose driver took what Linux's takes; its one
 * ring is that of @queue. Parts of huge pages wait for the rest, as they do in a
 * machine. */
static inline void rig_create(struct rig *rig, uint64_t bytes,
			      enum balloon_queue queue)
{
	const uint64_t features = 1ull << VIRTIO_BALLOON_F_FREE_PAGE_HINT |
				  1ull << VIRTIO_BALLOON_F_MUST_TELL_HOST;
	struct balloon_options options = {
		.hinting = true,
		.must_tell_host = true,
		.protocol = &balloon_protocol_standard,
	};
	struct virtqueue_layout layout[BALLOON_QUEUES] = { { 0 } };
	struct page_set scratch, inside, held;
	struct balloon_hold hold = { .most = RIG_HELD };
	struct error error;
	void *room;

	memset(rig, 0, sizeof(*rig));
	if (backing_create(&rig->memory, BACKING_ANONYMOUS, bytes, &error) < 0)
		errx(1, "%s", error.message);
	rig_set(&scratch, rig->memory.frames);
	rig_set(&rig->hinted, rig->memory.frames);
	rig_set(&inside, rig->memory.frames);
	rig_set(&held, rig->memory.frames);
	room = guest_memory_span(&rig->memory, (struct gpa){ RIG_RING_AT },
				 vring_driver_bytes(RIG_RING));
	/* So that its pages exist before any is counted. */
	memset(room, 0, vring_driver_bytes(RIG_RING));
	vring_driver_init(&rig->ring, RIG_RING, room, features);
	layout[balloon_queue_index(queue, features, BALLOON_NUMBERING_PACKED)] =
		(struct virtqueue_layout){
			.size = RIG_RING,
			.desc = { RIG_RING_AT },
			.avail = { RIG_RING_AT +
				   vring_driver_avail_offset(RIG_RING) },
			.used = { RIG_RING_AT +
				  vring_driver_used_offset(RIG_RING) },
		};
	balloon_init(&rig->balloon, options, &rig->memory, scratch, &rig_ops,
		     rig);
	hold.block = backing_block(&rig->memory);
	if (hold.block > 1)
		balloon_hold(&rig->balloon, hold, inside, held);
	balloon_activate(&rig->balloon, features, layout, NULL,
			 BALLOON_QUEUES);
}

/* One buffer, which the ring must have room for. */
static inline void rig_add(struct rig *rig, uint64_t address, uint32_t length,
			   bool writable)
{
	struct vring_segment segment = { address, length };

	if (vring_driver_add(&rig->ring, &segment, !writable, writable, 0))
		errx(1, "the ring is full");
}

/* What the device thread does after a kick. Return: nanoseconds it took */
static inline uint64_t rig_serve(struct rig *rig, enum balloon_queue queue)
{
	uint64_t began = clock_ns(CLOCK_MONOTONIC);

	while (balloon_serve(&rig->balloon, queue))
		;
	return clock_ns(CLOCK_MONOTONIC) - began;
}

/* Return: buffers that came back */
static inline uint64_t rig_reap(struct rig *rig)
{
	uint64_t token, count = 0;

	while (vring_driver_take_used(&rig->ring, &token, NULL))
		count++;
	return count;
}

/* splitmix64: the same order in each run */
static inline uint64_t rig_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

#endif
