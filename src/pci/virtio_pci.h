/* SPDX-License-Identifier: MIT */
/*
 * virtio over PCI, modern transport (VIRTIO 1.3 section 4.1), interrupts by
 * MSI-X only. The caller holds one lock around every call.
 */
#ifndef PCI_VIRTIO_PCI_H
#define PCI_VIRTIO_PCI_H

#include "pci/pci.h"
#include "virtio/device.h"

#define VIRTIO_PCI_VECTORS 16

struct virtio_pci_ops {
	/* Deliver an MSI. */
	void (*signal)(void *owner, uint64_t address, uint32_t data);
	/* Queue q is kicked by 2-byte writes at @address + q * 4; 0: nowhere */
	void (*notify_moved)(void *owner, uint64_t address);
	/* The driver gave the bus, or took it: without it the device must not
	 * touch memory, its rings included. */
	void (*bus_changed)(void *owner, bool given);
};

struct msix_entry {
	uint64_t address;
	uint32_t data, control;
};

/* Registers of the transport beside those of the virtio device. */
struct virtio_pci_registers {
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select;
	uint8_t isr;
	uint32_t pending; /* MSI-X pending bits */
	struct msix_entry msix[VIRTIO_PCI_VECTORS];
};

struct virtio_pci {
	struct pci_device pci; /* first member */
	struct virtio_device *device;
	struct virtio_pci_registers registers;
	uint8_t initial[PCI_CONFIG_SIZE];
	unsigned int msix_cap, pci_cfg_cap;
	const struct virtio_pci_ops *ops;
	void *owner;
};

/**
 * virtio_pci_init() - Put a virtio device behind PCI
 * @bars:	64 KiB of address space that a reset leaves the BARs in
 * @class_code:	PCI class, 24 bits
 */
void virtio_pci_init(struct virtio_pci *pci, struct virtio_device *device,
		     uint32_t class_code, uint32_t bars,
		     const struct virtio_pci_ops *ops, void *owner);

/* Machine reset: registers and configuration space as at power-on. */
void virtio_pci_reset(struct virtio_pci *pci);

/* The device's reset: what the transport keeps for it goes back. */
void virtio_pci_device_reset(struct virtio_pci *pci);

/* Interrupt the driver for a queue, or for a configuration change. */
void virtio_pci_queue_interrupt(struct virtio_pci *pci, uint16_t queue);
void virtio_pci_config_interrupt(struct virtio_pci *pci);

/* After a move: raise every vector in use once, since an interrupt may have
 * been on its way when the state was saved. */
void virtio_pci_interrupt_all(struct virtio_pci *pci);

#endif
