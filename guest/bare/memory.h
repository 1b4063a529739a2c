/* SPDX-License-Identifier: MIT */
/*
 * RAM above our own image, in pages of 4 KiB and blocks of 4 MiB.
 *
 * Everything that is known of a page stands outside of it: a page that nobody
 * writes stays as the host made it, whoever holds it. What was freed last is
 * handed out first, as by the buddy allocator of Linux.
 */
#ifndef BARE_MEMORY_H
#define BARE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "pvh.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096
#define PAGE_WORDS (PAGE_SIZE / 8)
#define MIB_PAGES ((1024 * 1024) / PAGE_SIZE)
#define BLOCK_PAGES 1024

/* Who has a page. */
enum page_tag {
	PAGE_RESERVED, /* no RAM, or not ours */
	PAGE_FREE,
	PAGE_HINTED,
	PAGE_BALLOON,
	PAGE_REPORTED, /* on its way; nobody may touch it (D39) */
	PAGE_TAKING,   /* a hinted block being written anew */
	PAGE_TAKEN,    /* content: seed of the block */
	PAGE_DEFLATED, /* content: seed of all of them */
	PAGE_TRANSIENT,
	PAGE_WRITER,
	PAGE_KEPT,     /* and all tags above: a seed each */
	PAGE_TAGS = 256,
};

void memory_init(const struct pvh_start_info *info);

/* Of the memory map, in KiB, rounded down a range. */
uint64_t memory_total_kib(void);

/* The page behind the last one. */
uint64_t memory_end(void);
uint64_t memory_count(enum page_tag tag);
enum page_tag memory_tag(uint64_t page);

/* Take one page, or a block. Return: its first page, or 0 when there is none */
uint64_t memory_take_page(enum page_tag tag);
uint64_t memory_take_block(enum page_tag tag);

/* Take the highest free page there is. Return: it, or 0 when there is none */
uint64_t memory_take_high_page(enum page_tag tag);

/*
 * A block that was reported to the host is free like others, but handed out
 * after them and not reported again until some of it was in use.
 */

/* Take a block that was not. Return: its first page, or 0 */
uint64_t memory_take_unreported(enum page_tag tag);

/* Give a block back as one that was. */
void memory_put_reported(uint64_t page);

/* Call @look when part of such a block is about to be handed out. */
void memory_watch_reported(void (*look)(uint64_t page));

/* Walks the free runs of blocks that are free in part, larger ones first. */
struct run_cursor {
	uint32_t smallest, block; /* smallest: 0 before the first */
};

/* Take the next run. Return: its first page, or 0 at the end */
uint64_t memory_take_run(struct run_cursor *cursor, enum page_tag tag,
			 uint64_t *pages);

/* Give back pages, which have one tag and lie within one block. */
void memory_put(uint64_t page, uint64_t pages);

/* Give back all pages of a tag. */
void memory_put_all(enum page_tag tag);

/* Change the tag of pages that are not free. */
void memory_retag(uint64_t page, uint64_t pages, enum page_tag tag);

/* Return: the first page from @page on that has this tag, or memory_end() */
uint64_t memory_next(uint64_t page, enum page_tag tag);

/* A seed for each block, of its holder's making. */
uint64_t *memory_block_seed(uint64_t page);

static inline uint64_t *memory_words(uint64_t page)
{
	return (uint64_t *)(page << PAGE_SHIFT);
}

#endif
