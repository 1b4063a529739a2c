// SPDX-License-Identifier: MIT
/* What guest memory is made of on the host. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "memory/backing.h"

#define HUGE_PAGE_SIZE (2ull << 20)

/* Bits of an entry of /proc/pid/pagemap (Documentation/admin-guide/mm). */
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_BATCH 4096

static int map_region(struct guest_memory *memory, uint64_t start,
		      uint64_t size, struct error *err)
{
	struct memory_region region = { .start = { start }, .size = size };
	uint64_t slack = HUGE_PAGE_SIZE;
	uint8_t *map;

	/* Aligned so that guest and host agree on where huge pages begin. */
	map = mmap(NULL, size + slack, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return error_set_errno(err, errno,
				       "cannot map %" PRIu64 " MiB of memory",
				       size >> 20);
	region.host = (uint8_t *)(((uintptr_t)map + slack - 1) & ~(slack - 1));
	if (region.host > map)
		munmap(map, region.host - map);
	munmap(region.host + size, map + slack - region.host);
	madvise(region.host, size, MADV_HUGEPAGE);
	madvise(region.host, size, MADV_DONTDUMP);
	if (guest_memory_add_region(memory, region) < 0) {
		munmap(region.host, size);
		return error_set(err, "memory region at %#" PRIx64
				      " does not fit the address map", start);
	}
	return 0;
}

int backing_create(struct guest_memory *memory, uint64_t size,
		   struct error *err)
{
	uint64_t low = size < BACKING_LOW_LIMIT ? size : BACKING_LOW_LIMIT;

	memset(memory, 0, sizeof(*memory));
	if (size < BACKING_MIN_SIZE || size > BACKING_MAX_SIZE ||
	    size % GUEST_PAGE_SIZE)
		return error_set(err, "memory of %" PRIu64 " bytes: it must be "
				 "a multiple of 4K from 32M to 1T", size);
	if (map_region(memory, 0, low, err) < 0)
		return -1;
	if ((size > low && map_region(memory, BACKING_HIGH_START, size - low,
				      err) < 0) ||
	    page_set_create(&memory->written, memory->frames, err) < 0) {
		backing_destroy(memory);
		return -1;
	}
	return 0;
}

void backing_destroy(struct guest_memory *memory)
{
	unsigned int i;

	for (i = 0; i < memory->regions; i++)
		munmap(memory->region[i].host, memory->region[i].size);
	page_set_free(&memory->written);
	memset(memory, 0, sizeof(*memory));
}

int page_set_create(struct page_set *set, uint64_t pages, struct error *err)
{
	size_t words = page_set_words_size(pages);
	size_t summary = page_set_summary_size(pages);
	uint8_t *map;

	map = mmap(NULL, words + summary, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return error_set_errno(err, errno,
				       "cannot map a set of %" PRIu64 " pages",
				       pages);
	page_set_init(set, map, map + words, pages);
	return 0;
}

void page_set_free(struct page_set *set)
{
	if (set->words)
		munmap(set->words, page_set_words_size(set->pages) +
					   page_set_summary_size(set->pages));
	memset(set, 0, sizeof(*set));
}

/* Calls madvise() on each part of a run; a run may cross a region boundary. */
static int advise(const struct guest_memory *memory, struct page_run run,
		  int advice)
{
	uint64_t at = run.first << GUEST_PAGE_SHIFT;
	uint64_t end = at + (run.count << GUEST_PAGE_SHIFT);
	int rc = 0;

	while (at < end) {
		struct gpa start = { at };
		uint64_t length = end - at;
		void *host = guest_memory_clip(memory, &start, &length);

		if (!host)
			break;
		if (madvise(host, length, advice) < 0)
			rc = -errno;
		at = start.value + length;
	}
	return rc;
}

int backing_discard(const struct guest_memory *memory, struct page_run run)
{
	return advise(memory, run, MADV_DONTNEED);
}

int backing_set_huge(const struct guest_memory *memory, struct page_run run,
		     bool huge)
{
	return advise(memory, run, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

/* Adds the populated ones of up to PAGEMAP_BATCH pages that lie at @host. */
static int populated_batch(int fd, const uint8_t *host, struct page_run run,
			   struct page_set *into)
{
	uint64_t entry[PAGEMAP_BATCH], i, start;
	off_t offset = (uintptr_t)host / GUEST_PAGE_SIZE * sizeof(entry[0]);
	ssize_t want = run.count * sizeof(entry[0]);

	if (pread(fd, entry, want, offset) != want)
		return -1;
	for (i = 0; i < run.count; i++) {
		if (!(entry[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)))
			continue;
		for (start = i; i < run.count; i++)
			if (!(entry[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)))
				break;
		page_set_add(into, (struct page_run){ run.first + start,
						      i - start });
	}
	return 0;
}

int backing_populated(const struct guest_memory *memory, struct page_run within,
		      struct page_set *into, struct error *err)
{
	cleanup_fd int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t end = within.first + within.count, at = within.first;

	if (fd < 0)
		return error_set_errno(err, errno, "/proc/self/pagemap");
	while (at < end) {
		struct gpa start = { at << GUEST_PAGE_SHIFT };
		uint64_t length = (end - at) << GUEST_PAGE_SHIFT;
		struct page_run batch;
		const uint8_t *host;

		host = guest_memory_clip(memory, &start, &length);
		if (!host)
			break;
		batch.first = start.value >> GUEST_PAGE_SHIFT;
		batch.count = length >> GUEST_PAGE_SHIFT;
		if (batch.count > PAGEMAP_BATCH)
			batch.count = PAGEMAP_BATCH;
		if (populated_batch(fd, host, batch, into) < 0)
			return error_set_errno(err, errno,
					       "reading /proc/self/pagemap");
		at = batch.first + batch.count;
	}
	return 0;
}

/* Adds up the Rss lines of the mappings that lie in @region. */
static uint64_t resident_in(FILE *smaps, const struct memory_region *region)
{
	uintptr_t low = (uintptr_t)region->host, high = low + region->size;
	uint64_t total = 0, start, end, kib;
	bool inside = false;
	char line[256];

	rewind(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2)
			inside = start >= low && end <= high;
		else if (inside && sscanf(line, "Rss: %" SCNu64, &kib) == 1)
			total += kib << 10;
	}
	return total;
}

uint64_t backing_resident(const struct guest_memory *memory)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	uint64_t total = 0;
	unsigned int i;

	if (!smaps)
		return 0;
	for (i = 0; i < memory->regions; i++)
		total += resident_in(smaps, &memory->region[i]);
	fclose(smaps);
	return total;
}
