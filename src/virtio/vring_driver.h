/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Split virtqueue, driver half (VIRTIO 1.3 section 2.7), freestanding: used by
 * the bare guest and by the tests. Direct descriptors; indirect tables where
 * the caller gives room for one. With VIRTIO_F_EVENT_IDX when negotiated.
 *
 * One thread at a time.
 */
#ifndef VIRTIO_VRING_DRIVER_H
#define VIRTIO_VRING_DRIVER_H

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VRING_DRIVER_MAX_SIZE 256

struct vring_segment {
	uint64_t address; /* guest-physical */
	uint32_t length;  /* bytes */
};

struct vring_driver {
	uint16_t size, free, free_head;
	uint16_t next_avail; /* next entry to write, published by kick */
	uint16_t kicked;     /* value of avail->idx at the last kick decision */
	uint16_t next_used;
	bool event_idx;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint64_t token[VRING_DRIVER_MAX_SIZE]; /* by head, the caller's word */
	uint16_t chain[VRING_DRIVER_MAX_SIZE]; /* by head, descriptors used */
};

/* Bytes for a ring of @size entries, to be 4096-byte aligned and zero, and the
 * offsets of its three parts. */
size_t vring_driver_bytes(uint16_t size);
size_t vring_driver_avail_offset(uint16_t size);
size_t vring_driver_used_offset(uint16_t size);

/**
 * vring_driver_init() - Lay out a ring
 * @memory:	vring_driver_bytes(@size) zero bytes
 * @features:	negotiated
 */
void vring_driver_init(struct vring_driver *ring, uint16_t size, void *memory,
		       uint64_t features);

/**
 * vring_driver_add() - Make a buffer available
 * @segment:	@readable segments, then @writable ones
 * @token:	given back by vring_driver_take_used()
 *
 * The device may use it at once: the index is published here.
 *
 * Return: 0, or -1 when the ring has no room
 */
int vring_driver_add(struct vring_driver *ring,
		     const struct vring_segment *segment, uint16_t readable,
		     uint16_t writable, uint64_t token);

/**
 * vring_driver_add_indirect() - The same through a table in one descriptor
 * @table:	room for @readable + @writable descriptors, the caller's until
 *		the buffer comes back
 * @table_address: its guest-physical address
 */
int vring_driver_add_indirect(struct vring_driver *ring,
			      const struct vring_segment *segment,
			      uint16_t readable, uint16_t writable,
			      uint64_t token, struct vring_desc *table,
			      uint64_t table_address);

/* Return: true when the device wants to be notified of what was added since
 * the last call */
bool vring_driver_needs_kick(struct vring_driver *ring);

/**
 * vring_driver_take_used() - Take back a buffer the device has used
 * @token:	filled
 * @written:	filled, bytes the device says it wrote; may be NULL
 *
 * Return: false when there is none
 */
bool vring_driver_take_used(struct vring_driver *ring, uint64_t *token,
			    uint32_t *written);

/* Interrupts wanted or not; enable returns true when used buffers wait. */
void vring_driver_disable_interrupts(struct vring_driver *ring);
bool vring_driver_enable_interrupts(struct vring_driver *ring);

#endif
