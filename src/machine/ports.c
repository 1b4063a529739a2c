// SPDX-License-Identifier: MIT
/* What a vCPU's exits reach: ports and memory-mapped registers. */
#include <string.h>

#include "base/cleanup.h"
#include "machine/machine.h"
#include "x86/layout.h"

#define PCI_PORTS 0xcf8
#define PCI_PORTS_END 0xd00
#define SLEEP_TYPE(v) ((v) >> 2 & 7)
#define SLEEP_ENABLE 0x20

static void power_port(struct machine *machine, uint16_t port, uint8_t value)
{
	if (port == X86_RESET && value == X86_RESET_VALUE)
		machine_post(machine, MACHINE_EVENT_RESET);
	if (port == X86_SLEEP_CONTROL && (value & SLEEP_ENABLE) &&
	    SLEEP_TYPE(value) == X86_SLEEP_S5)
		machine_post(machine, MACHINE_EVENT_POWEROFF);
}

void machine_port(struct machine *machine, uint16_t port, bool write,
		  uint8_t *data, unsigned int length)
{
	scoped_lock(&machine->device_lock);
	if (port >= X86_COM1 && port < X86_COM1 + 8) {
		if (write)
			serial_write(&machine->serial, port - X86_COM1,
				     *data);
		else
			*data = serial_read(&machine->serial, port - X86_COM1);
	} else if (port >= PCI_PORTS && port < PCI_PORTS_END) {
		if (write)
			pci_bus_port_write(&machine->pci, port, data, length);
		else
			pci_bus_port_read(&machine->pci, port, data, length);
	} else if (port >= X86_SLEEP_CONTROL && port <= X86_RESET) {
		if (write)
			power_port(machine, port, *data);
		else
			memset(data, 0, length);
	} else if (!write) {
		memset(data, 0xff, length);
	}
}

void machine_mmio(struct machine *machine, uint64_t address, bool write,
		  uint8_t *data, unsigned int length)
{
	scoped_lock(&machine->device_lock);
	if (write)
		pci_bus_mmio_write(&machine->pci, address, data, length);
	else
		pci_bus_mmio_read(&machine->pci, address, data, length);
}
