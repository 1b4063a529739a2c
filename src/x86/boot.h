/* SPDX-License-Identifier: MIT */
/*
 * Putting a kernel into guest memory: Linux's bzImage by the 64-bit boot
 * protocol (Documentation/arch/x86/boot.rst), ELF by PVH
 * (xen/include/public/arch-x86/hvm/start_info.h).
 *
 * All writes are marked dirty, since a reboot may come during a migration.
 */
#ifndef X86_BOOT_H
#define X86_BOOT_H

#include <stddef.h>

#include "base/error.h"
#include "kvm/vcpu.h"
#include "memory/guest_memory.h"

/* A file in memory, mapped read-only. */
struct boot_file {
	const char *path; /* for messages */
	const uint8_t *data;
	size_t size; /* 0: none */
};

struct boot_source {
	struct boot_file kernel, initrd;
	const char *command_line;
};

/**
 * x86_boot_load() - Write kernel, initrd, command line and boot data
 * @start:	filled: the first CPU's registers
 *
 * Return: 0, or -1 with @err when the kernel is of no known kind or something
 * does not fit
 */
int x86_boot_load(struct guest_memory *memory, const struct boot_source *source,
		  struct vcpu_start *start, struct error *err);

/* The two protocols; x86_boot_load() picks by the file's first bytes. */
bool x86_is_bzimage(const struct boot_file *kernel);
int x86_load_bzimage(struct guest_memory *memory,
		     const struct boot_source *source, struct vcpu_start *start,
		     struct error *err);
bool x86_is_elf(const struct boot_file *kernel);
int x86_load_pvh(struct guest_memory *memory, const struct boot_source *source,
		 struct vcpu_start *start, struct error *err);

/* Copy into RAM and mark it dirty. Return: 0, or -1 when it is not all RAM */
int x86_boot_write(struct guest_memory *memory, uint64_t address,
		   const void *from, uint64_t length);

/* A free place for the initrd: page aligned, as high as can be below
 * BACKING_LOW_LIMIT and @limit, above @above. Return: 0 when there is none */
uint64_t x86_boot_place_initrd(const struct guest_memory *memory, size_t size,
			       uint64_t above, uint64_t limit);

/* The memory map of the guest as {start, size, type} with E820 types. */
struct x86_memory_range {
	uint64_t start, size;
	uint32_t type;
};
#define X86_MEMORY_RANGES 8
unsigned int x86_memory_map(const struct guest_memory *memory,
			    struct x86_memory_range *range);

#endif
