// SPDX-License-Identifier: MIT
/* Which pages of guest memory exist, see backing_populated(). */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "memory/backing.h"
#include "memory/backing_internal.h"

/* Linux 6.7: include/uapi/linux/fs.h, for headers that are older. */
#ifndef PAGEMAP_SCAN
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_PRESENT (1 << 3)
#define PAGE_IS_SWAPPED (1 << 4)

struct page_region {
	uint64_t start, end; /* addresses */
	uint64_t categories;
};

struct pm_scan_arg {
	uint64_t size, flags;
	uint64_t start, end; /* addresses */
	uint64_t walk_end;   /* filled: where it stopped */
	uint64_t vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask;
	uint64_t return_mask;
};
#endif

/* Bits of an entry of /proc/pid/pagemap (Documentation/admin-guide/mm). */
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_BATCH 4096
#define SCAN_REGIONS 256

/* A part of guest memory in one region, and what it takes to look at it. */
struct look {
	const struct guest_memory *memory;
	const uint8_t *host; /* of the first page */
	struct page_run run;
	int pagemap; /* -1 where it is not needed */
	struct page_set *into;
};

/* Add the pages from @start to @end, bytes from the part's first one. */
static void found(const struct look *look, uint64_t start, uint64_t end)
{
	struct page_run run = {
		look->run.first + (start >> GUEST_PAGE_SHIFT),
		(end - start) >> GUEST_PAGE_SHIFT,
	};

	page_set_add(look->into, run);
}

/* Of a memfd the file knows, not pagemap: that has no entry for a page which is
 * in the file and not mapped, because it was swapped out or never touched here.
 * A hole punched between the two calls gives an empty run, no endless loop. */
static int look_file(const struct look *look)
{
	off_t base = backing_file_offset(look->memory, look->host), at = base;
	off_t end = base + (look->run.count << GUEST_PAGE_SHIFT), hole;

	while (at < end) {
		at = lseek(look->memory->file, at, SEEK_DATA);
		if (at < 0)
			return errno == ENXIO ? 0 : -errno;
		if (at >= end)
			break;
		hole = lseek(look->memory->file, at, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		if (hole > end)
			hole = end;
		found(look, at - base, hole - base);
		at = hole;
	}
	return 0;
}

/* The kernel passes over page tables that are not there: a terabyte of nothing
 * costs nothing. The zero page counts as present, as in pagemap. A huge page
 * is mapped from its first touch to its discard, or an entry says it moves. */
static int look_scan(const struct look *look)
{
	uint64_t base = (uintptr_t)look->host;
	struct page_region region[SCAN_REGIONS];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = base,
		.end = base + (look->run.count << GUEST_PAGE_SHIFT),
		.vec = (uintptr_t)region,
		.vec_len = SCAN_REGIONS,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
	};
	int i, regions;

	while (arg.start < arg.end) {
		regions = ioctl(look->pagemap, PAGEMAP_SCAN, &arg);
		if (regions < 0)
			return -errno;
		for (i = 0; i < regions; i++)
			found(look, region[i].start - base,
			      region[i].end - base);
		arg.start = arg.walk_end;
	}
	return 0;
}

/* Adds the populated ones of up to PAGEMAP_BATCH pages. */
static int pagemap_batch(const struct look *look, uint64_t first,
			 uint64_t count)
{
	uint64_t entry[PAGEMAP_BATCH], i, start;
	uint64_t page = (uintptr_t)look->host / GUEST_PAGE_SIZE + first;
	ssize_t want = count * sizeof(entry[0]), got;

	got = pread(look->pagemap, entry, want, page * sizeof(entry[0]));
	if (got != want)
		return got < 0 ? -errno : -EIO;
	for (i = 0; i < count; i++) {
		if (!(entry[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)))
			continue;
		for (start = i; i < count; i++)
			if (!(entry[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)))
				break;
		found(look, (first + start) << GUEST_PAGE_SHIFT,
		      (first + i) << GUEST_PAGE_SHIFT);
	}
	return 0;
}

static int look_pagemap(const struct look *look)
{
	uint64_t at, some;
	int rc = 0;

	for (at = 0; at < look->run.count && rc == 0; at += some) {
		some = look->run.count - at;
		if (some > PAGEMAP_BATCH)
			some = PAGEMAP_BATCH;
		rc = pagemap_batch(look, at, some);
	}
	return rc;
}

/* An entry of pagemap calls a huge page absent while the kernel moves it, and
 * the file of hugetlb knows no holes; mincore() is right in both. A small page
 * stands for its host page: asked for many it looks each of them up. */
static int look_mincore(const struct look *look)
{
	uint64_t size = look->run.count << GUEST_PAGE_SHIFT, at, next;
	unsigned char there;

	for (at = 0; at < size; at = next) {
		uintptr_t host = (uintptr_t)look->host + at;

		next = at + BACKING_HUGE_PAGE - host % BACKING_HUGE_PAGE;
		if (next > size)
			next = size;
		if (mincore((void *)host, GUEST_PAGE_SIZE, &there) < 0)
			return -errno;
		if (there & 1)
			found(look, at, next);
	}
	return 0;
}

static int (*const looks[BACKING_LOOKS])(const struct look *look) = {
	[BACKING_LOOK_FILE] = look_file,
	[BACKING_LOOK_SCAN] = look_scan,
	[BACKING_LOOK_PAGEMAP] = look_pagemap,
	[BACKING_LOOK_MINCORE] = look_mincore,
};

static const enum backing_look without_scan[BACKING_KINDS] = {
	[BACKING_ANONYMOUS] = BACKING_LOOK_PAGEMAP,
	[BACKING_MEMFD] = BACKING_LOOK_FILE,
	[BACKING_HUGETLB] = BACKING_LOOK_MINCORE,
};

int backing_look(const struct guest_memory *memory, enum backing_look how,
		 struct page_run within, struct page_set *into)
{
	uint64_t at = within.first << GUEST_PAGE_SHIFT;
	uint64_t end = at + (within.count << GUEST_PAGE_SHIFT);
	struct look look = { .memory = memory, .pagemap = -1, .into = into };
	cleanup_fd int pagemap = -1;
	int rc = 0;

	if (how == BACKING_LOOK_SCAN || how == BACKING_LOOK_PAGEMAP) {
		pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
		if (pagemap < 0)
			return -errno;
		look.pagemap = pagemap;
	}
	while (at < end && rc == 0) {
		uint64_t length = end - at;
		struct gpa start = { at };

		look.host = guest_memory_clip(memory, &start, &length);
		if (!look.host)
			break;
		look.run.first = start.value >> GUEST_PAGE_SHIFT;
		look.run.count = length >> GUEST_PAGE_SHIFT;
		rc = looks[how](&look);
		at = start.value + length;
	}
	return rc;
}

int backing_populated(const struct guest_memory *memory, struct page_run within,
		      struct page_set *into, struct error *err)
{
	static atomic_bool no_scan; /* as this kernel answered once */
	enum backing_look how = without_scan[memory->backing];
	int rc = -ENOTTY;

	if (how != BACKING_LOOK_FILE && !atomic_load(&no_scan)) {
		rc = backing_look(memory, BACKING_LOOK_SCAN, within, into);
		if (rc == -ENOTTY || rc == -EINVAL)
			atomic_store(&no_scan, true);
	}
	if (rc == -ENOTTY || rc == -EINVAL)
		rc = backing_look(memory, how, within, into);
	if (rc < 0)
		return error_set_errno(err, -rc, "cannot tell which pages of "
				       "the guest exist");
	return 0;
}
