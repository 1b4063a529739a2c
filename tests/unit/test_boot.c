// SPDX-License-Identifier: MIT
/*
 * Kernels into guest memory: what a good one finds there, and files that are
 * no kernel or lie about themselves. The file is a user's: it may fail, with
 * one line, and may break nothing.
 */
#include "unit.h"

#include <asm/bootparam.h>
#include <elf.h>

#include "x86/acpi.h"
#include "x86/boot.h"
#include "x86/layout.h"

#define MiB 0x100000ull
#define MEMORY (24 * MiB)
#define FILE_MAX (8 * MiB)

static struct guest_memory memory;
static uint8_t *file;
static struct boot_source source;
static struct vcpu_start start;
static struct error err;

static int setup_of(uint64_t size)
{
	memset(&memory, 0, sizeof(memory));
	memory_add(&memory, 0, size);
	memory_finish(&memory);
	file = zeroed(FILE_MAX);
	source = (struct boot_source){
		.kernel = { "kernel", file, 0 },
		.initrd = { "initrd", NULL, 0 },
		.command_line = "console=ttyS0",
	};
	memset(&err, 0, sizeof(err));
	return 0;
}

static int setup(void **state)
{
	return setup_of(MEMORY);
}

/* Enough for ELF, and quickly made. */
static int setup_small(void **state)
{
	return setup_of(2 * MiB);
}

static int teardown(void **state)
{
	memory_delete(&memory);
	free(file);
	return 0;
}

/* The file is where it ends: the sanitizer sees a read behind it. */
static int load(void)
{
	uint8_t *exact = malloc(source.kernel.size ? source.kernel.size : 1);
	int rc;

	assert_non_null(exact);
	memcpy(exact, file, source.kernel.size);
	source.kernel.data = exact;
	memset(&err, 0, sizeof(err));
	rc = x86_boot_load(&memory, &source, &start, &err);
	free(exact);
	source.kernel.data = file;
	return rc;
}

static void refused(const char *why)
{
	assert_int_equal(load(), -1);
	if (!strstr(err.message, why))
		print_error("%s\n", err.message);
	assert_non_null(strstr(err.message, why));
	assert_null(strchr(err.message, '\n'));
}

/* ------------------------------------------------------------- bzImage --- */

#define SECTS 2
#define CODE_BYTES 0x3000

static struct setup_header *header(void)
{
	return (struct setup_header *)(file + 0x1f1);
}

static void make_bzimage(void)
{
	struct setup_header h = {
		.setup_sects = SECTS,
		.boot_flag = 0xaa55,
		.header = 0x53726448,
		.version = 0x20f,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = X86_KERNEL,
		.init_size = 0x100000,
	};

	memset(file, 0, 65536);
	memcpy(header(), &h, sizeof(h));
	memset(file + (SECTS + 1) * 512, 0xcc, CODE_BYTES);
	source.kernel.size = (SECTS + 1) * 512 + CODE_BYTES;
}

static void test_bzimage(void **state)
{
	const struct boot_params *params;
	const uint64_t *gdt, *table;
	static const uint8_t initrd[5000] = { 1, 2, 3 };
	uint64_t at, total = 0;
	unsigned int i;

	make_bzimage();
	source.initrd = (struct boot_file){ "initrd", initrd, sizeof(initrd) };
	assert_int_equal(load(), 0);
	assert_int_equal(*(uint8_t *)ram(&memory, X86_KERNEL, 1), 0xcc);
	assert_int_equal(*(uint8_t *)ram(&memory, X86_KERNEL + CODE_BYTES - 1,
					 1), 0xcc);
	assert_int_equal(*(uint8_t *)ram(&memory, X86_KERNEL + CODE_BYTES,
					 1), 0);
	assert_int_equal(start.rip, X86_KERNEL + 0x200);
	assert_int_equal(start.rsi, X86_BOOT_PARAMS);
	assert_true(start.long_mode);

	params = ram(&memory, X86_BOOT_PARAMS, sizeof(*params));
	assert_int_equal(params->hdr.cmd_line_ptr, X86_COMMAND_LINE);
	assert_int_equal(params->hdr.type_of_loader, 0xff);
	assert_true(params->hdr.loadflags & LOADED_HIGH);
	assert_int_equal(params->acpi_rsdp_addr, X86_ACPI);
	assert_string_equal(ram(&memory, X86_COMMAND_LINE, 14),
			    "console=ttyS0");
	/* The initrd lies highest, on a page of its own. */
	at = params->hdr.ramdisk_image;
	assert_int_equal(at, MEMORY - 8192);
	assert_int_equal(params->hdr.ramdisk_size, sizeof(initrd));
	assert_memory_equal(ram(&memory, at, 5000), initrd, 5000);
	/* The memory map ascends, and holds all RAM but the low corner. */
	for (i = 0; i < params->e820_entries; i++) {
		if (i)
			assert_true(params->e820_table[i].addr >=
				    params->e820_table[i - 1].addr +
					    params->e820_table[i - 1].size);
		if (params->e820_table[i].type == 1)
			total += params->e820_table[i].size;
	}
	assert_int_equal(total, MEMORY - MiB + X86_LOW_RAM_END);

	/* One to one, 4 GiB, present and writable. */
	table = ram(&memory, X86_PAGE_TABLES, 6 * 4096);
	assert_int_equal(table[0], (X86_PAGE_TABLES + 0x1000) | 3);
	for (i = 0; i < 4; i++)
		assert_int_equal(table[512 + i],
				 (X86_PAGE_TABLES + 0x2000 + i * 0x1000) | 3);
	for (i = 0; i < 4 * 512; i++)
		assert_int_equal(table[1024 + i],
				 (uint64_t)i << 21 | 0x83);
	gdt = ram(&memory, start.gdt, start.gdt_size);
	assert_int_equal(gdt[start.code / 8] >> 40 & 0xff, 0x9b);
	assert_int_equal(gdt[start.data / 8] >> 40 & 0xff, 0x93);
	assert_true(gdt[start.code / 8] >> 53 & 1); /* 64-bit */

	/* A reboot during a migration: every byte of it is marked. */
	assert_true(marked(&memory, X86_KERNEL, CODE_BYTES));
	assert_true(marked(&memory, at, sizeof(initrd)));
	assert_true(marked(&memory, X86_BOOT_PARAMS, sizeof(*params)));
	assert_true(marked(&memory, X86_PAGE_TABLES, 6 * 4096));
	assert_true(marked(&memory, X86_GDT, 32));
	assert_true(marked(&memory, X86_COMMAND_LINE, 14));
	assert_true(marked(&memory, X86_RESET_VECTOR, 9));
}

static void test_bzimage_of_other_shapes(void **state)
{
	/* No sectors given means four. */
	make_bzimage();
	header()->setup_sects = 0;
	memset(file + 3 * 512, 0, 65536 - 3 * 512);
	memset(file + 5 * 512, 0xab, 0x400);
	source.kernel.size = 5 * 512 + 0x400;
	assert_int_equal(load(), 0);
	assert_int_equal(*(uint8_t *)ram(&memory, X86_KERNEL, 1), 0xab);

	/* It wants to lie higher; and, not to be moved, lower. */
	make_bzimage();
	header()->pref_address = X86_KERNEL + 2 * MiB;
	assert_int_equal(load(), 0);
	assert_int_equal(start.rip, X86_KERNEL + 2 * MiB + 0x200);
	make_bzimage();
	header()->relocatable_kernel = 0;
	header()->pref_address = MiB;
	assert_int_equal(load(), 0);
	assert_int_equal(start.rip, MiB + 0x200);

	/* As much as it needs, to the byte. */
	make_bzimage();
	header()->init_size = MEMORY - X86_KERNEL;
	assert_int_equal(load(), 0);
}

static void test_bzimage_that_lies(void **state)
{
	make_bzimage();
	header()->boot_flag = 0;
	refused("neither");
	make_bzimage();
	header()->header = 0;
	refused("neither");
	make_bzimage();
	source.kernel.size = 0x1f1 + sizeof(struct setup_header) - 1;
	refused("neither");
	source.kernel.size = 0;
	refused("neither");

	make_bzimage();
	header()->version = 0x20b;
	refused("boot protocol 2.11");
	make_bzimage();
	header()->xloadflags = 0;
	refused("without a 64-bit entry");

	/* Nothing behind the setup, or not as far as the entry. */
	make_bzimage();
	header()->setup_sects = 255;
	refused("cut short");
	make_bzimage();
	source.kernel.size = (SECTS + 1) * 512 + 0x200;
	refused("cut short");

	make_bzimage();
	header()->init_size = MEMORY - X86_KERNEL + 1;
	refused("more --memory");
	make_bzimage();
	header()->init_size = UINT32_MAX;
	refused("more --memory");
	make_bzimage();
	header()->pref_address = MEMORY;
	refused("more --memory");
	make_bzimage();
	header()->pref_address = UINT64_MAX;
	refused("more --memory");
	make_bzimage(); /* the sum is small */
	header()->pref_address = UINT64_MAX - 0xfff;
	header()->init_size = 0x100000;
	refused("more --memory");
	make_bzimage();
	header()->pref_address = MEMORY - 0x1000;
	header()->init_size = 0;
	refused("more --memory");
}

static void test_command_lines(void **state)
{
	char line[4096];

	make_bzimage();
	memset(line, 'c', sizeof(line));
	source.command_line = line;
	line[X86_COMMAND_LINE_MAX - 1] = '\0';
	assert_int_equal(load(), 0);
	assert_string_equal(ram(&memory, X86_COMMAND_LINE, 2048), line);
	line[X86_COMMAND_LINE_MAX - 1] = 'c';
	line[X86_COMMAND_LINE_MAX] = '\0';
	refused("command line of 2048 bytes");
	source.command_line = "";
	assert_int_equal(load(), 0);
	assert_string_equal(ram(&memory, X86_COMMAND_LINE, 1), "");
	/* What this kernel takes. */
	header()->cmdline_size = 10;
	source.command_line = "0123456789";
	assert_int_equal(load(), 0);
	source.command_line = "0123456789a";
	refused("longer than the 10 bytes");
}

static void test_initrds(void **state)
{
	uint8_t *data = zeroed(FILE_MAX);

	make_bzimage();
	source.initrd = (struct boot_file){ "initrd", data, 7 * MiB };
	assert_int_equal(load(), 0);
	source.initrd.size = 7 * MiB + 1;
	refused("initrd initrd (7 MiB) does not fit");
	source.initrd.size = SIZE_MAX;
	refused("does not fit");
	/* As high as the kernel reads. */
	source.initrd.size = 4096;
	header()->initrd_addr_max = X86_KERNEL + 2 * MiB - 1;
	assert_int_equal(load(), 0);
	assert_int_equal(((struct boot_params *)ram(&memory, X86_BOOT_PARAMS,
						    4096))->hdr.ramdisk_image,
			 X86_KERNEL + 2 * MiB - 4096);
	header()->initrd_addr_max = X86_KERNEL;
	refused("does not fit");
	header()->initrd_addr_max = 0;
	refused("does not fit");
	header()->initrd_addr_max = UINT32_MAX;
	assert_int_equal(load(), 0);
	free(data);
}

static void test_place_of_an_initrd(void **state)
{
	static const struct {
		size_t size;
		uint64_t above, limit, at;
	} table[] = {
		{ 4096, 0, UINT64_MAX, MEMORY - 4096 },
		{ 1, 0, UINT64_MAX, MEMORY - 4096 },
		{ 4097, 0, UINT64_MAX, MEMORY - 8192 },
		{ 1, 0, MEMORY - 1, MEMORY - 4096 },
		{ 1, 0, MEMORY - 4096, MEMORY - 8192 },
		{ MEMORY - MiB, MiB, UINT64_MAX, MiB },
		{ MEMORY - MiB, MiB + 1, UINT64_MAX, 0 },
		{ MEMORY + 1, 0, UINT64_MAX, 0 },
		{ SIZE_MAX, 0, UINT64_MAX, 0 },
		{ 1, UINT64_MAX, UINT64_MAX, 0 },
		{ 1, 0, 0, 0 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++)
		assert_int_equal(x86_boot_place_initrd(&memory, table[i].size,
						       table[i].above,
						       table[i].limit),
				 table[i].at);
}

static void test_memory_map(void **state)
{
	struct x86_memory_range range[X86_MEMORY_RANGES];
	struct guest_memory two = { .regions = 0 };
	struct memory_region low = { { 0 }, 3072 * MiB, file };
	struct memory_region high = { { 4096 * MiB }, 5120 * MiB, file };

	assert_int_equal(guest_memory_add_region(&two, low), 0);
	assert_int_equal(guest_memory_add_region(&two, high), 0);
	assert_int_equal(x86_memory_map(&two, range), 4);
	assert_int_equal(range[1].type, 2);
	assert_int_equal(range[2].start, MiB);
	assert_int_equal(range[2].size, 3071 * MiB);
	assert_int_equal(range[3].start, 4096 * MiB);
	assert_int_equal(range[3].size, 5120 * MiB);
	assert_int_equal(range[3].type, 1);
}

static void test_writes_outside_ram(void **state)
{
	assert_int_equal(x86_boot_write(&memory, MEMORY - 1, "ab", 2), -1);
	assert_int_equal(x86_boot_write(&memory, MEMORY, "a", 1), -1);
	assert_int_equal(x86_boot_write(&memory, UINT64_MAX, "ab", 2), -1);
	assert_int_equal(x86_boot_write(&memory, UINT64_MAX, "", 0), 0);
	assert_int_equal(x86_boot_write(&memory, MEMORY - 2, "ab", 2), 0);
	assert_true(marked(&memory, MEMORY - 2, 2));
}

static void test_random_bzimages(void **state)
{
	struct rng rng = rng_start("random bzImages");
	unsigned int i, n, fine = 0;

	for (i = 0; i < 2000; i++) {
		make_bzimage();
		for (n = 1 + rng_below(&rng, 3); n; n--)
			file[0x1f1 + rng_below(&rng, sizeof(*header()))] =
				rng_chance(&rng, 1, 2) ? rng_next(&rng) : 0xff;
		if (rng_chance(&rng, 1, 4))
			source.kernel.size = rng_below(&rng,
						       source.kernel.size);
		if (load() == 0)
			fine++;
		else
			assert_true(err.message[0]);
	}
	printf("# %u of %u could be loaded\n", fine, i);
}

/* ----------------------------------------------------------------- ELF --- */

#define ELF_PHDRS 3
#define NOTES_AT 0x200
#define CODE_AT 0x400
#define ENTRY 0x100040u

static Elf64_Ehdr *ehdr(void)
{
	return (Elf64_Ehdr *)file;
}

static Elf64_Phdr *phdr(unsigned int i)
{
	return (Elf64_Phdr *)(file + sizeof(Elf64_Ehdr)) + i;
}

/* Return: bytes of the note */
static size_t put_note(size_t at, const char *name, uint32_t type,
		       uint32_t value)
{
	Elf64_Nhdr note = { strlen(name) + 1, 4, type };
	size_t name_room = (note.n_namesz + 3) & ~3u;

	memcpy(file + at, &note, sizeof(note));
	memcpy(file + at + sizeof(note), name, note.n_namesz);
	memcpy(file + at + sizeof(note) + name_room, &value, 4);
	return sizeof(note) + name_room + 4;
}

/* Two segments and a note segment with the entry as its last note. */
static void make_elf(void)
{
	size_t notes = NOTES_AT;

	memset(file, 0, 0x2000);
	memcpy(ehdr()->e_ident, ELFMAG, SELFMAG);
	ehdr()->e_ident[EI_CLASS] = ELFCLASS64;
	ehdr()->e_machine = EM_X86_64;
	ehdr()->e_phoff = sizeof(Elf64_Ehdr);
	ehdr()->e_phentsize = sizeof(Elf64_Phdr);
	ehdr()->e_phnum = ELF_PHDRS;
	*phdr(0) = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_offset = CODE_AT, .p_paddr = MiB,
		.p_filesz = 0x800, .p_memsz = 0x2000,
	};
	*phdr(1) = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_offset = CODE_AT + 0x800,
		.p_paddr = MiB + 0x4000, .p_filesz = 0x400, .p_memsz = 0x400,
	};
	notes += put_note(notes, "GNU", 3, 77);
	notes += put_note(notes, "Xen", 6, 88);
	notes += put_note(notes, "Xen", 18, ENTRY);
	*phdr(2) = (Elf64_Phdr){
		.p_type = PT_NOTE, .p_offset = NOTES_AT,
		.p_filesz = notes - NOTES_AT,
	};
	memset(file + CODE_AT, 0xee, 0xc00);
	source.kernel.size = CODE_AT + 0xc00;
}

static void test_elf(void **state)
{
	static const uint8_t initrd[100] = { 9, 8, 7 };
	const uint32_t *info;
	const uint64_t *wide, *module, *map;
	uint64_t i, total = 0;

	make_elf();
	/* What a reboot finds where the bss goes. */
	memset(ram(&memory, MiB, 0x4000), 0x55, 0x4000);
	source.initrd = (struct boot_file){ "initrd", initrd, sizeof(initrd) };
	assert_int_equal(load(), 0);
	assert_int_equal(start.rip, ENTRY);
	assert_int_equal(start.rbx, X86_PVH_INFO);
	assert_false(start.long_mode);
	assert_int_equal(*(uint8_t *)ram(&memory, MiB + 0x7ff, 1), 0xee);
	for (i = 0x800; i < 0x2000; i++)
		assert_int_equal(*(uint8_t *)ram(&memory, MiB + i, 1), 0);
	assert_int_equal(*(uint8_t *)ram(&memory, MiB + 0x2000, 1), 0x55);
	assert_int_equal(*(uint8_t *)ram(&memory, MiB + 0x4000, 1), 0xee);
	assert_true(marked(&memory, MiB, 0x2000));

	info = ram(&memory, X86_PVH_INFO, 56);
	wide = (const uint64_t *)info;
	assert_int_equal(info[0], 0x336ec578);
	assert_int_equal(info[1], 1);
	assert_int_equal(info[3], 1);
	assert_string_equal(ram(&memory, wide[3], 14), "console=ttyS0");
	assert_int_equal(wide[4], X86_ACPI);
	module = ram(&memory, wide[2], 32);
	assert_memory_equal(ram(&memory, module[0], 100), initrd, 100);
	assert_int_equal(module[1], 100);
	map = ram(&memory, wide[5], info[12] * 24);
	for (i = 0; i < info[12]; i++)
		if ((uint32_t)map[i * 3 + 2] == 1)
			total += map[i * 3 + 1];
	assert_int_equal(total, MiB + X86_LOW_RAM_END);
	assert_true(marked(&memory, X86_PVH_INFO, 0x300));

	source.initrd.size = 0;
	assert_int_equal(load(), 0);
	assert_int_equal(info[3], 0);
	assert_int_equal(wide[2], 0);
	source.initrd.size = 2 * MiB;
	refused("initrd initrd does not fit");
}

static void test_elf_of_another_kind(void **state)
{
	make_elf();
	ehdr()->e_ident[EI_CLASS] = ELFCLASS32;
	refused("neither");
	make_elf();
	ehdr()->e_machine = EM_AARCH64;
	refused("neither");
	make_elf();
	ehdr()->e_phentsize = 32;
	refused("neither");
	make_elf();
	source.kernel.size = sizeof(Elf64_Ehdr) - 1;
	refused("neither");
	make_elf();
	source.kernel.size = 3;
	refused("neither");
}

static void test_elf_with_bad_program_headers(void **state)
{
	make_elf();
	ehdr()->e_phoff = source.kernel.size - 3 * 56 + 1;
	refused("program headers lie outside");
	make_elf();
	ehdr()->e_phoff = UINT64_MAX;
	refused("program headers lie outside");
	make_elf();
	ehdr()->e_phnum = 65535;
	refused("program headers lie outside");
	make_elf();
	ehdr()->e_phnum = 0;
	refused("no PVH entry");
	/* Segments out of the file. */
	make_elf();
	phdr(0)->p_offset = source.kernel.size;
	refused("outside the file");
	make_elf();
	phdr(0)->p_offset = UINT64_MAX;
	refused("outside the file");
	make_elf();
	phdr(0)->p_filesz = phdr(0)->p_memsz = UINT64_MAX;
	refused("outside the file");
	make_elf();
	phdr(0)->p_filesz = phdr(0)->p_memsz + 1;
	refused("outside the file");
	/* Out of memory. */
	make_elf();
	phdr(0)->p_paddr = 2 * MiB - 0x1fff;
	refused("does not fit into memory");
	make_elf();
	phdr(0)->p_paddr = UINT64_MAX;
	refused("does not fit into memory");
	make_elf();
	phdr(0)->p_memsz = UINT64_MAX;
	refused("does not fit into memory");
	make_elf();
	phdr(0)->p_memsz = UINT64_MAX - MiB + 1; /* ends at 0 */
	refused("does not fit into memory");
	/* An empty one is none. */
	make_elf();
	phdr(1)->p_filesz = phdr(1)->p_memsz = 0;
	assert_int_equal(load(), 0);
}

static void test_elf_with_bad_notes(void **state)
{
	Elf64_Nhdr *note = (Elf64_Nhdr *)(file + NOTES_AT);

	make_elf();
	phdr(2)->p_type = PT_NULL;
	refused("no PVH entry");
	make_elf();
	phdr(2)->p_offset = source.kernel.size - 1;
	refused("no PVH entry");
	make_elf();
	phdr(2)->p_filesz = UINT64_MAX;
	refused("no PVH entry");
	make_elf();
	phdr(2)->p_filesz -= 1;
	refused("no PVH entry");
	make_elf();
	phdr(2)->p_filesz = 11;
	refused("no PVH entry");
	/* Lengths that lead away. */
	make_elf();
	note->n_namesz = UINT32_MAX;
	refused("no PVH entry");
	make_elf();
	note->n_descsz = UINT32_MAX;
	refused("no PVH entry");
	make_elf();
	note->n_namesz = note->n_descsz = 0xfffffffd;
	refused("no PVH entry");
	/* Another's note of that number; too short for an entry; entry 0. */
	make_elf();
	put_note(NOTES_AT + 40, "Xem", 18, ENTRY);
	refused("no PVH entry");
	make_elf();
	((Elf64_Nhdr *)(file + NOTES_AT + 40))->n_descsz = 3;
	refused("no PVH entry");
	make_elf();
	put_note(NOTES_AT + 40, "Xen", 18, 0);
	refused("no PVH entry");
	/* 64 bits of it: the low half counts. */
	make_elf();
	((Elf64_Nhdr *)(file + NOTES_AT + 40))->n_descsz = 8;
	phdr(2)->p_filesz += 4;
	assert_int_equal(load(), 0);
	assert_int_equal(start.rip, ENTRY);
}

static void test_random_elfs(void **state)
{
	struct rng rng = rng_start("random ELFs");
	unsigned int i, n, fine = 0;

	for (i = 0; i < 2000; i++) {
		make_elf();
		for (n = 1 + rng_below(&rng, 3); n; n--) {
			size_t at = rng_chance(&rng, 2, 3) ?
				sizeof(Elf64_Ehdr) + rng_below(&rng, 3 * 56) :
				rng_below(&rng, 0x240);

			file[at] = rng_chance(&rng, 1, 2) ? rng_next(&rng) :
							    0xff;
		}
		if (rng_chance(&rng, 1, 4))
			source.kernel.size = rng_below(&rng,
						       source.kernel.size);
		if (load() == 0)
			fine++;
		else
			assert_true(err.message[0]);
	}
	printf("# %u of %u could be loaded\n", fine, i);
}

/* ---------------------------------------------------------------- ACPI --- */

static bool sums_to_zero(const uint8_t *at, size_t length)
{
	uint8_t sum = 0;

	while (length--)
		sum += *at++;
	return !sum;
}

/* A table by its address, checked. Return: its length */
static uint32_t table_at(uint64_t at, const char *signature)
{
	const uint8_t *table = ram(&memory, at, 36);
	uint32_t length;

	assert_memory_equal(table, signature, 4);
	memcpy(&length, table + 4, 4);
	assert_true(length >= 36 && at + length <= X86_RESET_VECTOR);
	assert_true(sums_to_zero(ram(&memory, at, length), length));
	assert_true(marked(&memory, at, length));
	return length;
}

static uint64_t u64_at(uint64_t at)
{
	uint64_t v;

	memcpy(&v, ram(&memory, at, 8), 8);
	return v;
}

static uint32_t u32_at(uint64_t at)
{
	return (uint32_t)u64_at(at);
}

static void check_madt(uint64_t at, unsigned int cpus)
{
	uint64_t end = at + table_at(at, "APIC"), entry = at + 44;
	unsigned int found = 0, ioapics = 0;

	assert_int_equal(u32_at(at + 36), X86_LAPIC);
	assert_int_equal(u32_at(at + 40), 0); /* no 8259 */
	while (entry < end) {
		const uint8_t *e = ram(&memory, entry, 2);

		if (e[0] == 0) {
			assert_int_equal(e[1], 8);
			assert_int_equal(e[2], found);
			assert_int_equal(e[3], found++);
			assert_int_equal(u32_at(entry + 4), 1);
		} else {
			assert_int_equal(e[0], 1);
			assert_int_equal(e[1], 12);
			assert_int_equal(u32_at(entry + 4), X86_IOAPIC);
			assert_int_equal(u32_at(entry + 8), 0);
			ioapics++;
		}
		entry += e[1];
	}
	assert_int_equal(entry, end);
	assert_int_equal(found, cpus);
	assert_int_equal(ioapics, 1);
}

/* A generic address: a byte at a port. */
static void check_port(uint64_t at, uint16_t port)
{
	assert_memory_equal(ram(&memory, at, 4), "\x01\x08\x00\x01", 4);
	assert_int_equal(u64_at(at + 4), port);
}

static void check_fadt(uint64_t at)
{
	uint64_t dsdt = u64_at(at + 140);

	assert_int_equal(table_at(at, "FACP"), 276);
	assert_int_equal(table_at(dsdt, "DSDT") >= 100, 1);
	/* Either the 32-bit pointer is 0 or both are the same. */
	if (u32_at(at + 40))
		assert_int_equal(u32_at(at + 40), dsdt);
	/* Hardware-reduced, with a reset register. */
	assert_true(u32_at(at + 112) & 1u << 20);
	assert_true(u32_at(at + 112) & 1u << 10);
	check_port(at + 116, X86_RESET);
	assert_int_equal(*(uint8_t *)ram(&memory, at + 128, 1),
			 X86_RESET_VALUE);
	check_port(at + 244, X86_SLEEP_CONTROL);
	check_port(at + 256, X86_SLEEP_STATUS);
}

static void test_acpi(void **state)
{
	static const unsigned int cpus[] = { 1, 2, KVM_VM_MAX_CPUS };
	const uint8_t *rsdp;
	uint64_t xsdt;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cpus); i++) {
		assert_int_equal(x86_acpi_write(&memory, cpus[i], &err), 0);
		rsdp = ram(&memory, X86_ACPI, 36);
		assert_memory_equal(rsdp, "RSD PTR ", 8);
		assert_int_equal(rsdp[15], 2);
		assert_true(sums_to_zero(rsdp, 20));
		assert_true(sums_to_zero(rsdp, 36));
		assert_int_equal(u32_at(X86_ACPI + 20), 36);
		xsdt = u64_at(X86_ACPI + 24);
		assert_int_equal(table_at(xsdt, "XSDT"), 36 + 2 * 8);
		check_fadt(u64_at(xsdt + 36));
		check_madt(u64_at(xsdt + 44), cpus[i]);
	}
}

/* No table lies on another. */
static void test_acpi_tables_are_apart(void **state)
{
	uint64_t at[5], end[5], xsdt;
	unsigned int i, j;

	assert_int_equal(x86_acpi_write(&memory, KVM_VM_MAX_CPUS, &err), 0);
	xsdt = u64_at(X86_ACPI + 24);
	at[0] = X86_ACPI;
	end[0] = X86_ACPI + 36;
	at[1] = xsdt;
	at[2] = u64_at(xsdt + 36);
	at[3] = u64_at(xsdt + 44);
	at[4] = u64_at(at[2] + 140);
	for (i = 1; i < 5; i++)
		end[i] = at[i] + u32_at(at[i] + 4);
	for (i = 0; i < 5; i++)
		for (j = 0; j < i; j++)
			assert_true(end[i] <= at[j] || end[j] <= at[i]);
}

static void test_acpi_without_memory(void **state)
{
	struct guest_memory none = { .regions = 0 };

	assert_int_equal(x86_acpi_write(&none, 1, &err), -1);
	assert_non_null(strstr(err.message, "ACPI"));
	source.kernel.size = 0;
	assert_int_equal(x86_boot_load(&none, &source, &start, &err), -1);
	assert_non_null(strstr(err.message, "reset vector"));
}

#define TEST(name, with) cmocka_unit_test_setup_teardown(name, with, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_bzimage, setup),
		TEST(test_bzimage_of_other_shapes, setup),
		TEST(test_bzimage_that_lies, setup),
		TEST(test_command_lines, setup),
		TEST(test_initrds, setup),
		TEST(test_place_of_an_initrd, setup),
		TEST(test_memory_map, setup_small),
		TEST(test_writes_outside_ram, setup),
		TEST(test_random_bzimages, setup),
		TEST(test_elf, setup_small),
		TEST(test_elf_of_another_kind, setup_small),
		TEST(test_elf_with_bad_program_headers, setup_small),
		TEST(test_elf_with_bad_notes, setup_small),
		TEST(test_random_elfs, setup_small),
		TEST(test_acpi, setup_small),
		TEST(test_acpi_tables_are_apart, setup_small),
		TEST(test_acpi_without_memory, setup_small),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
