/* SPDX-License-Identifier: MIT */
/* PCI by configuration mechanism 1, bus 0. */
#ifndef BARE_PCI_H
#define BARE_PCI_H

#include <stdbool.h>
#include <stdint.h>

uint32_t pci_read32(unsigned int slot, unsigned int offset);
uint16_t pci_read16(unsigned int slot, unsigned int offset);
uint8_t pci_read8(unsigned int slot, unsigned int offset);
void pci_write32(unsigned int slot, unsigned int offset, uint32_t value);

/* Return: the slot of the first such device, or -1 */
int pci_find(uint16_t vendor, uint16_t device);

/* Let the device decode memory and be a bus master, interrupt no one. */
void pci_enable(unsigned int slot);

/* Where a BAR lies; it is given a place when it has none that is mapped. */
uintptr_t pci_bar(unsigned int slot, unsigned int bar);

#endif
