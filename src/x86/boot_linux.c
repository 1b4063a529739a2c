// SPDX-License-Identifier: MIT
/* Linux's bzImage by the 64-bit boot protocol. */
#include <asm/bootparam.h>
#include <string.h>

#include "x86/boot.h"
#include "x86/layout.h"

#define SETUP_HEADER 0x1f1 /* of the file, and of the zero page */
#define SETUP_MAGIC 0x53726448 /* "HdrS" */
#define SECTOR 512
#define ENTRY_64 0x200 /* into the protected-mode kernel */
#define MIN_VERSION 0x20c /* first with xloadflags */
#define LOADER_UNDEFINED 0xff

#define SELECTOR_CODE 0x10 /* as the protocol demands */
#define SELECTOR_DATA 0x18
#define GDT_ENTRIES 4
#define PTE_PRESENT_WRITE 3ull
#define PTE_HUGE (1ull << 7)

/* Copies the header out of the file: the file is a user's, not trusted. */
static bool read_header(const struct boot_file *kernel,
			struct setup_header *header)
{
	if (kernel->size < SETUP_HEADER + sizeof(*header))
		return false;
	memcpy(header, kernel->data + SETUP_HEADER, sizeof(*header));
	return header->boot_flag == 0xaa55 && header->header == SETUP_MAGIC;
}

bool x86_is_bzimage(const struct boot_file *kernel)
{
	struct setup_header header;

	return read_header(kernel, &header);
}

/* The first 4 GiB mapped one to one with 2 MiB pages. */
static int write_page_tables(struct guest_memory *memory)
{
	uint64_t table[512] = { 0 };
	uint64_t pdpt = X86_PAGE_TABLES + 0x1000, pd = X86_PAGE_TABLES + 0x2000;
	unsigned int i, j;

	table[0] = pdpt | PTE_PRESENT_WRITE;
	if (x86_boot_write(memory, X86_PAGE_TABLES, table, sizeof(table)) < 0)
		return -1;
	for (i = 0; i < 4; i++)
		table[i] = (pd + i * 0x1000) | PTE_PRESENT_WRITE;
	if (x86_boot_write(memory, pdpt, table, sizeof(table)) < 0)
		return -1;
	for (i = 0; i < 4; i++) {
		for (j = 0; j < 512; j++)
			table[j] = ((uint64_t)i << 30 | (uint64_t)j << 21) |
				   PTE_PRESENT_WRITE | PTE_HUGE;
		if (x86_boot_write(memory, pd + i * 0x1000, table,
				   sizeof(table)) < 0)
			return -1;
	}
	return 0;
}

static int write_gdt(struct guest_memory *memory)
{
	static const uint64_t gdt[GDT_ENTRIES] = {
		0, 0,
		0x00af9b000000ffffull, /* 64-bit code */
		0x00cf93000000ffffull, /* data */
	};

	return x86_boot_write(memory, X86_GDT, gdt, sizeof(gdt));
}

static void fill_memory_map(const struct guest_memory *memory,
			    struct boot_params *params)
{
	struct x86_memory_range range[X86_MEMORY_RANGES];
	unsigned int i, count = x86_memory_map(memory, range);

	params->e820_entries = count;
	for (i = 0; i < count; i++) {
		params->e820_table[i].addr = range[i].start;
		params->e820_table[i].size = range[i].size;
		params->e820_table[i].type = range[i].type;
	}
}

static int load_initrd(struct guest_memory *memory,
		       const struct boot_file *initrd, uint64_t above,
		       struct setup_header *header, struct error *err)
{
	uint64_t at;

	if (!initrd->size)
		return 0;
	at = x86_boot_place_initrd(memory, initrd->size, above,
				   (uint64_t)header->initrd_addr_max + 1);
	if (!at ||
	    x86_boot_write(memory, at, initrd->data, initrd->size) < 0)
		return error_set(err, "initrd %s (%zu MiB) does not fit into "
				 "the guest's memory beside the kernel: give "
				 "it more --memory", initrd->path,
				 initrd->size >> 20);
	header->ramdisk_image = at;
	header->ramdisk_size = initrd->size;
	return 0;
}

static int check_header(const struct boot_source *source,
			const struct setup_header *header, uint64_t *offset,
			struct error *err)
{
	const char *path = source->kernel.path;
	unsigned int sectors = header->setup_sects ? header->setup_sects : 4;

	if (header->version < MIN_VERSION ||
	    !(header->xloadflags & XLF_KERNEL_64))
		return error_set(err, "%s is a Linux kernel without a 64-bit "
				 "entry (boot protocol %u.%u)", path,
				 header->version >> 8, header->version & 0xff);
	*offset = (sectors + 1ull) * SECTOR;
	if (*offset + ENTRY_64 >= source->kernel.size)
		return error_set(err, "%s is cut short", path);
	if (strlen(source->command_line) > header->cmdline_size)
		return error_set(err, "command line is longer than the %u "
				 "bytes %s takes", header->cmdline_size, path);
	return 0;
}

/* Where the kernel goes, and the end of what it needs while it starts. */
static uint64_t kernel_place(const struct setup_header *header,
			     uint64_t file_size, uint64_t *end)
{
	uint64_t at = header->relocatable_kernel ? X86_KERNEL :
						   header->pref_address;

	if (header->pref_address > at)
		at = header->pref_address;
	*end = at + (header->init_size > file_size ? header->init_size :
						     file_size);
	return at;
}

int x86_load_bzimage(struct guest_memory *memory,
		     const struct boot_source *source, struct vcpu_start *start,
		     struct error *err)
{
	struct boot_params params = { 0 };
	uint64_t offset = 0, at, end;

	read_header(&source->kernel, &params.hdr);
	if (check_header(source, &params.hdr, &offset, err) < 0)
		return -1;
	at = kernel_place(&params.hdr, source->kernel.size - offset, &end);
	if (end > memory->region[0].size ||
	    x86_boot_write(memory, at, source->kernel.data + offset,
			   source->kernel.size - offset) < 0)
		return error_set(err, "%s needs %llu MiB to start: give it "
				 "more --memory", source->kernel.path,
				 (unsigned long long)(end >> 20) + 1);
	params.hdr.type_of_loader = LOADER_UNDEFINED;
	params.hdr.loadflags |= LOADED_HIGH;
	params.hdr.code32_start = at;
	params.hdr.cmd_line_ptr = X86_COMMAND_LINE;
	params.acpi_rsdp_addr = X86_ACPI;
	fill_memory_map(memory, &params);
	if (load_initrd(memory, &source->initrd, end, &params.hdr, err) < 0)
		return -1;
	if (x86_boot_write(memory, X86_BOOT_PARAMS, &params,
			   sizeof(params)) < 0 ||
	    x86_boot_write(memory, X86_COMMAND_LINE, source->command_line,
			   strlen(source->command_line) + 1) < 0 ||
	    write_page_tables(memory) < 0 || write_gdt(memory) < 0)
		return error_set(err, "boot data does not fit into memory");
	start->rip = at + ENTRY_64;
	start->rsi = X86_BOOT_PARAMS;
	start->long_mode = true;
	start->page_table = X86_PAGE_TABLES;
	start->gdt = X86_GDT;
	start->gdt_size = GDT_ENTRIES * sizeof(uint64_t);
	start->code = SELECTOR_CODE;
	start->data = SELECTOR_DATA;
	return 0;
}
