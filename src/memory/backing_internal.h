/* SPDX-License-Identifier: MIT */
/* Inside backing: for backing.c and populated.c. */
#ifndef MEMORY_BACKING_INTERNAL_H
#define MEMORY_BACKING_INTERNAL_H

#include <sys/types.h>

#include "memory/guest_memory.h"

/* Where a byte of guest memory, at @host here, lies in the file. */
off_t backing_file_offset(const struct guest_memory *memory, const void *host);

#endif
