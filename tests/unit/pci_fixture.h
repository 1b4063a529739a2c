/* SPDX-License-Identifier: MIT */
/*
 * A bus with a bridge and a virtio device, a machine around them that writes
 * down what comes out, and the accesses of a driver.
 */
#ifndef PCI_FIXTURE_H
#define PCI_FIXTURE_H

#include "unit.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>

#include "base/endian.h"
#include "pci/virtio_pci.h"

#define BARS 0xe0000000u
#define MSIX_BAR (BARS + 0x8000)
#define SLOT 3
#define QUEUES 5
#define QUEUE_SIZE 128
#define ISR 0x1000u
#define DEVICE 0x2000u
#define NOTIFY 0x3000u
#define PBA 0x800u
#define VERSION_1 (1ull << VIRTIO_F_VERSION_1)
#define OFFERED (VERSION_1 | 0x5)

static struct pci_bus bus;
static struct pci_device bridge;
static struct virtio_device device;
static struct virtio_pci pci;

/* What came out. */
static unsigned int signals, kicks, moves, status_changes;
static bool bus_given;
static uint64_t signal_address, notify_at;
static uint32_t signal_data;
static uint16_t kicked;
static uint8_t config[64];

static inline bool accepts(void *owner, uint64_t features)
{
	return true;
}

static inline void status_changed(void *owner)
{
	status_changes++;
}

static inline void config_read(void *owner, uint32_t offset, void *to,
			       uint32_t length)
{
	uint32_t i;

	assert_in_range(length, 1, 7);
	for (i = 0; i < length; i++)
		((uint8_t *)to)[i] = offset + i < sizeof(config) ?
					     config[offset + i] : 0;
}

static inline void config_write(void *owner, uint32_t offset, const void *from,
				uint32_t length)
{
	uint32_t i;

	for (i = 0; i < length; i++)
		if (offset + i < sizeof(config))
			config[offset + i] = ((const uint8_t *)from)[i];
}

static inline void kick(void *owner, uint16_t queue)
{
	assert_true(queue < QUEUES);
	kicked = queue;
	kicks++;
}

static const struct virtio_device_ops device_ops = {
	.accepts = accepts,
	.status_changed = status_changed,
	.config_read = config_read,
	.config_write = config_write,
	.kick = kick,
};

static inline void on_signal(void *owner, uint64_t address, uint32_t data)
{
	signals++;
	signal_address = address;
	signal_data = data;
}

static inline void on_notify_moved(void *owner, uint64_t address)
{
	moves++;
	notify_at = address;
}

static inline void on_bus_changed(void *owner, bool given)
{
	assert_int_not_equal(given, bus_given);
	bus_given = given;
}

static const struct virtio_pci_ops pci_ops = {
	.signal = on_signal,
	.notify_moved = on_notify_moved,
	.bus_changed = on_bus_changed,
};

static inline int pci_setup(void **state)
{
	signals = kicks = moves = status_changes = 0;
	bus_given = false;
	notify_at = 0;
	memset(config, 0, sizeof(config));
	memset(&bus, 0, sizeof(bus));
	virtio_device_init(&device, 5, OFFERED, QUEUES, QUEUE_SIZE,
			   &device_ops, NULL);
	virtio_pci_init(&pci, &device, 0x058000, BARS, &pci_ops, NULL);
	pci_device_init(&bridge, 0x8086, 0x1234, 0, 0x060000, NULL);
	bus.device[0] = &bridge;
	bus.device[SLOT] = &pci.pci;
	return 0;
}

/* ------------------------------------------------- what a driver does --- */

static inline void port_write(uint16_t port, uint32_t value,
			      unsigned int length)
{
	uint8_t bytes[4];

	le32_store(bytes, value);
	pci_bus_port_write(&bus, port, bytes, length);
}

static inline uint32_t port_read(uint16_t port, unsigned int length)
{
	uint8_t bytes[4] = { 0 };

	pci_bus_port_read(&bus, port, bytes, length);
	return le32_load(bytes);
}

static inline void select_register(unsigned int slot, unsigned int at)
{
	port_write(0xcf8, 0x80000000u | slot << 11 | (at & 0xfc), 4);
}

static inline uint32_t cfg_read(unsigned int at, unsigned int length)
{
	select_register(SLOT, at);
	return port_read(0xcfc + (at & 3), length);
}

static inline void cfg_write(unsigned int at, uint32_t value,
			     unsigned int length)
{
	select_register(SLOT, at);
	port_write(0xcfc + (at & 3), value, length);
}

static inline uint64_t mmio_read(uint64_t address, unsigned int length)
{
	uint8_t bytes[8] = { 0 };

	pci_bus_mmio_read(&bus, address, bytes, length);
	return le64_load(bytes);
}

static inline void mmio_write(uint64_t address, uint64_t value,
			      unsigned int length)
{
	uint8_t bytes[8];

	le64_store(bytes, value);
	pci_bus_mmio_write(&bus, address, bytes, length);
}

static inline uint32_t common(unsigned int at, unsigned int length)
{
	return mmio_read(BARS + at, length);
}

static inline void common_set(unsigned int at, uint32_t value,
			      unsigned int length)
{
	mmio_write(BARS + at, value, length);
}

static inline void msix_set(unsigned int vector, uint64_t address,
			    uint32_t data, bool masked)
{
	uint64_t at = MSIX_BAR + vector * 16;

	mmio_write(at, address, 4);
	mmio_write(at + 4, address >> 32, 4);
	mmio_write(at + 8, data, 4);
	mmio_write(at + 12, masked, 4);
}

/* As a driver does, which has the device signal. */
static inline void msix_enable(uint16_t flags)
{
	cfg_write(PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	cfg_write(pci.msix_cap + PCI_MSIX_FLAGS, flags, 2);
}

#define TEST(name) cmocka_unit_test_setup(name, pci_setup)

#endif
