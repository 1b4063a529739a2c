/* SPDX-License-Identifier: MIT */
/*
 * A PCI bus of one segment and one bus number: configuration mechanism #1
 * (ports 0xcf8 and 0xcfc) and memory BARs. The caller holds one lock around
 * every call.
 */
#ifndef PCI_PCI_H
#define PCI_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_CONFIG_SIZE 256
#define PCI_BUS_DEVICES 8
#define PCI_DEVICE_BARS 2

struct pci_device;

struct pci_device_ops {
	/* A BAR is decoded at @address now, or no longer (0). */
	void (*bar_moved)(struct pci_device *device, unsigned int bar,
			  uint64_t address);
	/* It may read and write memory from now on, or no longer. */
	void (*master_changed)(struct pci_device *device, bool on);
	void (*bar_read)(struct pci_device *device, unsigned int bar,
			 uint64_t offset, void *to, unsigned int length);
	void (*bar_write)(struct pci_device *device, unsigned int bar,
			  uint64_t offset, const void *from,
			  unsigned int length);
	/* Configuration bytes [offset, offset + length) were written. */
	void (*config_written)(struct pci_device *device, unsigned int offset,
			       unsigned int length);
	/* They are about to be read: bring them up to date. */
	void (*config_reading)(struct pci_device *device, unsigned int offset,
			       unsigned int length);
};

struct pci_device {
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t writable[PCI_CONFIG_SIZE]; /* which bits software may write */
	uint32_t bar_size[PCI_DEVICE_BARS]; /* power of two, 0: no such BAR */
	uint64_t bar_at[PCI_DEVICE_BARS];   /* where decoded, 0: not */
	bool master; /* as the command register says */
	uint8_t capabilities_end;
	const struct pci_device_ops *ops; /* NULL: nothing but configuration */
};

struct pci_bus {
	uint32_t address;			   /* the 0xcf8 latch */
	struct pci_device *device[PCI_BUS_DEVICES]; /* by slot; not owned */
};

/* Set the identification of a device whose other bytes are zero. */
void pci_device_init(struct pci_device *device, uint16_t vendor, uint16_t id,
		     uint8_t revision, uint32_t class_code,
		     const struct pci_device_ops *ops);

/* A 32-bit memory BAR that a reset leaves at @address. */
void pci_device_add_bar(struct pci_device *device, unsigned int bar,
			uint32_t size, uint32_t address);

/* Append a capability of @length bytes (id and next pointer included).
 * Return: its offset */
unsigned int pci_device_add_capability(struct pci_device *device, uint8_t id,
				       unsigned int length);

/* What a guest's reset of the machine does to configuration space. */
void pci_device_reset(struct pci_device *device, const uint8_t *initial);

/* Decode anew what the command register and the BARs say (after a load). */
void pci_device_decode(struct pci_device *device);

/* Ports 0xcf8 to 0xcff. @data: @length (1, 2 or 4) bytes */
void pci_bus_port_read(struct pci_bus *bus, uint16_t port, void *data,
		       unsigned int length);
void pci_bus_port_write(struct pci_bus *bus, uint16_t port, const void *data,
			unsigned int length);

/* Return: false when no BAR covers the access */
bool pci_bus_mmio_read(struct pci_bus *bus, uint64_t address, void *data,
		       unsigned int length);
bool pci_bus_mmio_write(struct pci_bus *bus, uint64_t address,
			const void *data, unsigned int length);

#endif
