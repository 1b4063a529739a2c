/* SPDX-License-Identifier: MIT */
/* What a machine is made of: from the command line, or from a stream. */
#ifndef MACHINE_CONFIG_H
#define MACHINE_CONFIG_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "balloon/balloon.h"
#include "base/buffer.h"
#include "base/error.h"

#define MACHINE_NAME_MAX 64
#define MACHINE_COMMAND_LINE_MAX 2048

/* A file the guest boots from, by path and content. */
struct machine_file {
	char path[PATH_MAX]; /* "" for none */
	uint64_t hash;	     /* XXH3, 0 until it was read */
};

struct machine_config {
	char name[MACHINE_NAME_MAX];
	uint64_t memory; /* bytes */
	uint32_t backing; /* enum backing_kind; BACKING_KINDS for an incoming
			     guest: what it had */
	uint32_t cpus;
	struct machine_file kernel, initrd;
	char command_line[MACHINE_COMMAND_LINE_MAX];
	bool balloon; /* there is one */
	struct balloon_options balloon_options;
	bool balloon_populate; /* what the guest takes back on request */
	uint64_t balloon_target; /* bytes the guest keeps; 0: all of it */
};

/* The record CONFIG of docs/spec/stream.md. Return (load): 0, or -1 with
 * @err when it is cut short or holds a value that cannot be */
void machine_config_save(const struct machine_config *config,
			 struct buffer *to);
int machine_config_load(struct machine_config *config,
			struct buffer_reader *from, struct error *err);

/* May a guest be told to keep @bytes of its @memory? Less than 16 MiB leaves
 * Linux nothing to run in. Return: 0, or -1 with @err */
int machine_balloon_check(uint64_t memory, uint64_t bytes, struct error *err);

/* Pages the balloon shall hold for a guest that keeps @bytes. */
uint32_t machine_balloon_pages(uint64_t memory, uint64_t bytes);

/**
 * machine_file_map() - Map a boot file and know its content
 * @file:	its hash is checked where it is not 0
 * @hash:	filled: what it is; 0 where there is no file
 * @data:	filled: read-only mapping, to be unmapped by the caller; NULL
 *		where there is no file
 *
 * Return: 0, or -1 with @err
 */
int machine_file_map(const struct machine_file *file, uint64_t *hash,
		     const uint8_t **data, size_t *size, struct error *err);

#endif
