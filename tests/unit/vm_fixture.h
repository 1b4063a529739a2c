/* SPDX-License-Identifier: MIT */
/*
 * The memory of a guest that moves: two regions of it, which pages exist, and
 * pages filled from a number.
 */
#ifndef VM_FIXTURE_H
#define VM_FIXTURE_H

#include "unit.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#include "memory/backing.h"

/* Two regions of 6 MiB and a hole between them. */
#define LOW_PAGES 1536u
#define HIGH_FIRST 4096u
#define HIGH_PAGES 1536u
#define FRAMES (HIGH_FIRST + HIGH_PAGES)
#define RAM_PAGES (LOW_PAGES + HIGH_PAGES)
#define REGION_BYTES (LOW_PAGES * 4096ull)
#define HUGE_BYTES (2ull << 20)

static inline bool is_ram(uint64_t page)
{
	return page < LOW_PAGES || (page >= HIGH_FIRST && page < FRAMES);
}

/* The n-th page of RAM. */
static inline uint64_t ram_page(uint64_t n)
{
	return n < LOW_PAGES ? n : n - LOW_PAGES + HIGH_FIRST;
}

struct vm {
	struct guest_memory memory;
	void *map[2];
};

#define MAP_BYTES (REGION_BYTES + 2 * HUGE_BYTES)

static inline void vm_region(struct vm *vm, unsigned int i, uint64_t first)
{
	uintptr_t at;
	struct memory_region region = { { first << 12 }, REGION_BYTES, NULL };

	vm->map[i] = mmap(NULL, MAP_BYTES, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(vm->map[i] != MAP_FAILED);
	/* With pages nobody may touch on both sides. */
	at = ((uintptr_t)vm->map[i] + HUGE_BYTES) & ~(HUGE_BYTES - 1);
	region.host = (uint8_t *)at;
	assert_int_equal(mprotect(region.host, REGION_BYTES,
				  PROT_READ | PROT_WRITE), 0);
	madvise(region.host, REGION_BYTES, MADV_NOHUGEPAGE);
	assert_int_equal(guest_memory_add_region(&vm->memory, region), 0);
}

static inline void vm_create(struct vm *vm)
{
	memset(vm, 0, sizeof(*vm));
	/* khugepaged fills the holes of what it merges, whenever it comes by;
	 * these tests count pages. */
	assert_int_equal(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
	vm_region(vm, 0, 0);
	vm_region(vm, 1, HIGH_FIRST);
	assert_int_equal(page_set_create(&vm->memory.written, FRAMES, NULL),
			 0);
}

static inline void vm_destroy(struct vm *vm)
{
	munmap(vm->map[0], MAP_BYTES);
	munmap(vm->map[1], MAP_BYTES);
	page_set_free(&vm->memory.written);
}

static inline uint64_t *vm_page(const struct vm *vm, uint64_t page)
{
	return guest_memory_span(&vm->memory, (struct gpa){ page << 12 },
				 4096);
}

/* Pages that exist, by pagemap. */
static inline struct page_set vm_populated(const struct vm *vm)
{
	struct page_set set;
	struct page_run all = { 0, FRAMES };

	assert_int_equal(page_set_create(&set, FRAMES, NULL), 0);
	assert_int_equal(backing_populated(&vm->memory, all, &set, NULL), 0);
	return set;
}

static inline bool vm_exists(const struct vm *vm, uint64_t page)
{
	struct page_set set = vm_populated(vm);
	bool there = page_set_contains(&set, page);

	page_set_free(&set);
	return there;
}

/* A page's content from a number; 0 is a page of zeroes. The guest writes while
 * the source sends, by design: a page that was torn is in the dirty log. So
 * ThreadSanitizer need not look here. */
__attribute__((noinline, unused, no_sanitize("thread")))
static void fill_page(uint64_t *at, uint64_t value)
{
	unsigned int i;

	for (i = 0; i < 512; i++)
		at[i] = value ? value * 0x9e3779b97f4a7c15ull + i : 0;
}

static inline bool page_filled(const uint64_t *at, uint64_t value)
{
	uint64_t want[512];

	fill_page(want, value);
	return !memcmp(at, want, sizeof(want));
}

#endif
