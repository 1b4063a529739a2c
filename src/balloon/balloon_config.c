// SPDX-License-Identifier: MIT
/*
 * Configuration space of the balloon (VIRTIO 1.3 section 5.5.4), any thread.
 *
 * Registers are little-endian on the bus and plain numbers here. Each is read
 * with one atomic load, so that a driver never sees half of a new value.
 */
#include <stddef.h>

#include "balloon/balloon.h"
#include "base/checked.h"
#include "base/endian.h"

#define CONFIG_SIZE sizeof(struct virtio_balloon_config)
#define CONFIG_AT(field) offsetof(struct virtio_balloon_config, field)

uint32_t balloon_config_size(const struct balloon *balloon)
{
	uint64_t features = balloon_features(balloon);

	if (features >> VIRTIO_BALLOON_F_PAGE_POISON & 1)
		return CONFIG_SIZE;
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
	uint32_t size = balloon_config_size(balloon);
	uint8_t raw[CONFIG_SIZE];
	uint32_t part = length;

	put(raw, CONFIG_AT(num_pages), &balloon->config.num_pages);
	put(raw, CONFIG_AT(actual), &balloon->config.actual);
	put(raw, CONFIG_AT(free_page_hint_cmd_id),
	    &balloon->config.free_page_hint_cmd_id);
	put(raw, CONFIG_AT(poison_val), &balloon->config.poison_val);

	if (offset >= size)
		part = 0;
	else if (!checked_within(offset, length, size))
		part = size - offset;
	__builtin_memcpy(to, raw + (part ? offset : 0), part);
	__builtin_memset((uint8_t *)to + part, 0, length - part);
}

bool balloon_config_write(struct balloon *balloon, uint32_t offset,
			  const void *from, uint32_t length)
{
	uint32_t value;

	if (length != 4 ||
	    !checked_within(offset, length, balloon_config_size(balloon)))
		return false;
	value = le32_load(from);
	switch (offset) {
	case CONFIG_AT(actual):
		return atomic_exchange_explicit(&balloon->config.actual, value,
						memory_order_acq_rel) != value;
	case CONFIG_AT(poison_val):
		atomic_store_explicit(&balloon->config.poison_val, value,
				      memory_order_release);
		return false;
	default:
		return false;
	}
}
