/* SPDX-License-Identifier: MIT */
/*
 * Split virtqueue, device half (VIRTIO 1.3 section 2.7), with indirect
 * descriptors and VIRTIO_F_EVENT_IDX.
 *
 * The guest is hostile: each descriptor is copied once and only the copy is
 * looked at. A malformed ring breaks the queue, never the process.
 *
 * A queue belongs to one thread. Barriers carry letters; their partners in
 * virtio/vring_driver.c carry the same.
 */
#ifndef VIRTIO_VIRTQUEUE_H
#define VIRTIO_VIRTQUEUE_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "memory/guest_memory.h"

#define VIRTQUEUE_MAX_SIZE 1024

struct virtqueue_segment {
	struct gpa start; /* guest: any value, not yet translated */
	uint32_t length;  /* guest: any value, bytes */
};

/* One buffer of the driver: its readable segments first, then the writable
 * ones, as copied from the descriptors. */
struct virtqueue_chain {
	uint16_t head;
	uint16_t readable, writable; /* segments of either kind */
	uint64_t readable_bytes;     /* in all; cannot overflow */
	struct virtqueue_segment segment[VIRTQUEUE_MAX_SIZE];
};

/* Where the driver put a queue (VIRTIO 1.3 section 4.1.4.3). */
struct virtqueue_layout {
	uint16_t size; /* power of two, at most VIRTQUEUE_MAX_SIZE */
	struct gpa desc, avail, used;
};

/* What a saved queue is made of; the rings themselves are guest memory. */
struct virtqueue_state {
	uint16_t next_avail; /* index of the next available entry to take */
	uint16_t next_used;  /* index of the next used entry to write */
};

struct virtqueue {
	struct guest_memory *memory; /* not owned; NULL while stopped */
	uint16_t size;
	bool event_idx;
	const struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	struct gpa used_start;
	uint16_t next_avail;
	uint16_t next_used;	 /* next entry to write */
	uint16_t published_used; /* value of used->idx the driver sees */
};

/**
 * virtqueue_start() - Begin to serve a queue
 * @layout:	guest: any value
 * @features:	negotiated, bits as 1ull << VIRTIO_RING_F_EVENT_IDX and so on
 * @state:	where to go on; zeroes for a queue that was never served
 * @reason:	on failure, what is wrong with it (static string)
 *
 * Return: 0, or -1 when a ring is misaligned or not in RAM or the size is bad
 */
int virtqueue_start(struct virtqueue *queue, struct guest_memory *memory,
		    const struct virtqueue_layout *layout, uint64_t features,
		    struct virtqueue_state state, const char **reason);

void virtqueue_stop(struct virtqueue *queue);
struct virtqueue_state virtqueue_save(const struct virtqueue *queue);

/**
 * virtqueue_pop() - Take the next buffer the driver made available
 *
 * Order of the checks: distance of the indices, head, length of the chain
 * (at most the queue size), no nested indirect table, table length a multiple
 * of 16 and not 0, no readable segment behind a writable one, no segment of
 * length 0.
 *
 * Return: 1 with @chain filled, 0 when there is none, -1 with @reason (static
 * string) when the ring is malformed: the device is broken then
 */
int virtqueue_pop(struct virtqueue *queue, struct virtqueue_chain *chain,
		  const char **reason);

/* Return a buffer; @written bytes of it were written. Seen by the driver from
 * the next virtqueue_publish() on. */
void virtqueue_push(struct virtqueue *queue, uint16_t head, uint32_t written);

/**
 * virtqueue_publish() - Let the driver see all buffers pushed so far
 *
 * Return: true when the driver asked to be interrupted for them
 */
bool virtqueue_publish(struct virtqueue *queue);

/* Has the driver made buffers available that nobody took? */
bool virtqueue_has_buffers(const struct virtqueue *queue);

/**
 * virtqueue_disable_notify() / virtqueue_enable_notify() - Kicks wanted or not
 *
 * Return (enable): true when buffers came in between, so that the caller must
 * look again instead of going to sleep
 */
void virtqueue_disable_notify(struct virtqueue *queue);
bool virtqueue_enable_notify(struct virtqueue *queue);

/**
 * virtqueue_copy_out() - Copy readable bytes of a buffer
 * @offset:	in the readable bytes
 *
 * Return: 0, or -1 when [@offset, @offset + @length) is not all readable bytes
 * in RAM
 */
int virtqueue_copy_out(const struct virtqueue *queue,
		       const struct virtqueue_chain *chain, uint64_t offset,
		       void *to, uint64_t length);

#endif
