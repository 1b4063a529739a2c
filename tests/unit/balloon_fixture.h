/* SPDX-License-Identifier: MIT */
/*
 * A balloon, its host that writes down what it is told, and the driver half of
 * its rings in guest memory of three regions.
 */
#ifndef BALLOON_FIXTURE_H
#define BALLOON_FIXTURE_H

#include "unit.h"

#include "balloon/balloon.h"
#include "base/endian.h"
#include "virtio/vring_driver.h"

#define MiB 0x100000ull
#define PAGE 4096ull
#define HINT (1ull << VIRTIO_BALLOON_F_FREE_PAGE_HINT)
#define STATS (1ull << VIRTIO_BALLOON_F_STATS_VQ)
#define REPORTING (1ull << VIRTIO_BALLOON_F_REPORTING)
#define POISON (1ull << VIRTIO_BALLOON_F_PAGE_POISON)
#define EVENT_IDX (1ull << VIRTIO_RING_F_EVENT_IDX)

/* [0, 4 MiB), a hole, [16 MiB, 20 MiB), and [20 MiB, 21 MiB) that touches. */
#define LOW_END (4 * MiB)
#define HIGH (16 * MiB)
#define HIGH_MIDDLE (20 * MiB)
#define HIGH_END (21 * MiB)

#define RING_SIZE 16
#define RING_AT(queue) (0x10000ull + 0x4000ull * (queue))
#define BUFFERS 0x80000ull /* where fx_bytes() puts what is sent */
#define MAX_RUNS 512

struct fx {
	struct guest_memory memory;
	struct balloon balloon;
	struct page_set hinted;
	struct vring_driver ring[BALLOON_QUEUES];
	struct virtqueue_layout layout[BALLOON_QUEUES];
	uint64_t next_buffer;

	/* What the host was told. */
	struct page_run discarded[MAX_RUNS], returned[MAX_RUNS];
	unsigned int discards, returns;
	unsigned int calls; /* by which these were told */
	unsigned int acknowledged_first; /* of them, behind the buffer */
	unsigned int interrupts[BALLOON_QUEUES];
	unsigned int config_changes;
	unsigned int statistics_changes;
	bool linger; /* what the host answers */
	unsigned int lingers;
	unsigned int report_changes;
	enum report_state last_change;
	unsigned int breaks;
	const char *broken;
};

static struct fx fx;

static bool fx_nothing_used(enum balloon_queue queue)
{
	const struct vring_driver *ring = &fx.ring[queue];

	return !ring->used || le16_load(&ring->used->idx) == ring->next_used;
}

/* Nothing of a drain is used before the host heard of all of it (R24), but for
 * numbers of pages that the driver may not use before it told us. */
static void fx_check_inflated(void)
{
	uint64_t features = fx.balloon.features;
	bool asks = features >> VIRTIO_BALLOON_F_MUST_TELL_HOST & 1 &&
		    !(features >> BALLOON_F_PAGE_RANGES & 1);

	if (!fx_nothing_used(BALLOON_INFLATE))
		fx.acknowledged_first++;
	assert_true(asks || fx_nothing_used(BALLOON_INFLATE));
}

static void fx_discard(void *host, const struct page_run *run,
		       unsigned int runs)
{
	unsigned int i;

	assert_ptr_equal(host, &fx);
	assert_in_range(runs, 1, BALLOON_RUNS);
	fx.calls++;
	fx_check_inflated();
	assert_true(fx_nothing_used(BALLOON_REPORTING));
	for (i = 0; i < runs; i++) {
		ram(&fx.memory, run[i].first * PAGE, run[i].count * PAGE);
		assert_true(fx.discards < MAX_RUNS);
		fx.discarded[fx.discards++] = run[i];
	}
}

static void fx_returned(void *host, struct page_run run)
{
	assert_ptr_equal(host, &fx);
	assert_true(fx_nothing_used(BALLOON_DEFLATE));
	ram(&fx.memory, run.first * PAGE, run.count * PAGE);
	assert_true(fx.returns < MAX_RUNS);
	fx.returned[fx.returns++] = run;
}

static bool fx_linger(void *host, const struct virtqueue *free_page_queue)
{
	assert_ptr_equal(host, &fx);
	assert_ptr_equal(free_page_queue,
			 &fx.balloon.queue[BALLOON_FREE_PAGE]);
	assert_int_equal(fx.balloon.report.state, REPORT_ACCEPTING);
	fx.lingers++;
	return fx.linger;
}

static void fx_report_changed(void *host, enum report_state state)
{
	assert_ptr_equal(host, &fx);
	assert_int_equal(fx.balloon.report.state, state);
	fx.report_changes++;
	fx.last_change = state;
}

static void fx_interrupt(void *host, enum balloon_queue queue)
{
	assert_ptr_equal(host, &fx);
	fx.interrupts[queue]++;
}

static void fx_config_changed(void *host)
{
	assert_ptr_equal(host, &fx);
	assert_true(fx.balloon.running);
	fx.config_changes++;
}

static void fx_statistics_changed(void *host)
{
	assert_ptr_equal(host, &fx);
	fx.statistics_changes++;
}

static void fx_broken(void *host, const char *reason)
{
	assert_ptr_equal(host, &fx);
	fx.breaks++;
	fx.broken = reason;
}

static const struct balloon_host_ops fx_ops = {
	.discard = fx_discard,
	.returned = fx_returned,
	.linger = fx_linger,
	.report_changed = fx_report_changed,
	.interrupt = fx_interrupt,
	.config_changed = fx_config_changed,
	.statistics_changed = fx_statistics_changed,
	.broken = fx_broken,
};

static inline void fx_init(struct balloon_options options)
{
	memset(&fx, 0, sizeof(fx));
	memory_add(&fx.memory, 0, LOW_END);
	memory_add(&fx.memory, HIGH, HIGH_MIDDLE - HIGH);
	memory_add(&fx.memory, HIGH_MIDDLE, HIGH_END - HIGH_MIDDLE);
	memory_finish(&fx.memory);
	fx.hinted = page_set_new(fx.memory.frames);
	fx.next_buffer = BUFFERS;
	balloon_init(&fx.balloon, options, &fx.memory,
		     page_set_new(fx.memory.frames), &fx_ops, &fx);
}

static inline struct balloon_options fx_options(void)
{
	return (struct balloon_options){
		.hinting = true,
		.numbering = BALLOON_NUMBERING_PACKED,
		.protocol = &balloon_protocol_standard,
	};
}

/* Lay out fresh rings, as a driver does before DRIVER_OK; rings of queues that
 * do not exist with @features are left out. */
static inline void fx_lay_out(uint64_t features)
{
	uint64_t at;
	int queue, index;
	size_t bytes = vring_driver_bytes(RING_SIZE);

	memset(fx.layout, 0, sizeof(fx.layout));
	for (queue = 0; queue < BALLOON_QUEUES; queue++) {
		index = balloon_queue_index(queue, features,
					    fx.balloon.options.numbering);
		if (index < 0)
			continue;
		at = RING_AT(queue);
		memset(ram(&fx.memory, at, bytes), 0, bytes);
		vring_driver_init(&fx.ring[queue], RING_SIZE,
				  ram(&fx.memory, at, bytes), features);
		fx.layout[index] = (struct virtqueue_layout){
			.size = RING_SIZE,
			.desc = { at },
			.avail = { at + vring_driver_avail_offset(RING_SIZE) },
			.used = { at + vring_driver_used_offset(RING_SIZE) },
		};
	}
}

static inline void fx_activate(uint64_t features)
{
	fx_lay_out(features);
	balloon_activate(&fx.balloon, features, fx.layout, NULL,
			 BALLOON_QUEUES);
}

static inline int fx_setup(void **state)
{
	fx_init(fx_options());
	fx_activate(HINT);
	return 0;
}

static inline int fx_teardown(void **state)
{
	page_set_delete(&fx.balloon.run_pages);
	page_set_delete(&fx.hinted);
	memory_delete(&fx.memory);
	return 0;
}

/* Put bytes into guest memory of their own. */
static inline uint64_t fx_bytes(const void *bytes, uint64_t length)
{
	uint64_t at = fx.next_buffer;

	memcpy(ram(&fx.memory, at, length), bytes, length);
	fx.next_buffer += (length + 15) & ~15ull;
	return at;
}

static inline void fx_add(enum balloon_queue queue,
			  const struct vring_segment *segment,
			  uint16_t readable, uint16_t writable)
{
	assert_int_equal(vring_driver_add(&fx.ring[queue], segment, readable,
					  writable, 0),
			 0);
}

static inline void fx_send(enum balloon_queue queue, const void *bytes,
			   uint32_t length)
{
	struct vring_segment segment = { fx_bytes(bytes, length), length };

	fx_add(queue, &segment, 1, 0);
}

static inline void fx_send_frames(enum balloon_queue queue,
				  const uint32_t *frames, unsigned int count)
{
	uint8_t bytes[4 * 64];
	unsigned int i;

	for (i = 0; i < count; i++)
		le32_store(bytes + 4 * i, frames[i]);
	fx_send(queue, bytes, 4 * count);
}

static inline void fx_send_command(uint32_t id)
{
	fx_send_frames(BALLOON_FREE_PAGE, &id, 1);
}

static inline void fx_send_hint(uint64_t start, uint32_t length)
{
	struct vring_segment segment = { start, length };

	fx_add(BALLOON_FREE_PAGE, &segment, 0, 1);
}

/* Take back all used buffers; each was used with length 0. Return: how many */
static inline unsigned int fx_reap(enum balloon_queue queue)
{
	unsigned int n = 0;
	uint32_t written;
	uint64_t token;

	while (vring_driver_take_used(&fx.ring[queue], &token, &written)) {
		assert_int_equal(written, 0);
		n++;
	}
	return n;
}

static inline void fx_serve(enum balloon_queue queue)
{
	while (balloon_serve(&fx.balloon, queue))
		;
}

static inline unsigned int fx_serve_and_reap(enum balloon_queue queue)
{
	fx_serve(queue);
	return fx_reap(queue);
}

static inline void fx_command(uint32_t id)
{
	fx_send_command(id);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 1);
}

static inline void fx_hint(uint64_t start, uint32_t length)
{
	fx_send_hint(start, length);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 1);
}

static inline uint32_t fx_register(uint32_t offset)
{
	uint8_t raw[4];

	balloon_config_read(&fx.balloon, offset, raw, sizeof(raw));
	return le32_load(raw);
}

static inline uint32_t fx_cmd_id(void)
{
	return fx_register(offsetof(struct virtio_balloon_config,
				    free_page_hint_cmd_id));
}

static inline void fx_write_register(uint32_t offset, uint32_t value)
{
	uint8_t raw[4];

	le32_store(raw, value);
	balloon_config_write(&fx.balloon, offset, raw, sizeof(raw));
}

/* Go on as another machine's balloon, over the same memory; a report that was
 * under way is forgotten there. */
static inline void fx_migrate(void)
{
	struct virtqueue_state queue[BALLOON_QUEUES] = { { 0, 0 } };
	struct balloon_options options = fx.balloon.options;
	struct page_set scratch = fx.balloon.run_pages;
	const struct balloon_host_ops *ops = fx.balloon.ops;
	uint64_t features = fx.balloon.features;
	struct balloon_state saved;
	int i, index;

	balloon_save(&fx.balloon, &saved);
	for (i = 0; i < BALLOON_QUEUES; i++) {
		index = balloon_queue_number(&fx.balloon, i);
		if (index >= 0)
			queue[index] = balloon_queue_state(&fx.balloon, i);
	}
	balloon_init(&fx.balloon, options, &fx.memory, scratch, ops, &fx);
	assert_int_equal(balloon_load(&fx.balloon, &saved), 0);
	balloon_activate(&fx.balloon, features, fx.layout, queue,
			 BALLOON_QUEUES);
}

static inline void assert_run(struct page_run run, uint64_t first,
			      uint64_t count)
{
	assert_int_equal(run.first, first);
	assert_int_equal(run.count, count);
}

#endif
