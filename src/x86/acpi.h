/* SPDX-License-Identifier: MIT */
/* ACPI tables, hardware-reduced profile (ACPI 6.5 sections 4.1 and 5.2). */
#ifndef X86_ACPI_H
#define X86_ACPI_H

#include "base/error.h"
#include "memory/guest_memory.h"

/* Write RSDP, XSDT, FADT, MADT and DSDT at X86_ACPI.
 * Return: 0, or -1 with @err */
int x86_acpi_write(struct guest_memory *memory, unsigned int cpus,
		   struct error *err);

#endif
