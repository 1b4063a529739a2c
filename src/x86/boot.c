// SPDX-License-Identifier: MIT
/* What both boot protocols share. */
#include <asm/bootparam.h>
#include <linux/elf.h>
#include <string.h>

#include "memory/backing.h"
#include "x86/boot.h"
#include "x86/layout.h"

#ifndef E820_RAM
#define E820_RAM 1
#define E820_RESERVED 2
#endif

int x86_boot_write(struct guest_memory *memory, uint64_t address,
		   const void *from, uint64_t length)
{
	struct gpa start = { address };
	void *to;

	if (!length)
		return 0;
	to = guest_memory_span(memory, start, length);
	if (!to)
		return -1;
	memcpy(to, from, length);
	guest_memory_mark_dirty(memory, start, length);
	return 0;
}

unsigned int x86_memory_map(const struct guest_memory *memory,
			    struct x86_memory_range *range)
{
	unsigned int i, count = 0;

	range[count++] = (struct x86_memory_range){ 0, X86_LOW_RAM_END,
						    E820_RAM };
	range[count++] = (struct x86_memory_range){
		X86_ACPI, X86_ACPI_END - X86_ACPI, E820_RESERVED
	};
	for (i = 0; i < memory->regions; i++) {
		uint64_t start = memory->region[i].start.value;
		uint64_t size = memory->region[i].size;
		uint64_t skip = start < X86_HIGH_RAM ? X86_HIGH_RAM - start : 0;

		range[count++] = (struct x86_memory_range){
			start + skip, size - skip, E820_RAM
		};
	}
	return count;
}

uint64_t x86_boot_place_initrd(const struct guest_memory *memory, size_t size,
			       uint64_t above, uint64_t limit)
{
	uint64_t end = memory->region[0].size, at;

	if (end > limit)
		end = limit;
	if (end < size)
		return 0;
	at = (end - size) & ~(GUEST_PAGE_SIZE - 1);
	return at >= above ? at : 0;
}

/*
 * A kernel on hardware-reduced ACPI without EFI restarts as under a BIOS: it
 * jumps to the reset vector in real mode (Linux prefers that to the reset
 * register, arch/x86/kernel/reboot.c). What it finds there writes the register.
 */
static int write_reset_vector(struct guest_memory *memory)
{
	static const uint8_t code[] = {
		0xba, X86_RESET & 0xff, X86_RESET >> 8, /* mov dx, port */
		0xb0, X86_RESET_VALUE,			/* mov al, value */
		0xee,					/* out dx, al */
		0xf4,					/* hlt */
		0xeb, 0xfd,				/* jmp to the hlt */
	};

	return x86_boot_write(memory, X86_RESET_VECTOR, code, sizeof(code));
}

int x86_boot_load(struct guest_memory *memory, const struct boot_source *source,
		  struct vcpu_start *start, struct error *err)
{
	size_t length = strlen(source->command_line);

	if (length >= X86_COMMAND_LINE_MAX)
		return error_set(err, "command line of %zu bytes: at most %d "
				 "fit", length, X86_COMMAND_LINE_MAX - 1);
	memset(start, 0, sizeof(*start));
	if (write_reset_vector(memory) < 0)
		return error_set(err, "no memory at the reset vector");
	if (x86_is_bzimage(&source->kernel))
		return x86_load_bzimage(memory, source, start, err);
	if (x86_is_elf(&source->kernel))
		return x86_load_pvh(memory, source, start, err);
	return error_set(err, "%s is neither a Linux bzImage nor an x86 ELF "
			 "kernel", source->kernel.path);
}
