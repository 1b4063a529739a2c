// SPDX-License-Identifier: MIT
/*
 * The allocator, see memory.h.
 *
 * A block that has one holder has that holder's tag; the pages of others have a
 * byte each. What handles whole blocks so dirties little, as in Linux, where a
 * free block has one struct page that counts: what a report costs the guest must
 * not grow with a table by page. Blocks that are free in part, those that are
 * free as a whole, and of these the ones that were reported are on a list each;
 * the rest is on none.
 */
#include "memory.h"

#include "lib.h"

#define NO_BLOCK UINT32_MAX
#define GIB (1ull << 30)
#define TABLE_ENTRIES 512
#define TABLE_LINK 0x27	  /* present, writable, user, accessed, dirty */
#define TABLE_LARGE 0xe7  /* the same, and a page of 2 MiB */
#define LARGE_PAGE 0x200000ull
#define MAPPED_BY_START (4 * GIB)
#define MAPPED_MOST (TABLE_ENTRIES * GIB)

enum { WHOLE, PARTIAL, REPORTED, LISTS, NONE = LISTS };

struct block {
	uint32_t next, previous;
	uint16_t free;
	uint16_t first; /* no free page lies before it */
	uint8_t list;
	uint8_t tag;   /* of all its pages, unless it is mixed */
	bool mixed;
	bool reported; /* all of it is free, and the host knows */
	uint64_t seed;
};

extern uint64_t page_pointers[TABLE_ENTRIES];
extern char image_end[];

static uint8_t *tags;	      /* by page, of the blocks that are mixed */
static struct block *blocks;
static uint32_t list[LISTS];  /* first block */
static uint64_t end, total_kib;
static uint64_t counts[PAGE_TAGS];
static uint64_t carved; /* next byte behind our image and tables */
static void (*look_at_reported)(uint64_t page);

/* ------------------------------------------------------------ blocks --- */

static uint32_t block_of(uint64_t page)
{
	return (uint32_t)(page / BLOCK_PAGES);
}

static void leave_list(uint32_t number)
{
	struct block *block = &blocks[number];

	if (block->list == NONE)
		return;
	if (block->previous == NO_BLOCK)
		list[block->list] = block->next;
	else
		blocks[block->previous].next = block->next;
	if (block->next != NO_BLOCK)
		blocks[block->next].previous = block->previous;
	block->list = NONE;
}

/* Put a block where its number of free pages wants it. */
static void settle(uint32_t number)
{
	struct block *block = &blocks[number];
	uint8_t to = block->reported ? REPORTED :
		     block->free == BLOCK_PAGES ? WHOLE :
		     block->free ? PARTIAL : NONE;

	if (to == block->list)
		return;
	leave_list(number);
	if (to == NONE)
		return;
	block->list = to;
	block->previous = NO_BLOCK;
	block->next = list[to];
	if (list[to] != NO_BLOCK)
		blocks[list[to]].previous = number;
	list[to] = number;
}

enum page_tag memory_tag(uint64_t page)
{
	struct block *block = &blocks[block_of(page)];

	return block->mixed ? tags[page] : block->tag;
}

static void set_block_tag(struct block *block, enum page_tag tag)
{
	block->mixed = false;
	block->tag = (uint8_t)tag;
}

/* Of pages within one block. */
static void set_tags(uint64_t page, uint64_t pages, enum page_tag tag)
{
	struct block *block = &blocks[block_of(page)];

	counts[memory_tag(page)] -= pages;
	counts[tag] += pages;
	if (pages == BLOCK_PAGES) {
		set_block_tag(block, tag);
		return;
	}
	if (!block->mixed)
		memset(tags + page / BLOCK_PAGES * BLOCK_PAGES, block->tag,
		       BLOCK_PAGES);
	block->mixed = true;
	memset(tags + page, (int)tag, pages);
}

/* Free pages of one block change hands. */
static void take(uint64_t page, uint64_t pages, enum page_tag tag)
{
	struct block *block = &blocks[block_of(page)];

	if (block->reported && look_at_reported)
		look_at_reported(page - page % BLOCK_PAGES);
	block->reported = false;
	set_tags(page, pages, tag);
	block->free -= (uint16_t)pages;
	if (page % BLOCK_PAGES == block->first)
		block->first += (uint16_t)pages;
	settle(block_of(page));
}

void memory_put(uint64_t page, uint64_t pages)
{
	struct block *block = &blocks[block_of(page)];

	set_tags(page, pages, PAGE_FREE);
	block->free += (uint16_t)pages;
	if (block->free == BLOCK_PAGES)
		set_block_tag(block, PAGE_FREE);
	if (page % BLOCK_PAGES < block->first)
		block->first = page % BLOCK_PAGES;
	settle(block_of(page));
}

void memory_put_reported(uint64_t page)
{
	blocks[block_of(page)].reported = true;
	memory_put(page, BLOCK_PAGES);
}

void memory_watch_reported(void (*look)(uint64_t page))
{
	look_at_reported = look;
}

static uint64_t take_from(unsigned int which, enum page_tag tag)
{
	uint64_t page = (uint64_t)list[which] * BLOCK_PAGES;

	if (list[which] == NO_BLOCK)
		return 0;
	take(page, BLOCK_PAGES, tag);
	return page;
}

uint64_t memory_take_unreported(enum page_tag tag)
{
	return take_from(WHOLE, tag);
}

uint64_t memory_take_block(enum page_tag tag)
{
	uint64_t page = take_from(WHOLE, tag);

	return page ? page : take_from(REPORTED, tag);
}

uint64_t memory_take_page(enum page_tag tag)
{
	uint32_t number = list[PARTIAL] != NO_BLOCK ? list[PARTIAL] :
			  list[WHOLE] != NO_BLOCK ? list[WHOLE] :
						    list[REPORTED];
	uint64_t page;

	if (number == NO_BLOCK)
		return 0;
	page = (uint64_t)number * BLOCK_PAGES;
	page = memory_next(page + blocks[number].first, PAGE_FREE);
	blocks[number].first = page % BLOCK_PAGES;
	take(page, 1, tag);
	return page;
}

uint64_t memory_take_high_page(enum page_tag tag)
{
	uint32_t number = block_of(end + BLOCK_PAGES - 1);
	uint64_t page;

	while (number-- > 0) {
		if (!blocks[number].free)
			continue;
		page = ((uint64_t)number + 1) * BLOCK_PAGES - 1;
		while (memory_tag(page) != PAGE_FREE)
			page--;
		take(page, 1, tag);
		return page;
	}
	return 0;
}

/* Return: pages of the first free run within a block that is long enough, or
 * 0; its place is stored */
static uint64_t find_run(uint32_t number, uint64_t smallest, uint64_t *page)
{
	uint64_t at = (uint64_t)number * BLOCK_PAGES + blocks[number].first;
	uint64_t last = ((uint64_t)number + 1) * BLOCK_PAGES;
	uint64_t start;

	while (at < last) {
		for (start = at; at < last && memory_tag(at) == PAGE_FREE; at++)
			;
		if (at - start >= smallest) {
			*page = start;
			return at - start;
		}
		while (at < last && memory_tag(at) != PAGE_FREE)
			at++;
	}
	return 0;
}

uint64_t memory_take_run(struct run_cursor *cursor, enum page_tag tag,
			 uint64_t *pages)
{
	uint32_t all = block_of(end + BLOCK_PAGES - 1);
	uint64_t page;

	if (!cursor->smallest)
		cursor->smallest = BLOCK_PAGES / 2;
	for (; cursor->smallest; cursor->smallest /= 2, cursor->block = 0) {
		for (; cursor->block < all; cursor->block++) {
			if (blocks[cursor->block].free < cursor->smallest)
				continue;
			*pages = find_run(cursor->block, cursor->smallest,
					  &page);
			if (!*pages)
				continue;
			take(page, *pages, tag);
			return page;
		}
	}
	cursor->smallest = 1; /* what is freed meanwhile may still come */
	cursor->block = all;
	return 0;
}

void memory_retag(uint64_t page, uint64_t pages, enum page_tag tag)
{
	set_tags(page, pages, tag);
}

/* Pages from @page on within its block that have its tag. */
static uint64_t run_length(uint64_t page)
{
	uint64_t most = BLOCK_PAGES - page % BLOCK_PAGES, pages;

	if (!blocks[block_of(page)].mixed)
		return most;
	for (pages = 1; pages < most && tags[page + pages] == tags[page];)
		pages++;
	return pages;
}

void memory_put_all(enum page_tag tag)
{
	uint64_t page = memory_next(0, tag), pages;

	while (page < end) {
		pages = run_length(page);
		memory_put(page, pages);
		page = memory_next(page + pages, tag);
	}
}

uint64_t memory_next(uint64_t page, enum page_tag tag)
{
	while (page < end && memory_tag(page) != tag)
		page += run_length(page);
	return page < end ? page : end;
}

uint64_t memory_end(void)
{
	return end;
}

uint64_t memory_count(enum page_tag tag)
{
	return counts[tag];
}

uint64_t memory_total_kib(void)
{
	return total_kib;
}

uint64_t *memory_block_seed(uint64_t page)
{
	return &blocks[block_of(page)].seed;
}

/* ------------------------------------------------------------ set-up --- */

/* Room behind our image, with whatever it holds. */
static void *carve(uint64_t bytes)
{
	void *at = (void *)carved;

	carved += (bytes + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1ull);
	return at;
}

/* start.S maps 4 GiB. New entries need no flush. */
static void map_high(uint64_t until)
{
	uint64_t gib, i, *directory;

	for (gib = MAPPED_BY_START / GIB; gib * GIB < until; gib++) {
		directory = carve(PAGE_SIZE);
		for (i = 0; i < TABLE_ENTRIES; i++)
			directory[i] = (gib * GIB + i * LARGE_PAGE) |
				       TABLE_LARGE;
		page_pointers[gib] = (uintptr_t)directory | TABLE_LINK;
	}
}

/* From its end, so that low memory is handed out first. */
static void free_range(uint64_t page, uint64_t last)
{
	uint64_t part;

	for (; last > page; last -= part) {
		part = (last - 1) % BLOCK_PAGES + 1;
		if (part > last - page)
			part = last - page;
		memory_put(last - part, part);
	}
}

/* Return: the last byte of RAM that is of use */
static uint64_t measure(const struct pvh_memory_range *range, uint32_t count)
{
	uint64_t last = 0;
	uint32_t i;

	for (i = 0; i < count; i++) {
		if (range[i].type != PVH_RAM)
			continue;
		total_kib += range[i].size / 1024;
		if (range[i].start + range[i].size > last)
			last = range[i].start + range[i].size;
	}
	return last < MAPPED_MOST ? last : MAPPED_MOST;
}

void memory_init(const struct pvh_start_info *info)
{
	const struct pvh_memory_range *range = (void *)info->memory_map;
	uint64_t until = measure(range, info->memory_map_entries);
	uint64_t start, last, all, i;

	carved = ((uintptr_t)image_end + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1ull);
	map_high(until);
	end = until >> PAGE_SHIFT;
	all = (end + BLOCK_PAGES - 1) / BLOCK_PAGES;
	tags = carve(all * BLOCK_PAGES);
	blocks = carve(all * sizeof(*blocks));
	list[WHOLE] = list[PARTIAL] = list[REPORTED] = NO_BLOCK;
	for (i = 0; i < all; i++) {
		blocks[i] = (struct block){ .list = NONE,
					    .tag = PAGE_RESERVED,
					    .first = BLOCK_PAGES };
	}
	for (i = info->memory_map_entries; i-- > 0;) {
		start = range[i].start > carved ? range[i].start : carved;
		last = range[i].start + range[i].size;
		if (range[i].type == PVH_RAM && start < last && start < until)
			free_range((start + PAGE_SIZE - 1) >> PAGE_SHIFT,
				   (last < until ? last : until) >> PAGE_SHIFT);
	}
}
