// SPDX-License-Identifier: MIT
/*
 * Configuration space of the balloon (VIRTIO 1.3 section 5.5.4), any thread.
 *
 * Registers are little-endian on the bus and plain numbers here. Each is read
 * with one atomic load, so that a driver never sees half of a new value.
 */
#include <stddef.h>

#include "balloon/balloon_internal.h"
#include "base/checked.h"
#include "base/endian.h"

#define CONFIG_SIZE (BALLOON_V17_GUEST2HOST_CMD + 4)
#define CONFIG_AT(field) offsetof(struct virtio_balloon_config, field)

uint32_t balloon_config_size(const struct balloon *balloon)
{
	uint64_t features = balloon_features(balloon);

	if (balloon->options.protocol->config_size)
		return balloon->options.protocol->config_size;
	if (features >> VIRTIO_BALLOON_F_PAGE_POISON & 1)
		return CONFIG_AT(poison_val) + 4;
	if (features >> VIRTIO_BALLOON_F_FREE_PAGE_HINT & 1)
		return CONFIG_AT(poison_val);
	return CONFIG_AT(free_page_hint_cmd_id);
}

static void put(uint8_t *raw, size_t offset, const _Atomic uint32_t *from)
{
	le32_store(raw + offset,
		   atomic_load_explicit(from, memory_order_acquire));
}

void balloon_config_read(struct balloon *balloon, uint32_t offset, void *to,
			 uint32_t length)
{
	const struct balloon_protocol *protocol = balloon->options.protocol;
	uint32_t size = balloon_config_size(balloon);
	uint8_t raw[CONFIG_SIZE] = { 0 };
	uint32_t part = length;

	put(raw, CONFIG_AT(num_pages), &balloon->config.num_pages);
	put(raw, CONFIG_AT(actual), &balloon->config.actual);
	put(raw, CONFIG_AT(free_page_hint_cmd_id),
	    &balloon->config.free_page_hint_cmd_id);
	put(raw, CONFIG_AT(poison_val), &balloon->config.poison_val);
	if (protocol->feature) {
		put(raw, protocol->command_at, &balloon->config.cmd_reg);
		put(raw, protocol->command_id_at, &balloon->config.cmd_id_reg);
	}

	if (offset >= size)
		part = 0;
	else if (!checked_within(offset, length, size))
		part = size - offset;
	__builtin_memcpy(to, raw + (part ? offset : 0), part);
	__builtin_memset((uint8_t *)to + part, 0, length - part);
}

/*
 * Requests. The device thread sets their bits, a vCPU clears some; both do it
 * in one atomic operation, so that neither undoes the other. A bit is set with
 * release and looked at with acquire: a driver that has seen it, or has cleared
 * it, reads a register at least as new.
 */

/* config_generation moves even for a bit that is set already, and a driver that
 * lost an interrupt gets another (D-1, W-1). */
void balloon_raise(struct balloon *balloon, uint32_t bits)
{
	if (!balloon->running)
		return;
	atomic_fetch_or_explicit(&balloon->config.cmd_reg, bits,
				 memory_order_release);
	balloon_config_changed(balloon);
}

uint32_t balloon_pending(const struct balloon *balloon)
{
	return atomic_load_explicit(&balloon->config.cmd_reg,
				    memory_order_acquire);
}

/* Clears bits; a driver cannot set any (D-2, W-2). What it wrote is kept for
 * the device thread, to which v17's STOP says more than that. */
static void acknowledge(struct balloon *balloon, uint32_t bits)
{
	atomic_fetch_and_explicit(&balloon->config.cmd_reg, ~bits,
				  memory_order_acq_rel);
	atomic_fetch_or_explicit(&balloon->config.acknowledged, bits,
				 memory_order_acq_rel);
}

enum balloon_written balloon_config_write(struct balloon *balloon,
					  uint32_t offset, const void *from,
					  uint32_t length)
{
	const struct balloon_protocol *protocol = balloon->options.protocol;
	uint32_t value;

	if (length != 4 ||
	    !checked_within(offset, length, balloon_config_size(balloon)))
		return BALLOON_WROTE_NOTHING;
	value = le32_load(from);
	switch (offset) {
	case CONFIG_AT(actual):
		if (atomic_exchange_explicit(&balloon->config.actual, value,
					     memory_order_acq_rel) == value)
			return BALLOON_WROTE_NOTHING;
		return BALLOON_WROTE_ACTUAL;
	case CONFIG_AT(poison_val):
		atomic_store_explicit(&balloon->config.poison_val, value,
				      memory_order_release);
		return BALLOON_WROTE_NOTHING;
	default:
		if (!protocol->feature || offset != protocol->acknowledge_at)
			return BALLOON_WROTE_NOTHING;
		acknowledge(balloon, value);
		return BALLOON_WROTE_COMMAND;
	}
}
