/* SPDX-License-Identifier: MIT */
/* What the boot protocol hands over (Xen's public start_info.h, version 1). */
#ifndef BARE_PVH_H
#define BARE_PVH_H

#include <stdint.h>

#define PVH_MAGIC 0x336ec578
#define PVH_RAM 1

struct pvh_memory_range {
	uint64_t start, size;
	uint32_t type, reserved;
};

struct pvh_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modules, command_line, rsdp, memory_map;
	uint32_t memory_map_entries, reserved;
};

#endif
