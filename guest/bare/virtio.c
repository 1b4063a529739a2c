// SPDX-License-Identifier: MIT
/* One virtio device behind PCI, modern transport (VIRTIO 1.3 section 4.1). */
#include "virtio.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <stddef.h>

#include "machine.h"
#include "pci.h"

#define VENDOR_VIRTIO 0x1af4
#define DEVICE_MODERN 0x1040
#define NO_VECTOR 0xffff
#define ISR_CONFIG 2

static void note_area(struct virtio_pci_device *device, unsigned int cap)
{
	unsigned int slot = device->slot;
	uint8_t type = pci_read8(slot, cap + offsetof(struct virtio_pci_cap,
						      cfg_type));
	uint8_t bar = pci_read8(slot, cap + offsetof(struct virtio_pci_cap,
						     bar));
	uint32_t offset = pci_read32(slot, cap + offsetof(struct virtio_pci_cap,
							  offset));

	switch (type) {
	case VIRTIO_PCI_CAP_COMMON_CFG:
		device->common = pci_bar(slot, bar) + offset;
		break;
	case VIRTIO_PCI_CAP_ISR_CFG:
		device->isr = pci_bar(slot, bar) + offset;
		break;
	case VIRTIO_PCI_CAP_DEVICE_CFG:
		device->config = pci_bar(slot, bar) + offset;
		break;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		device->notify = pci_bar(slot, bar) + offset;
		device->notify_multiplier = pci_read32(
			slot, cap + offsetof(struct virtio_pci_notify_cap,
					     notify_off_multiplier));
		break;
	default:
		break;
	}
}

static void find_areas(struct virtio_pci_device *device)
{
	unsigned int cap = pci_read8(device->slot, PCI_CAPABILITY_LIST) & ~3u;

	while (cap) {
		if (pci_read8(device->slot, cap) == PCI_CAP_ID_VNDR)
			note_area(device, cap);
		cap = pci_read8(device->slot, cap + 1) & ~3u;
	}
}

static void add_status(struct virtio_pci_device *device, uint8_t bits)
{
	uintptr_t at = device->common + VIRTIO_PCI_COMMON_STATUS;

	mmio_write8(at, mmio_read8(at) | bits);
}

static void reset_device(struct virtio_pci_device *device)
{
	uintptr_t at = device->common + VIRTIO_PCI_COMMON_STATUS;

	mmio_write8(at, 0);
	while (mmio_read8(at))
		relax();
}

static uint64_t offered_features(struct virtio_pci_device *device)
{
	uint64_t features;

	mmio_write32(device->common + VIRTIO_PCI_COMMON_DFSELECT, 1);
	features = mmio_read32(device->common + VIRTIO_PCI_COMMON_DF);
	mmio_write32(device->common + VIRTIO_PCI_COMMON_DFSELECT, 0);
	return features << 32 |
	       mmio_read32(device->common + VIRTIO_PCI_COMMON_DF);
}

static void accept_features(struct virtio_pci_device *device)
{
	unsigned int half;

	for (half = 0; half < 2; half++) {
		mmio_write32(device->common + VIRTIO_PCI_COMMON_GFSELECT, half);
		mmio_write32(device->common + VIRTIO_PCI_COMMON_GF,
			     (uint32_t)(device->features >> 32 * half));
	}
}

const char *virtio_start(struct virtio_pci_device *device, uint16_t id,
			 uint64_t wanted)
{
	int slot = pci_find(VENDOR_VIRTIO, DEVICE_MODERN + id);

	if (slot < 0)
		return "no such device";
	device->slot = (unsigned int)slot;
	find_areas(device);
	if (!device->common || !device->config || !device->notify ||
	    !device->isr)
		return "the device lacks a capability";
	pci_enable(device->slot);
	reset_device(device);
	add_status(device, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_status(device, VIRTIO_CONFIG_S_DRIVER);
	device->features = offered_features(device) & wanted;
	accept_features(device);
	add_status(device, VIRTIO_CONFIG_S_FEATURES_OK);
	if (!(mmio_read8(device->common + VIRTIO_PCI_COMMON_STATUS) &
	      VIRTIO_CONFIG_S_FEATURES_OK))
		return "the device refuses our features";
	mmio_write16(device->common + VIRTIO_PCI_COMMON_MSIX, NO_VECTOR);
	return NULL;
}

static void write_address(uintptr_t at, const void *address)
{
	mmio_write32(at, (uint32_t)(uintptr_t)address);
	mmio_write32(at + 4, (uint32_t)((uintptr_t)address >> 32));
}

const char *virtio_add_queue(struct virtio_pci_device *device,
			     struct virtio_queue *queue, int index,
			     void *memory, uint16_t most)
{
	uintptr_t common = device->common;
	uint16_t size;

	if (index < 0)
		return NULL;
	queue->index = (uint16_t)index;
	mmio_write16(common + VIRTIO_PCI_COMMON_Q_SELECT, queue->index);
	size = mmio_read16(common + VIRTIO_PCI_COMMON_Q_SIZE);
	if (!size)
		return "a queue is missing";
	if (size > most)
		size = most;
	vring_driver_init(&queue->ring, size, memory, device->features);
	vring_driver_disable_interrupts(&queue->ring);
	mmio_write16(common + VIRTIO_PCI_COMMON_Q_SIZE, size);
	mmio_write16(common + VIRTIO_PCI_COMMON_Q_MSIX, NO_VECTOR);
	write_address(common + VIRTIO_PCI_COMMON_Q_DESCLO, queue->ring.desc);
	write_address(common + VIRTIO_PCI_COMMON_Q_AVAILLO, queue->ring.avail);
	write_address(common + VIRTIO_PCI_COMMON_Q_USEDLO, queue->ring.used);
	queue->notify = device->notify +
			(uintptr_t)mmio_read16(common +
					       VIRTIO_PCI_COMMON_Q_NOFF) *
				device->notify_multiplier;
	mmio_write16(common + VIRTIO_PCI_COMMON_Q_ENABLE, 1);
	return NULL;
}

void virtio_go(struct virtio_pci_device *device)
{
	add_status(device, VIRTIO_CONFIG_S_DRIVER_OK);
}

bool virtio_config_changed(struct virtio_pci_device *device)
{
	device->isr_reads++;
	return mmio_read8(device->isr) & ISR_CONFIG;
}

uint32_t virtio_config_read(struct virtio_pci_device *device, uint32_t offset)
{
	device->config_reads++;
	return mmio_read32(device->config + offset);
}

void virtio_config_write(struct virtio_pci_device *device, uint32_t offset,
			 uint32_t value)
{
	device->config_writes++;
	mmio_write32(device->config + offset, value);
}

void virtio_kick(struct virtio_pci_device *device, struct virtio_queue *queue)
{
	if (!vring_driver_needs_kick(&queue->ring))
		return;
	device->kicks++;
	mmio_write16(queue->notify, queue->index);
}
