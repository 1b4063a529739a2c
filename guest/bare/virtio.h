/* SPDX-License-Identifier: MIT */
/* One virtio device behind PCI, modern transport. */
#ifndef BARE_VIRTIO_H
#define BARE_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/vring_driver.h"

struct virtio_pci_device {
	unsigned int slot;
	uintptr_t common, notify, config, isr;
	uint32_t notify_multiplier;
	uint64_t features; /* negotiated */
	uint64_t isr_reads, config_reads, config_writes, kicks;
};

struct virtio_queue {
	struct vring_driver ring;
	uintptr_t notify; /* 0: the device has no such queue */
	uint16_t index;
};

/* Find the device, reset it and agree on a part of @wanted.
 * Return: NULL, or what went wrong */
const char *virtio_start(struct virtio_pci_device *device, uint16_t id,
			 uint64_t wanted);

/* @memory: 4096-byte aligned, zero, of vring_driver_bytes(@most).
 * Return: NULL, or what went wrong */
const char *virtio_add_queue(struct virtio_pci_device *device,
			     struct virtio_queue *queue, int index,
			     void *memory, uint16_t most);

void virtio_go(struct virtio_pci_device *device);

/* Whether the configuration changed since this was asked last: what an
 * interrupt would tell, asked of its register. */
bool virtio_config_changed(struct virtio_pci_device *device);

uint32_t virtio_config_read(struct virtio_pci_device *device, uint32_t offset);
void virtio_config_write(struct virtio_pci_device *device, uint32_t offset,
			 uint32_t value);

/* Tell the device of what was added, if it wants to be told. */
void virtio_kick(struct virtio_pci_device *device, struct virtio_queue *queue);

#endif
