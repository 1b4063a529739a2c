// SPDX-License-Identifier: MIT
/* An ELF kernel that carries a PVH entry note. */
#include <elf.h>
#include <string.h>

#include "base/checked.h"
#include "x86/boot.h"
#include "x86/layout.h"

#define NOTE_PHYS32_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
#define START_INFO_MAGIC 0x336ec578
#define MAX_HEADERS 64
#define SELECTOR_CODE 0x08
#define SELECTOR_DATA 0x10

/* Layouts of Xen's public start_info.h, version 1. */
struct pvh_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modules, command_line, rsdp, memory_map;
	uint32_t memory_map_entries, reserved;
};

struct pvh_module {
	uint64_t start, size, command_line, reserved;
};

struct pvh_memory_range {
	uint64_t start, size;
	uint32_t type, reserved;
};

_Static_assert(sizeof(struct pvh_start_info) == 56, "start info");
_Static_assert(sizeof(struct pvh_module) == 32, "module entry");
_Static_assert(sizeof(struct pvh_memory_range) == 24, "memory map entry");

#define MODULES_AT (X86_PVH_INFO + 0x100)
#define MAP_AT (X86_PVH_INFO + 0x200)

bool x86_is_elf(const struct boot_file *kernel)
{
	Elf64_Ehdr header;

	if (kernel->size < sizeof(header))
		return false;
	memcpy(&header, kernel->data, sizeof(header));
	return !memcmp(header.e_ident, ELFMAG, SELFMAG) &&
	       header.e_ident[EI_CLASS] == ELFCLASS64 &&
	       header.e_machine == EM_X86_64 &&
	       header.e_phentsize == sizeof(Elf64_Phdr);
}

static int bad_elf(const struct boot_source *source, const char *what,
		   struct error *err)
{
	return error_set(err, "%s is not a usable ELF kernel: %s",
			 source->kernel.path, what);
}

/* Looks through one note segment. Return: the entry, or 0 */
static uint32_t note_entry(const uint8_t *notes, uint64_t size)
{
	Elf64_Nhdr note;
	uint64_t at = 0, name, body;

	while (size - at >= sizeof(note)) {
		memcpy(&note, notes + at, sizeof(note));
		name = (note.n_namesz + 3ull) & ~3ull;
		body = (note.n_descsz + 3ull) & ~3ull;
		at += sizeof(note);
		if (name > size - at || body > size - at - name)
			return 0;
		if (note.n_type == NOTE_PHYS32_ENTRY && note.n_namesz == 4 &&
		    !memcmp(notes + at, "Xen", 4) && note.n_descsz >= 4) {
			uint32_t entry;

			memcpy(&entry, notes + at + name, sizeof(entry));
			return entry;
		}
		at += name + body;
	}
	return 0;
}

static int load_segment(struct guest_memory *memory,
			const struct boot_source *source, const Elf64_Phdr *ph,
			struct error *err)
{
	struct gpa at = { ph->p_paddr };
	uint8_t *to;

	if (ph->p_filesz > ph->p_memsz ||
	    !checked_within(ph->p_offset, ph->p_filesz, source->kernel.size))
		return bad_elf(source, "a segment lies outside the file", err);
	to = guest_memory_span(memory, at, ph->p_memsz);
	if (!to)
		return bad_elf(source, "a segment does not fit into memory, "
			       "try more --memory", err);
	memcpy(to, source->kernel.data + ph->p_offset, ph->p_filesz);
	/* Fresh memory is zero already; touching it would populate it. */
	if (ph->p_memsz > ph->p_filesz) {
		uint8_t *rest = to + ph->p_filesz;
		uint64_t i, left = ph->p_memsz - ph->p_filesz;

		for (i = 0; i < left; i++)
			if (rest[i])
				rest[i] = 0;
	}
	guest_memory_mark_dirty(memory, at, ph->p_memsz);
	return 0;
}

static int load_elf(struct guest_memory *memory,
		    const struct boot_source *source, uint64_t *end,
		    uint32_t *entry, struct error *err)
{
	const struct boot_file *file = &source->kernel;
	Elf64_Ehdr header;
	unsigned int i;

	memcpy(&header, file->data, sizeof(header));
	if (header.e_phnum > MAX_HEADERS ||
	    !checked_within(header.e_phoff,
			    header.e_phnum * sizeof(Elf64_Phdr), file->size))
		return bad_elf(source, "its program headers lie outside the "
			       "file", err);
	*end = 0;
	*entry = 0;
	for (i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, file->data + header.e_phoff + i * sizeof(ph),
		       sizeof(ph));
		if (ph.p_type == PT_LOAD && ph.p_memsz) {
			if (load_segment(memory, source, &ph, err) < 0)
				return -1;
			if (ph.p_paddr + ph.p_memsz > *end)
				*end = ph.p_paddr + ph.p_memsz;
		} else if (ph.p_type == PT_NOTE && !*entry &&
			   checked_within(ph.p_offset, ph.p_filesz,
					  file->size)) {
			*entry = note_entry(file->data + ph.p_offset,
					    ph.p_filesz);
		}
	}
	return *entry ? 0 : bad_elf(source, "no PVH entry note", err);
}

static int write_info(struct guest_memory *memory,
		      const struct boot_source *source,
		      struct pvh_module module)
{
	struct x86_memory_range range[X86_MEMORY_RANGES];
	struct pvh_memory_range map[X86_MEMORY_RANGES] = { 0 };
	unsigned int i, count = x86_memory_map(memory, range);
	struct pvh_start_info info = {
		.magic = START_INFO_MAGIC,
		.version = 1,
		.nr_modules = module.size ? 1 : 0,
		.modules = module.size ? MODULES_AT : 0,
		.command_line = X86_COMMAND_LINE,
		.rsdp = X86_ACPI,
		.memory_map = MAP_AT,
		.memory_map_entries = count,
	};

	for (i = 0; i < count; i++) {
		map[i].start = range[i].start;
		map[i].size = range[i].size;
		map[i].type = range[i].type;
	}
	if (x86_boot_write(memory, X86_PVH_INFO, &info, sizeof(info)) < 0 ||
	    x86_boot_write(memory, MODULES_AT, &module, sizeof(module)) < 0 ||
	    x86_boot_write(memory, MAP_AT, map, sizeof(map)) < 0)
		return -1;
	return x86_boot_write(memory, X86_COMMAND_LINE, source->command_line,
			      strlen(source->command_line) + 1);
}

int x86_load_pvh(struct guest_memory *memory, const struct boot_source *source,
		 struct vcpu_start *start, struct error *err)
{
	struct pvh_module module = { .size = source->initrd.size };
	uint64_t end = 0;
	uint32_t entry = 0;

	if (load_elf(memory, source, &end, &entry, err) < 0)
		return -1;
	if (module.size) {
		module.start = x86_boot_place_initrd(memory, module.size, end,
						     UINT32_MAX);
		if (!module.start ||
		    x86_boot_write(memory, module.start, source->initrd.data,
				   module.size) < 0)
			return error_set(err, "initrd %s does not fit into "
					 "the guest's memory beside the "
					 "kernel: give it more --memory",
					 source->initrd.path);
	}
	if (write_info(memory, source, module) < 0)
		return error_set(err, "boot data does not fit into memory");
	start->rip = entry;
	start->rbx = X86_PVH_INFO;
	start->code = SELECTOR_CODE;
	start->data = SELECTOR_DATA;
	return 0;
}
