// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Split virtqueue, driver half (VIRTIO 1.3 section 2.7), see vring_driver.h.
 *
 * Free descriptors form a list through their next fields, and so do those of
 * a chain in use, whose length is remembered by its head. The barrier letters
 * are explained in virtio/virtqueue.c, which holds their partners.
 */
#include "virtio/vring_driver.h"

#include "base/endian.h"

/* Words that the other side reads or writes at the same time. */
static inline uint16_t read_le16(const __virtio16 *p)
{
	uint16_t v = __atomic_load_n((const endian_force uint16_t *)p,
				     __ATOMIC_RELAXED);

	return endian_swap(16, v);
}

static inline uint16_t acquire_le16(const __virtio16 *p)
{
	uint16_t v = __atomic_load_n((const endian_force uint16_t *)p,
				     __ATOMIC_ACQUIRE);

	return endian_swap(16, v);
}

static inline void write_le16(__virtio16 *p, uint16_t value)
{
	__atomic_store_n((endian_force uint16_t *)p, endian_swap(16, value),
			 __ATOMIC_RELAXED);
}

static inline void release_le16(__virtio16 *p, uint16_t value)
{
	__atomic_store_n((endian_force uint16_t *)p, endian_swap(16, value),
			 __ATOMIC_RELEASE);
}

static inline uint16_t next_of(const struct vring_driver *ring, uint16_t i)
{
	return le16_load(&ring->desc[i].next);
}

static void write_descriptor(struct vring_desc *desc, uint64_t address,
			     uint32_t length, uint16_t flags, uint16_t next)
{
	le64_store(&desc->addr, address);
	le32_store(&desc->len, length);
	le16_store(&desc->flags, flags);
	le16_store(&desc->next, next);
}

size_t vring_driver_avail_offset(uint16_t size)
{
	return sizeof(struct vring_desc) * size;
}

size_t vring_driver_used_offset(uint16_t size)
{
	size_t end = vring_driver_avail_offset(size) + 6 + 2 * (size_t)size;

	/* A cache line of its own: the two sides write into these two. */
	return (end + 63) & ~(size_t)63;
}

size_t vring_driver_bytes(uint16_t size)
{
	return vring_driver_used_offset(size) + 6 + 8 * (size_t)size;
}

void vring_driver_init(struct vring_driver *ring, uint16_t size, void *memory,
		       uint64_t features)
{
	uint8_t *bytes = memory;
	uint16_t i;

	__builtin_memset(ring, 0, sizeof(*ring));
	ring->size = size;
	ring->free = size;
	ring->event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1;
	ring->desc = memory;
	ring->avail = (void *)(bytes + vring_driver_avail_offset(size));
	ring->used = (void *)(bytes + vring_driver_used_offset(size));
	for (i = 0; i < size; i++)
		le16_store(&ring->desc[i].next, i + 1);
}

static uint16_t take_descriptor(struct vring_driver *ring)
{
	uint16_t taken = ring->free_head;

	ring->free_head = next_of(ring, taken);
	ring->free--;
	return taken;
}

static void make_available(struct vring_driver *ring, uint16_t head,
			   uint16_t descriptors, uint64_t token)
{
	uint16_t slot = ring->next_avail++ & (ring->size - 1);

	ring->chain[head] = descriptors;
	ring->token[head] = token;
	write_le16(&ring->avail->ring[slot], head);
	/* Barrier A, pairs with virtqueue_pop(). */
	release_le16(&ring->avail->idx, ring->next_avail);
}

static uint16_t segment_flags(uint16_t i, uint16_t readable, uint16_t count)
{
	return (i < readable ? 0 : VRING_DESC_F_WRITE) |
	       (i + 1 < count ? VRING_DESC_F_NEXT : 0);
}

int vring_driver_add(struct vring_driver *ring,
		     const struct vring_segment *segment, uint16_t readable,
		     uint16_t writable, uint64_t token)
{
	uint16_t head = ring->free_head;
	uint16_t count = readable + writable;
	uint16_t at, i;

	if (!count || count > ring->free)
		return -1;
	for (i = 0; i < count; i++) {
		at = take_descriptor(ring);
		write_descriptor(&ring->desc[at], segment[i].address,
				 segment[i].length,
				 segment_flags(i, readable, count),
				 ring->free_head);
	}
	make_available(ring, head, count, token);
	return 0;
}

int vring_driver_add_indirect(struct vring_driver *ring,
			      const struct vring_segment *segment,
			      uint16_t readable, uint16_t writable,
			      uint64_t token, struct vring_desc *table,
			      uint64_t table_address)
{
	uint16_t count = readable + writable;
	uint16_t head, i;

	if (!count || !ring->free)
		return -1;
	for (i = 0; i < count; i++)
		write_descriptor(&table[i], segment[i].address,
				 segment[i].length,
				 segment_flags(i, readable, count), i + 1);
	head = take_descriptor(ring);
	write_descriptor(&ring->desc[head], table_address,
			 (uint32_t)(sizeof(*table) * count),
			 VRING_DESC_F_INDIRECT, ring->free_head);
	make_available(ring, head, 1, token);
	return 0;
}

bool vring_driver_needs_kick(struct vring_driver *ring)
{
	uint16_t before = ring->kicked;
	uint16_t after = ring->next_avail;

	if (before == after)
		return false;
	ring->kicked = after;
	/* Barrier D, pairs with virtqueue_enable_notify(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!ring->event_idx)
		return !(read_le16(&ring->used->flags) &
			 VRING_USED_F_NO_NOTIFY);
	return vring_need_event(
		read_le16((__virtio16 *)&ring->used->ring[ring->size]), after,
		before);
}

static void free_chain(struct vring_driver *ring, uint16_t head)
{
	uint16_t last = head;
	uint16_t i;

	for (i = 1; i < ring->chain[head]; i++)
		last = next_of(ring, last);
	le16_store(&ring->desc[last].next, ring->free_head);
	ring->free_head = head;
	ring->free += ring->chain[head];
	ring->chain[head] = 0;
}

bool vring_driver_take_used(struct vring_driver *ring, uint64_t *token,
			    uint32_t *written)
{
	const struct vring_used_elem *element;
	uint32_t head;

	/* Barrier B, pairs with virtqueue_publish(). */
	if (acquire_le16(&ring->used->idx) == ring->next_used)
		return false;
	element = &ring->used->ring[ring->next_used & (ring->size - 1)];
	head = le32_load(&element->id);
	/* A device that returns what it does not have gets stuck here. */
	if (head >= ring->size || !ring->chain[head])
		return false;
	if (written)
		*written = le32_load(&element->len);
	*token = ring->token[head];
	free_chain(ring, (uint16_t)head);
	ring->next_used++;
	return true;
}

/* The event field stands behind the available ring. */
static void write_used_event(struct vring_driver *ring, uint16_t value)
{
	write_le16(&ring->avail->ring[ring->size], value);
}

void vring_driver_disable_interrupts(struct vring_driver *ring)
{
	/* An event that is passed already does not come again until the index
	 * has gone once around. */
	if (ring->event_idx)
		write_used_event(ring, ring->next_used - 1);
	else
		write_le16(&ring->avail->flags, VRING_AVAIL_F_NO_INTERRUPT);
}

bool vring_driver_enable_interrupts(struct vring_driver *ring)
{
	if (ring->event_idx)
		write_used_event(ring, ring->next_used);
	else
		write_le16(&ring->avail->flags, 0);
	/* Barrier C, pairs with virtqueue_publish(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return read_le16(&ring->used->idx) != ring->next_used;
}
