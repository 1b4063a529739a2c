/* SPDX-License-Identifier: MIT */
/* Where things lie in the guest's address space and on its ports. */
#ifndef X86_LAYOUT_H
#define X86_LAYOUT_H

/* Low memory that the boot protocols fill; the first page stays empty. */
#define X86_GDT 0x500
#define X86_BOOT_PARAMS 0x7000	  /* "zero page" of the Linux protocol */
#define X86_PAGE_TABLES 0x9000	  /* PML4, PDPT, four PDs: 4 GiB identity */
#define X86_PVH_INFO 0x6000	  /* start info, memory map, module list */
#define X86_COMMAND_LINE 0x20000
#define X86_COMMAND_LINE_MAX 2048
#define X86_LOW_RAM_END 0x9fc00
#define X86_ACPI 0xe0000	  /* RSDP and the tables behind it */
#define X86_ACPI_END 0x100000
#define X86_RESET_VECTOR 0xffff0 /* where a CPU begins in real mode */
#define X86_HIGH_RAM 0x100000
#define X86_KERNEL 0x1000000	  /* a relocatable kernel's usual place */

/* Fixed places above low RAM. */
#define X86_PCI_WINDOW 0xc0000000u
#define X86_PCI_WINDOW_END 0xfebfffffu
#define X86_IOAPIC 0xfec00000u
#define X86_LAPIC 0xfee00000u

/* Ports. */
#define X86_COM1 0x3f8
#define X86_COM1_IRQ 4
#define X86_SLEEP_CONTROL 0x600
#define X86_SLEEP_STATUS 0x601
#define X86_RESET 0x602
#define X86_RESET_VALUE 0x01
#define X86_SLEEP_S5 5	/* SLP_TYP in _S5 */

#endif
