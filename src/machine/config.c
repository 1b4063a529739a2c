// SPDX-License-Identifier: MIT
/* What a machine is made of. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/cleanup.h"
#include "kvm/vm.h"
#include "machine/config.h"
#include "memory/backing.h"

#define BALLOON_LEAST (16ull << 20)

static void put_file(const struct machine_file *file, struct buffer *to)
{
	buffer_put_string(to, file->path);
	buffer_put_u64(to, file->hash);
}

static void get_file(struct machine_file *file, struct buffer_reader *from)
{
	buffer_get_string(from, file->path, sizeof(file->path));
	file->hash = buffer_get_u64(from);
}

/* Bits of CONFIG's word of what the balloon does: docs/spec/stream.md. */
enum {
	OFFER_HINTING = 1 << 0,
	OFFER_REPORTING = 1 << 1,
	OFFER_STATISTICS = 1 << 2,
	OFFER_POISON = 1 << 3,
	OFFER_DEFLATE_ON_OOM = 1 << 4,
	OFFER_MUST_TELL_HOST = 1 << 5,
	OFFER_PAGE_RANGES = 1 << 6,
	POPULATE = 1 << 7, /* no feature: the guest sees nothing of it */
	OFFER_KNOWN = (1 << 8) - 1,
};

static uint32_t features_of(const struct balloon_options *options)
{
	return (options->hinting ? OFFER_HINTING : 0) |
	       (options->reporting ? OFFER_REPORTING : 0) |
	       (options->statistics ? OFFER_STATISTICS : 0) |
	       (options->poison ? OFFER_POISON : 0) |
	       (options->deflate_on_oom ? OFFER_DEFLATE_ON_OOM : 0) |
	       (options->must_tell_host ? OFFER_MUST_TELL_HOST : 0) |
	       (options->page_ranges ? OFFER_PAGE_RANGES : 0);
}

static void set_features(struct balloon_options *options, uint32_t features)
{
	options->hinting = features & OFFER_HINTING;
	options->reporting = features & OFFER_REPORTING;
	options->statistics = features & OFFER_STATISTICS;
	options->poison = features & OFFER_POISON;
	options->deflate_on_oom = features & OFFER_DEFLATE_ON_OOM;
	options->must_tell_host = features & OFFER_MUST_TELL_HOST;
	options->page_ranges = features & OFFER_PAGE_RANGES;
}

void machine_config_save(const struct machine_config *config,
			 struct buffer *to)
{
	buffer_put_string(to, config->name);
	buffer_put_u64(to, config->memory);
	buffer_put_u32(to, config->cpus);
	put_file(&config->kernel, to);
	put_file(&config->initrd, to);
	buffer_put_string(to, config->command_line);
	buffer_put_u32(to, config->balloon);
	buffer_put_u32(to, features_of(&config->balloon_options) |
				   (config->balloon_populate ? POPULATE : 0));
	buffer_put_u32(to, config->balloon_options.numbering);
	buffer_put_string(to, config->balloon_options.protocol->name);
	buffer_put_u64(to, config->balloon_target);
	buffer_put_u32(to, config->backing);
}

/* A file is the guest's whatever the peer calls it: one that is read at a reset
 * must be the one it was booted from, or the peer had this host's files read.
 * Return: 0, or -1 with @err */
static int check_file(const struct machine_file *file, struct error *err)
{
	if (!file->path[0] == !file->hash)
		return 0;
	return error_set(err, "configuration in the stream names the file '%s' "
			 "%s", file->path,
			 file->hash ? "and a content" :
				      "without saying what is in it");
}

/* Return: 0, or -1 with @err, which names the value */
static int check(const struct machine_config *config, uint32_t balloon,
		 uint32_t features, struct error *err)
{
	if (config->cpus < 1 || config->cpus > KVM_VM_MAX_CPUS)
		return error_set(err, "configuration in the stream: %u CPUs, "
				 "but there can be 1 to %u", config->cpus,
				 KVM_VM_MAX_CPUS);
	if (config->memory < BACKING_MIN_SIZE ||
	    config->memory > BACKING_MAX_SIZE ||
	    config->memory % GUEST_PAGE_SIZE)
		return error_set(err, "configuration in the stream: %llu bytes "
				 "of memory, but it can be whole pages, %llu "
				 "MiB to %llu GiB",
				 (unsigned long long)config->memory,
				 (unsigned long long)BACKING_MIN_SIZE >> 20,
				 (unsigned long long)BACKING_MAX_SIZE >> 30);
	if (balloon > 1 || features & ~OFFER_KNOWN ||
	    config->balloon_options.numbering > BALLOON_NUMBERING_SPEC)
		return error_set(err, "configuration in the stream: a balloon "
				 "(%u) with options %#x and numbering %u, "
				 "which this version does not know", balloon,
				 features, config->balloon_options.numbering);
	if (config->backing >= BACKING_KINDS)
		return error_set(err, "configuration in the stream: memory of "
				 "kind %u, which this version does not know",
				 config->backing);
	if (check_file(&config->kernel, err) < 0)
		return -1;
	return check_file(&config->initrd, err);
}

int machine_config_load(struct machine_config *config,
			struct buffer_reader *from, struct error *err)
{
	struct balloon_options *options = &config->balloon_options;
	char protocol[32];
	uint32_t features, balloon;

	memset(config, 0, sizeof(*config));
	buffer_get_string(from, config->name, sizeof(config->name));
	config->memory = buffer_get_u64(from);
	config->cpus = buffer_get_u32(from);
	get_file(&config->kernel, from);
	get_file(&config->initrd, from);
	buffer_get_string(from, config->command_line,
			  sizeof(config->command_line));
	balloon = buffer_get_u32(from);
	config->balloon = balloon;
	features = buffer_get_u32(from);
	set_features(options, features);
	config->balloon_populate = features & POPULATE;
	options->numbering = buffer_get_u32(from);
	buffer_get_string(from, protocol, sizeof(protocol));
	config->balloon_target = buffer_get_u64(from);
	config->backing = buffer_get_u32(from);
	if (from->failed)
		return error_set(err, "configuration in the stream is cut "
				 "short or has a text that is too long");
	if (check(config, balloon, features, err) < 0)
		return -1;
	options->protocol = balloon_protocol_find(protocol);
	if (!options->protocol)
		return error_set(err, "the guest's balloon speaks the protocol "
				 "'%s', which this version does not know",
				 protocol);
	return 0;
}

int machine_balloon_check(uint64_t memory, uint64_t bytes, struct error *err)
{
	if (bytes >= BALLOON_LEAST && bytes <= memory)
		return 0;
	return error_set(err, "the guest cannot keep %llu bytes: it needs at "
			 "least %llu (16 MiB), and has %llu in all",
			 (unsigned long long)bytes, BALLOON_LEAST,
			 (unsigned long long)memory);
}

uint32_t machine_balloon_pages(uint64_t memory, uint64_t bytes)
{
	return bytes && bytes < memory ?
		       (memory - bytes) >> GUEST_PAGE_SHIFT : 0;
}

int machine_file_map(const struct machine_file *file, uint64_t *hash,
		     const uint8_t **data, size_t *size, struct error *err)
{
	cleanup_fd int fd = -1;
	struct stat info;
	void *map;

	*hash = 0;
	*data = NULL;
	*size = 0;
	if (!file->path[0])
		return 0;
	fd = open(file->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &info) < 0)
		return error_set_errno(err, errno, "cannot read %s",
				       file->path);
	if (!S_ISREG(info.st_mode) || !info.st_size)
		return error_set(err, "%s is %s", file->path,
				 S_ISREG(info.st_mode) ? "empty" :
							 "not a plain file");
	map = mmap(NULL, info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return error_set_errno(err, errno, "cannot map %s",
				       file->path);
	*hash = XXH3_64bits(map, info.st_size);
	if (file->hash && file->hash != *hash) {
		munmap(map, info.st_size);
		return error_set(err, "%s is not the file the guest was "
				 "started from: its content differs",
				 file->path);
	}
	*data = map;
	*size = info.st_size;
	return 0;
}
