// SPDX-License-Identifier: MIT
/* A PCI bus of one segment and one bus number. */
#include <linux/pci_regs.h>
#include <string.h>

#include "base/checked.h"
#include "base/endian.h"
#include "pci/pci.h"

#define PORT_ADDRESS 0xcf8
#define PORT_DATA 0xcfc
#define ADDRESS_ENABLE 0x80000000u

void pci_device_init(struct pci_device *device, uint16_t vendor, uint16_t id,
		     uint8_t revision, uint32_t class_code,
		     const struct pci_device_ops *ops)
{
	memset(device, 0, sizeof(*device));
	device->ops = ops;
	le16_store(device->config + PCI_VENDOR_ID, vendor);
	le16_store(device->config + PCI_DEVICE_ID, id);
	le32_store(device->config + PCI_CLASS_REVISION,
		   class_code << 8 | revision);
	le16_store(device->writable + PCI_COMMAND,
		   PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
			   PCI_COMMAND_INTX_DISABLE);
	device->writable[PCI_INTERRUPT_LINE] = 0xff;
	device->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	device->capabilities_end = PCI_STD_HEADER_SIZEOF;
}

void pci_device_add_bar(struct pci_device *device, unsigned int bar,
			uint32_t size, uint32_t address)
{
	unsigned int at = PCI_BASE_ADDRESS_0 + 4 * bar;

	device->bar_size[bar] = size;
	le32_store(device->config + at, address);
	le32_store(device->writable + at, ~(size - 1));
}

unsigned int pci_device_add_capability(struct pci_device *device, uint8_t id,
				       unsigned int length)
{
	unsigned int at = device->capabilities_end;

	device->config[at] = id;
	device->config[at + 1] = device->config[PCI_CAPABILITY_LIST];
	device->config[PCI_CAPABILITY_LIST] = at;
	device->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	device->capabilities_end += (length + 3) & ~3u;
	return at;
}

void pci_device_decode(struct pci_device *device)
{
	bool on = device->config[PCI_COMMAND] & PCI_COMMAND_MEMORY;
	bool master = device->config[PCI_COMMAND] & PCI_COMMAND_MASTER;
	unsigned int bar;

	if (master != device->master) {
		device->master = master;
		device->ops->master_changed(device, master);
	}

	for (bar = 0; bar < PCI_DEVICE_BARS; bar++) {
		unsigned int at = PCI_BASE_ADDRESS_0 + 4 * bar;
		uint64_t address = le32_load(device->config + at) &
				   PCI_BASE_ADDRESS_MEM_MASK;

		if (!device->bar_size[bar])
			continue;
		/* All ones is a driver asking for the size. */
		if (!on || (uint32_t)address == -device->bar_size[bar])
			address = 0;
		if (address == device->bar_at[bar])
			continue;
		device->bar_at[bar] = address;
		device->ops->bar_moved(device, bar, address);
	}
}

void pci_device_reset(struct pci_device *device, const uint8_t *initial)
{
	memcpy(device->config, initial, PCI_CONFIG_SIZE);
	if (device->ops)
		pci_device_decode(device);
}

static void config_write(struct pci_device *device, unsigned int offset,
			 const uint8_t *from, unsigned int length)
{
	unsigned int i;

	for (i = 0; i < length; i++) {
		uint8_t mask = device->writable[offset + i];

		device->config[offset + i] =
			(device->config[offset + i] & ~mask) | (from[i] & mask);
	}
	if (!device->ops)
		return;
	pci_device_decode(device);
	device->ops->config_written(device, offset, length);
}

/* The device and register that the latch selects. */
static struct pci_device *selected(const struct pci_bus *bus, uint16_t port,
				   unsigned int length, unsigned int *offset)
{
	unsigned int slot = bus->address >> 11 & 0x1f;

	/* Bus 0, function 0 only. */
	if (!(bus->address & ADDRESS_ENABLE) || (bus->address & 0xff0700) ||
	    slot >= PCI_BUS_DEVICES)
		return NULL;
	*offset = (bus->address & 0xfc) + (port - PORT_DATA);
	if ((*offset & 3) + length > 4)
		return NULL;
	return bus->device[slot];
}

void pci_bus_port_read(struct pci_bus *bus, uint16_t port, void *data,
		       unsigned int length)
{
	struct pci_device *device;
	unsigned int offset;

	memset(data, 0xff, length);
	if (port < PORT_DATA) {
		if (port == PORT_ADDRESS && length == 4)
			le32_store(data, bus->address);
		return;
	}
	device = selected(bus, port, length, &offset);
	if (!device)
		return;
	if (device->ops)
		device->ops->config_reading(device, offset, length);
	memcpy(data, device->config + offset, length);
}

void pci_bus_port_write(struct pci_bus *bus, uint16_t port, const void *data,
			unsigned int length)
{
	struct pci_device *device;
	unsigned int offset;

	if (port < PORT_DATA) {
		if (port == PORT_ADDRESS && length == 4)
			bus->address = le32_load(data);
		return;
	}
	device = selected(bus, port, length, &offset);
	if (device)
		config_write(device, offset, data, length);
}

static struct pci_device *find_bar(const struct pci_bus *bus, uint64_t address,
				   unsigned int length, unsigned int *bar)
{
	unsigned int slot;

	for (slot = 0; slot < PCI_BUS_DEVICES; slot++) {
		struct pci_device *device = bus->device[slot];

		for (*bar = 0; device && *bar < PCI_DEVICE_BARS; ++*bar) {
			uint64_t at = device->bar_at[*bar];

			if (at && address >= at &&
			    checked_within(address - at, length,
					   device->bar_size[*bar]))
				return device;
		}
	}
	return NULL;
}

bool pci_bus_mmio_read(struct pci_bus *bus, uint64_t address, void *data,
		       unsigned int length)
{
	unsigned int bar;
	struct pci_device *device = find_bar(bus, address, length, &bar);

	memset(data, 0xff, length);
	if (!device)
		return false;
	device->ops->bar_read(device, bar, address - device->bar_at[bar], data,
			      length);
	return true;
}

bool pci_bus_mmio_write(struct pci_bus *bus, uint64_t address,
			const void *data, unsigned int length)
{
	unsigned int bar;
	struct pci_device *device = find_bar(bus, address, length, &bar);

	if (!device)
		return false;
	device->ops->bar_write(device, bar, address - device->bar_at[bar],
			       data, length);
	return true;
}
