// SPDX-License-Identifier: MIT
/*
 * Split virtqueue, device half (VIRTIO 1.3 section 2.7), see virtqueue.h.
 *
 * Theory of operation. Indices into the rings run freely through 16 bits; the
 * slot is the index modulo the size, which is a power of two. Differences are
 * taken in uint16_t, so that they are right over the wrap-around: "available
 * minus taken" is how many buffers wait, and more than the size cannot be.
 *
 * The driver may be storing to any word of the rings while we look at it.
 * Single words are read with one atomic load each, a descriptor is copied
 * whole before anything in it is looked at.
 *
 * What we write into the rings goes past KVM's dirty log and is marked, after
 * the write: marked before, a migration could take the mark and send the old
 * page.
 *
 * Barriers, by letter, with their partners in virtio/vring_driver.c:
 *  A  avail->idx: what the driver put into the ring before it is visible
 *  B  used->idx: what the device put into the ring before it is visible
 *  C  device: publish, then look whether an interrupt is wanted;
 *     driver: ask for an interrupt, then look for used buffers
 *  D  driver: publish, then look whether a kick is wanted;
 *     device: ask for kicks, then look for available buffers
 * C and D order a store before a load, which acquire and release cannot do;
 * they are the only full fences.
 */
#include "virtio/virtqueue.h"

#include <stddef.h>

#include "base/checked.h"
#include "base/endian.h"

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

/* A chain being walked: the table it is in at the moment, and what of it was
 * copied to the caller's buffer. */
struct walk {
	const struct virtqueue *queue;
	struct virtqueue_chain *chain;
	const uint8_t *table; /* of any alignment, where it is indirect */
	uint64_t entries;
	bool indirect;
};

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

static inline uint16_t slot(const struct virtqueue *queue, uint16_t index)
{
	return index & (queue->size - 1);
}

/* The empty statement keeps the compiler from reading the guest's memory again
 * in place of the copy. */
static struct descriptor copy_descriptor(const uint8_t *table, uint16_t index)
{
	uint8_t raw[16];

	__builtin_memcpy(raw, table + 16u * index, sizeof(raw));
	__asm__ volatile("" : : : "memory");
	return (struct descriptor){
		.address = le64_load(raw),
		.length = le32_load(raw + 8),
		.flags = le16_load(raw + 12),
		.next = le16_load(raw + 14),
	};
}

static void mark_used(struct virtqueue *queue, uint64_t offset, uint64_t length)
{
	struct gpa start = { queue->used_start.value + offset };

	guest_memory_mark_dirty(queue->memory, start, length);
}

static int refuse(const char **reason, const char *words)
{
	*reason = words;
	return -1;
}

int virtqueue_start(struct virtqueue *queue, struct guest_memory *memory,
		    const struct virtqueue_layout *layout, uint64_t features,
		    struct virtqueue_state state, const char **reason)
{
	uint64_t size = layout->size;

	*queue = (struct virtqueue){ 0 };
	if (!size || size > VIRTQUEUE_MAX_SIZE || size & (size - 1))
		return refuse(reason, "queue size is not a power of two, or "
				      "too large");
	if (layout->desc.value % 16 || layout->avail.value % 2 ||
	    layout->used.value % 4)
		return refuse(reason, "ring is misaligned");

	/* Each ring with its event field, as the driver must allocate it. */
	queue->desc = guest_memory_span(memory, layout->desc, 16 * size);
	queue->avail = guest_memory_span(memory, layout->avail, 6 + 2 * size);
	queue->used = guest_memory_span(memory, layout->used, 6 + 8 * size);
	if (!queue->desc || !queue->avail || !queue->used)
		return refuse(reason, "ring is not in RAM");

	queue->memory = memory;
	queue->size = layout->size;
	queue->event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1;
	queue->used_start = layout->used;
	queue->next_avail = state.next_avail;
	queue->next_used = state.next_used;
	queue->published_used = state.next_used;
	return 0;
}

void virtqueue_stop(struct virtqueue *queue)
{
	queue->memory = NULL;
}

struct virtqueue_state virtqueue_save(const struct virtqueue *queue)
{
	return (struct virtqueue_state){
		.next_avail = queue->next_avail,
		.next_used = queue->next_used,
	};
}

/* Take a segment into the chain. */
static int add_segment(struct walk *walk, const struct descriptor *desc,
		       const char **reason)
{
	struct virtqueue_chain *chain = walk->chain;
	uint16_t count = chain->readable + chain->writable;

	/* Also what ends a loop: no chain is longer than its queue. */
	if (count == walk->queue->size)
		return refuse(reason, "chain is longer than its queue");
	if (!desc->length)
		return refuse(reason, "descriptor of length 0");

	chain->segment[count] = (struct virtqueue_segment){
		.start = { desc->address },
		.length = desc->length,
	};
	if (desc->flags & VRING_DESC_F_WRITE) {
		chain->writable++;
		return 0;
	}
	if (chain->writable)
		return refuse(reason, "readable descriptor behind a writable");
	chain->readable++;
	chain->readable_bytes += desc->length;
	return 0;
}

/* Go on in the indirect table that @desc points to; its write flag means
 * nothing (VIRTIO 1.3 section 2.7.5.3.2). */
static int enter_table(struct walk *walk, const struct descriptor *desc,
		       const char **reason)
{
	struct gpa start = { desc->address };

	if (walk->indirect)
		return refuse(reason, "indirect table within an indirect one");
	if (desc->flags & VRING_DESC_F_NEXT)
		return refuse(reason, "indirect descriptor has a next one");
	if (!desc->length || desc->length % 16)
		return refuse(reason, "length of an indirect table");
	walk->table = guest_memory_span(walk->queue->memory, start,
					desc->length);
	if (!walk->table)
		return refuse(reason, "indirect table is not in RAM");
	walk->entries = desc->length / 16;
	walk->indirect = true;
	return 0;
}

static int walk_chain(struct walk *walk, const char **reason)
{
	struct descriptor desc;
	uint16_t index = walk->chain->head;

	for (;;) {
		desc = copy_descriptor(walk->table, index);
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			if (enter_table(walk, &desc, reason))
				return -1;
			index = 0;
			continue;
		}
		if (add_segment(walk, &desc, reason))
			return -1;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return 0;
		if (desc.next >= walk->entries)
			return refuse(reason, "next descriptor out of range");
		index = desc.next;
	}
}

int virtqueue_pop(struct virtqueue *queue, struct virtqueue_chain *chain,
		  const char **reason)
{
	struct walk walk = {
		.queue = queue,
		.chain = chain,
		.table = (const uint8_t *)queue->desc,
		.entries = queue->size,
	};
	uint16_t waiting;

	/* Barrier A, pairs with make_available(). */
	waiting = acquire_le16(&queue->avail->idx) - queue->next_avail;
	if (!waiting)
		return 0;
	if (waiting > queue->size)
		return refuse(reason, "available index is too far ahead");

	chain->head = read_le16(
		&queue->avail->ring[slot(queue, queue->next_avail)]);
	chain->readable = 0;
	chain->writable = 0;
	chain->readable_bytes = 0;
	if (chain->head >= queue->size)
		return refuse(reason, "head of a chain out of range");
	if (walk_chain(&walk, reason))
		return -1;
	queue->next_avail++;
	return 1;
}

void virtqueue_push(struct virtqueue *queue, uint16_t head, uint32_t written)
{
	uint16_t at = slot(queue, queue->next_used++);
	struct vring_used_elem *element = &queue->used->ring[at];

	le32_store(&element->id, head);
	le32_store(&element->len, written);
	mark_used(queue, offsetof(struct vring_used, ring) + 8ull * at, 8);
}

bool virtqueue_publish(struct virtqueue *queue)
{
	uint16_t before = queue->published_used;
	uint16_t after = queue->next_used;

	if (before == after)
		return false;
	/* Barrier B, pairs with vring_driver_take_used(). */
	release_le16(&queue->used->idx, after);
	queue->published_used = after;
	mark_used(queue, offsetof(struct vring_used, idx), 2);

	/* Barrier C, pairs with vring_driver_enable_interrupts(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!queue->event_idx)
		return !(read_le16(&queue->avail->flags) &
			 VRING_AVAIL_F_NO_INTERRUPT);
	/* True when the index passed the driver's event since @before; both
	 * distances are taken modulo 2^16 and are at most the queue size. */
	return vring_need_event(read_le16(&queue->avail->ring[queue->size]),
				after, before);
}

/* The event field stands behind the used ring. */
static void write_avail_event(struct virtqueue *queue, uint16_t value)
{
	uint64_t offset = offsetof(struct vring_used, ring) +
			  8ull * queue->size;

	write_le16((__virtio16 *)&queue->used->ring[queue->size], value);
	mark_used(queue, offset, 2);
}

static void write_used_flags(struct virtqueue *queue, uint16_t value)
{
	write_le16(&queue->used->flags, value);
	mark_used(queue, offsetof(struct vring_used, flags), 2);
}

bool virtqueue_has_buffers(const struct virtqueue *queue)
{
	return read_le16(&queue->avail->idx) != queue->next_avail;
}

void virtqueue_disable_notify(struct virtqueue *queue)
{
	/* With event indices the old event lies behind the driver already, and
	 * no kick comes until its index has gone once around. */
	if (!queue->event_idx)
		write_used_flags(queue, VRING_USED_F_NO_NOTIFY);
}

bool virtqueue_enable_notify(struct virtqueue *queue)
{
	if (queue->event_idx)
		write_avail_event(queue, queue->next_avail);
	else
		write_used_flags(queue, 0);
	/* Barrier D, pairs with vring_driver_needs_kick(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return virtqueue_has_buffers(queue);
}

/* Copy from guest memory that may span adjacent regions. */
static int copy_from_guest(const struct guest_memory *memory, struct gpa start,
			   uint8_t *to, uint64_t length)
{
	struct gpa at;
	uint64_t part;
	void *from;

	while (length) {
		at = start;
		part = length;
		from = guest_memory_clip(memory, &at, &part);
		if (!from || at.value != start.value)
			return -1;
		__builtin_memcpy(to, from, part);
		to += part;
		length -= part;
		start.value += part;
	}
	return 0;
}

int virtqueue_copy_out(const struct virtqueue *queue,
		       const struct virtqueue_chain *chain, uint64_t offset,
		       void *to, uint64_t length)
{
	uint8_t *at = to;
	uint64_t part;
	uint16_t i;

	for (i = 0; i < chain->readable && length; i++) {
		struct virtqueue_segment segment = chain->segment[i];

		if (offset >= segment.length) {
			offset -= segment.length;
			continue;
		}
		if (!checked_add(segment.start.value, offset,
				 &segment.start.value))
			return -1;
		part = segment.length - offset;
		if (part > length)
			part = length;
		if (copy_from_guest(queue->memory, segment.start, at, part))
			return -1;
		at += part;
		length -= part;
		offset = 0;
	}
	return length ? -1 : 0;
}
