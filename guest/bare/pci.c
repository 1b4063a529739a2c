// SPDX-License-Identifier: MIT
/* PCI by configuration mechanism 1, bus 0. */
#include "pci.h"

#include <linux/pci_regs.h>

#include "machine.h"
#include "x86/layout.h"

#define PORT_ADDRESS 0xcf8
#define PORT_DATA 0xcfc
#define ADDRESS_ENABLE 0x80000000u
#define SLOTS 32
#define FIRST_PLACE (X86_PCI_WINDOW + 0x100000)

uint32_t pci_read32(unsigned int slot, unsigned int offset)
{
	out32(PORT_ADDRESS, ADDRESS_ENABLE | slot << 11 | (offset & 0xfc));
	return in32(PORT_DATA);
}

uint16_t pci_read16(unsigned int slot, unsigned int offset)
{
	return (uint16_t)(pci_read32(slot, offset) >> (offset & 2) * 8);
}

uint8_t pci_read8(unsigned int slot, unsigned int offset)
{
	return (uint8_t)(pci_read32(slot, offset) >> (offset & 3) * 8);
}

void pci_write32(unsigned int slot, unsigned int offset, uint32_t value)
{
	out32(PORT_ADDRESS, ADDRESS_ENABLE | slot << 11 | (offset & 0xfc));
	out32(PORT_DATA, value);
}

int pci_find(uint16_t vendor, uint16_t device)
{
	uint32_t wanted = (uint32_t)device << 16 | vendor;
	unsigned int slot;

	for (slot = 0; slot < SLOTS; slot++)
		if (pci_read32(slot, PCI_VENDOR_ID) == wanted)
			return (int)slot;
	return -1;
}

void pci_enable(unsigned int slot)
{
	/* The status half is cleared by ones: write none. */
	pci_write32(slot, PCI_COMMAND,
		    pci_read16(slot, PCI_COMMAND) | PCI_COMMAND_MEMORY |
			    PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
}

static uintptr_t place(unsigned int slot, unsigned int at, bool wide)
{
	static uint32_t next = FIRST_PLACE;
	uint32_t size, address;

	pci_write32(slot, at, UINT32_MAX);
	size = -(pci_read32(slot, at) & (uint32_t)PCI_BASE_ADDRESS_MEM_MASK);
	address = (next + size - 1) & -size;
	next = address + size;
	pci_write32(slot, at, address);
	if (wide)
		pci_write32(slot, at + 4, 0);
	return address;
}

uintptr_t pci_bar(unsigned int slot, unsigned int bar)
{
	unsigned int at = PCI_BASE_ADDRESS_0 + 4 * bar;
	uint32_t value = pci_read32(slot, at);
	bool wide = (value & PCI_BASE_ADDRESS_MEM_TYPE_MASK) ==
		    PCI_BASE_ADDRESS_MEM_TYPE_64;
	uint32_t address = value & (uint32_t)PCI_BASE_ADDRESS_MEM_MASK;

	if (!address || (wide && pci_read32(slot, at + 4)))
		return place(slot, at, wide);
	return address;
}
