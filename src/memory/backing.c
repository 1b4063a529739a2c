// SPDX-License-Identifier: MIT
/* What guest memory is made of on the host, see backing.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "memory/backing.h"
#include "memory/backing_internal.h"

/* Linux 5.14, for headers that are older. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define HUGE_PAGES "/sys/kernel/mm/transparent_hugepage/"
#define HUGE_POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static const char *const kind_names[BACKING_KINDS] = {
	[BACKING_ANONYMOUS] = "anonymous",
	[BACKING_MEMFD] = "memfd",
	[BACKING_HUGETLB] = "hugetlb",
};

const char *backing_kind_name(enum backing_kind kind)
{
	return (unsigned int)kind < BACKING_KINDS ? kind_names[kind]
						  : "unknown";
}

int backing_kind_parse(const char *text, enum backing_kind *kind)
{
	unsigned int i;

	for (i = 0; i < BACKING_KINDS; i++)
		if (!strcmp(text, kind_names[i])) {
			*kind = i;
			return 0;
		}
	return -1;
}

uint64_t backing_page_size(const struct guest_memory *memory)
{
	return memory->backing == BACKING_HUGETLB ? BACKING_HUGE_PAGE
						  : GUEST_PAGE_SIZE;
}

/* Does this host back memory by huge pages where that is asked for? */
static bool has_huge_pages(void)
{
	FILE *file = fopen(HUGE_PAGES "enabled", "re");
	char line[64] = "[never]";

	if (file) {
		if (!fgets(line, sizeof(line), file))
			line[0] = '\0';
		fclose(file);
	}
	return !strstr(line, "[never]") &&
	       prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) <= 0;
}

uint64_t backing_block(const struct guest_memory *memory)
{
	if (memory->backing == BACKING_HUGETLB ||
	    (memory->backing == BACKING_ANONYMOUS && has_huge_pages()))
		return BACKING_HUGE_PAGE >> GUEST_PAGE_SHIFT;
	return 1;
}

bool backing_read_populates(const struct guest_memory *memory)
{
	return memory->backing != BACKING_ANONYMOUS;
}

/* ------------------------------------------------------ life of memory --- */

static int check_size(enum backing_kind kind, uint64_t size,
		      struct error *err)
{
	if ((unsigned int)kind >= BACKING_KINDS)
		return error_set(err, "memory of kind %u is not known here",
				 kind);
	if (size < BACKING_MIN_SIZE || size > BACKING_MAX_SIZE ||
	    size % GUEST_PAGE_SIZE)
		return error_set(err, "memory of %" PRIu64 " bytes: it must be "
				 "a multiple of 4K from 32M to 1T", size);
	if (kind == BACKING_HUGETLB && size % BACKING_HUGE_PAGE)
		return error_set(err, "memory of %" PRIu64 " bytes: in huge "
				 "pages it must be a multiple of 2M; change "
				 "the size, or take another backing", size);
	return 0;
}

/* The file that all regions map, of @size bytes of holes. */
static int open_file(struct guest_memory *memory, enum backing_kind kind,
		     uint64_t size, struct error *err)
{
	unsigned int flags = MFD_CLOEXEC;
	cleanup_fd int fd = -1;

	if (kind == BACKING_ANONYMOUS)
		return 0;
	if (kind == BACKING_HUGETLB)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	fd = memfd_create("aerostat", flags);
	if (fd < 0 || ftruncate(fd, size) < 0)
		return error_set_errno(err, errno, "cannot make a file of %"
				       PRIu64 " MiB in memory (%s)",
				       size >> 20, backing_kind_name(kind));
	memory->file = steal_fd(&fd);
	memory->backing = kind;
	return 0;
}

/* Room for @size bytes, aligned so that guest and host agree on where huge
 * pages begin. Return: the room, or MAP_FAILED */
static uint8_t *find_room(uint64_t size)
{
	uint64_t slack = BACKING_HUGE_PAGE;
	uint8_t *room, *host;

	room = mmap(NULL, size + slack, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return room;
	host = (uint8_t *)(((uintptr_t)room + slack - 1) & ~(slack - 1));
	if (host > room)
		munmap(room, host - room);
	munmap(host + size, room + slack - host);
	return host;
}

/* Return: 0, or a negative errno */
static int map_region(struct guest_memory *memory, uint64_t start,
		      uint64_t size)
{
	struct memory_region region = { .start = { start }, .size = size };
	bool anonymous = memory->backing == BACKING_ANONYMOUS;
	int rc = 0;

	region.host = find_room(size);
	if (region.host == MAP_FAILED)
		return -errno;
	/* A region lies in the file behind those that are there already.
	 * Without MAP_NORESERVE hugetlb refuses what it has no pages for. */
	if (mmap(region.host, size, PROT_READ | PROT_WRITE,
		 MAP_FIXED | (anonymous ? MAP_PRIVATE | MAP_ANONYMOUS |
						  MAP_NORESERVE : MAP_SHARED),
		 anonymous ? -1 : memory->file,
		 anonymous ? 0 : memory->size) == MAP_FAILED)
		rc = -errno;
	else if (guest_memory_add_region(memory, region) < 0)
		rc = -EINVAL;
	if (rc < 0) {
		munmap(region.host, size);
		return rc;
	}
	if (anonymous)
		madvise(region.host, size, MADV_HUGEPAGE);
	madvise(region.host, size, MADV_DONTDUMP);
	return 0;
}

static int map_regions(struct guest_memory *memory, uint64_t size)
{
	uint64_t low = size < BACKING_LOW_LIMIT ? size : BACKING_LOW_LIMIT;
	int rc = map_region(memory, 0, low);

	if (rc == 0 && size > low)
		rc = map_region(memory, BACKING_HIGH_START, size - low);
	return rc;
}

/* A number that the host tells about its huge pages; 0 if it does not. */
static uint64_t huge_pool(const char *path)
{
	FILE *file = fopen(path, "re");
	uint64_t value = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%" SCNu64, &value) != 1)
		value = 0;
	fclose(file);
	return value;
}

static int refuse_map(enum backing_kind kind, uint64_t size, int errnum,
		      struct error *err)
{
	uint64_t needed = size / BACKING_HUGE_PAGE, free_pages, reserved;

	if (kind != BACKING_HUGETLB || errnum != ENOMEM)
		return error_set_errno(err, errnum, "cannot map %" PRIu64
				       " MiB of memory", size >> 20);
	/* The host's "free" counts what others have reserved. */
	free_pages = huge_pool(HUGE_POOL "free_hugepages");
	reserved = huge_pool(HUGE_POOL "resv_hugepages");
	return error_set(err, "memory of %" PRIu64 " MiB needs %" PRIu64
			 " huge pages of 2 MiB and this host has %" PRIu64
			 " free: raise vm.nr_hugepages, or take another "
			 "backing", size >> 20, needed,
			 free_pages > reserved ? free_pages - reserved : 0);
}

int backing_create(struct guest_memory *memory, enum backing_kind kind,
		   uint64_t size, struct error *err)
{
	int rc;

	memset(memory, 0, sizeof(*memory));
	if (check_size(kind, size, err) < 0 ||
	    open_file(memory, kind, size, err) < 0)
		return -1;
	rc = map_regions(memory, size);
	if (rc < 0) {
		/* First, so that its own reservation is not in the count. */
		backing_destroy(memory);
		return refuse_map(kind, size, -rc, err);
	}
	if (page_set_create(&memory->written, memory->frames, err) < 0) {
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
	if (memory->backing != BACKING_ANONYMOUS)
		close(memory->file);
	page_set_free(&memory->written);
	memset(memory, 0, sizeof(*memory));
}

int page_set_create(struct page_set *set, uint64_t pages, struct error *err)
{
	size_t words = page_set_words_size(pages);
	size_t summary = page_set_summary_size(pages);
	uint8_t *map;

	/* Shared, or a word that is read before it is written costs a second
	 * fault, and one that stops every vCPU: of private memory the zero page
	 * is mapped first, and taken away again. */
	map = mmap(NULL, words + summary, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
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

/* ------------------------------------------------- discard and advice --- */

off_t backing_file_offset(const struct guest_memory *memory, const void *host)
{
	const struct memory_region *region = memory->region;
	uintptr_t at = (uintptr_t)host;
	off_t before = 0;

	while (at - (uintptr_t)region->host >= region->size)
		before += region++->size;
	return before + (at - (uintptr_t)region->host);
}

/* Regions begin at multiples of the host page, here, there and in the file. */
static struct page_run whole_host_pages(const struct guest_memory *memory,
					struct page_run run)
{
	uint64_t each = backing_page_size(memory) >> GUEST_PAGE_SHIFT;
	uint64_t first = (run.first + each - 1) & ~(each - 1);
	uint64_t end = (run.first + run.count) & ~(each - 1);

	return (struct page_run){ first, first < end ? end - first : 0 };
}

static int drop(const struct guest_memory *memory, void *host, uint64_t length)
{
	int rc;

	/* A hole in the file unmaps the pages too: madvise() would only add a
	 * second call. Without the hole it would drop the mapping and keep the
	 * page. */
	if (memory->backing == BACKING_ANONYMOUS)
		rc = madvise(host, length, MADV_DONTNEED);
	else
		rc = fallocate(memory->file,
			       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       backing_file_offset(memory, host), length);
	return rc < 0 ? -errno : 0;
}

static void *run_host(const struct guest_memory *memory, struct page_run run)
{
	struct gpa start = { run.first << GUEST_PAGE_SHIFT };

	return guest_memory_span(memory, start, run.count << GUEST_PAGE_SHIFT);
}

int backing_discard(const struct guest_memory *memory, struct page_run run,
		    struct page_run *discarded)
{
	struct page_run whole = whole_host_pages(memory, run);
	int rc;

	*discarded = (struct page_run){ run.first, 0 };
	if (!run_host(memory, run))
		return -EINVAL;
	if (!whole.count)
		return 0;
	rc = drop(memory, run_host(memory, whole),
		  whole.count << GUEST_PAGE_SHIFT);
	if (rc == 0)
		*discarded = whole;
	return rc;
}

/* Below this a call for each is as quick. */
#define BATCH_MIN 4

/* Return: bytes given back, or a negative errno */
static int64_t drop_parts(const struct iovec *part, unsigned int parts)
{
	cleanup_fd int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int64_t bytes;

	if (self < 0)
		return -errno;
	bytes = syscall(SYS_process_madvise, self, part, parts, MADV_DONTNEED,
			0);
	return bytes < 0 ? -errno : bytes;
}

unsigned int backing_discard_batch(const struct guest_memory *memory,
				   const struct page_run *run,
				   unsigned int runs)
{
	static atomic_bool refused; /* as this kernel answered once */
	struct iovec part[BACKING_BATCH];
	unsigned int i;
	int64_t bytes;

	if (memory->backing != BACKING_ANONYMOUS || runs < BATCH_MIN ||
	    runs > BACKING_BATCH || atomic_load(&refused))
		return 0;
	for (i = 0; i < runs; i++) {
		part[i].iov_base = run_host(memory, run[i]);
		part[i].iov_len = run[i].count << GUEST_PAGE_SHIFT;
		if (!part[i].iov_base)
			return 0;
	}
	bytes = drop_parts(part, runs);
	if (bytes == -EINVAL || bytes == -ENOSYS || bytes == -EPERM)
		atomic_store(&refused, true);
	for (i = 0; i < runs && bytes >= (int64_t)part[i].iov_len; i++)
		bytes -= (int64_t)part[i].iov_len;
	return i;
}

int backing_populate(const struct guest_memory *memory, struct page_run run)
{
	void *host = run_host(memory, run);

	if (!host)
		return -EINVAL;
	return madvise(host, run.count << GUEST_PAGE_SHIFT,
		       MADV_POPULATE_WRITE) < 0 ? -errno : 0;
}

bool backing_can_populate(const struct guest_memory *memory)
{
	/* Of nothing, a kernel that knows it does nothing. */
	return madvise(memory->region[0].host, 0, MADV_POPULATE_WRITE) == 0;
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

int backing_set_huge(const struct guest_memory *memory, struct page_run run,
		     bool huge)
{
	if (memory->backing != BACKING_ANONYMOUS)
		return 0;
	return advise(memory, run, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

void backing_allow_huge(const struct guest_memory *memory, struct page_run run)
{
	uint64_t each = BACKING_HUGE_PAGE >> GUEST_PAGE_SHIFT;
	uint64_t first = (run.first + each - 1) & ~(each - 1);
	uint64_t end = (run.first + run.count) & ~(each - 1);

	if (first < end &&
	    backing_set_huge(memory, (struct page_run){ first, end - first },
			     true) < 0)
		backing_set_huge(memory,
				 (struct page_run){ 0, memory->frames }, true);
}

/* -------------------------------------------------------- what is held --- */

/* Does a mapping hold guest memory? It may be a part of a region. */
static bool is_guest(const struct guest_memory *memory, uint64_t start,
		     uint64_t end)
{
	unsigned int i;

	for (i = 0; i < memory->regions; i++) {
		uintptr_t low = (uintptr_t)memory->region[i].host;

		if (start < low + memory->region[i].size && end > low)
			return true;
	}
	return false;
}

/* Adds up lines of the mappings that hold guest memory. */
static void add_mappings(const struct guest_memory *memory,
			 struct backing_usage *usage)
{
	FILE *smaps = fopen("/proc/self/smaps", "re");
	uint64_t start, end, kib;
	bool inside = false;
	char line[256];

	if (!smaps)
		return;
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2)
			inside = is_guest(memory, start, end);
		else if (!inside)
			continue;
		else if (sscanf(line, "Rss: %" SCNu64, &kib) == 1)
			usage->resident += kib << 10;
		else if (sscanf(line, "AnonHugePages: %" SCNu64, &kib) == 1)
			usage->huge += kib << 10;
	}
	fclose(smaps);
}

struct backing_usage backing_usage(const struct guest_memory *memory)
{
	struct backing_usage usage = { 0, 0 };
	struct stat file;

	if (memory->backing == BACKING_ANONYMOUS)
		add_mappings(memory, &usage);
	else if (fstat(memory->file, &file) == 0)
		usage.resident = file.st_blocks * 512ull;
	if (memory->backing == BACKING_HUGETLB)
		usage.huge = usage.resident;
	return usage;
}

uint64_t backing_resident(const struct guest_memory *memory)
{
	return backing_usage(memory).resident;
}
