// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Blocks that the host was told of as free: taken from the page allocator, the
 * largest first, so that nobody uses them, and kept until DONE. When memory is
 * short the shrinker gives them back before that, at any moment (G-5): what
 * such a page holds is not defined, and who allocates it does not rely on it.
 *
 * With init_on_alloc the allocator writes zeroes to each of these blocks. There
 * is no way around that for a driver: __GFP_SKIP_ZERO is 0 but for KASAN's
 * hardware tags.
 */
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>

#include "balloon.h"
#include "compat.h"

/* Neither reclaim nor reserves: what is free as it is. */
#define HINT_GFP \
	(__GFP_NORETRY | __GFP_NOWARN | __GFP_NOMEMALLOC | __GFP_SKIP_ZERO)

static uint hint_min_order = 9;
module_param(hint_min_order, uint, 0644);
MODULE_PARM_DESC(hint_min_order,
		 "smallest free block to report, as a power of two of pages");

static uint hint_max_order = LARGEST_ORDER;
module_param(hint_max_order, uint, 0644);
MODULE_PARM_DESC(hint_max_order,
		 "largest free block to report, as a power of two of pages");

struct page *balloon_block_take(unsigned int *order)
{
	unsigned int largest = min_t(uint, READ_ONCE(hint_max_order),
				     LARGEST_ORDER);
	unsigned int smallest = min(READ_ONCE(hint_min_order), largest);
	struct page *page;

	*order = min(*order, largest);
	while (*order >= smallest) {
		page = alloc_pages(HINT_GFP, *order);
		if (page)
			return page;
		if (!*order)
			break;
		--*order;
	}
	return NULL;
}

void balloon_block_keep(struct balloon_blocks *blocks, struct page *page,
			unsigned int order)
{
	set_page_private(page, order);
	spin_lock(&blocks->lock);
	list_add(&page->lru, &blocks->list);
	blocks->pages += 1ul << order;
	spin_unlock(&blocks->lock);
}

/* Return: pages given back, 0 when none are left */
static unsigned long give_one_back(struct balloon_blocks *blocks)
{
	struct page *page;
	unsigned int order = 0;

	spin_lock(&blocks->lock);
	page = list_first_entry_or_null(&blocks->list, struct page, lru);
	if (page) {
		order = page_private(page);
		list_del(&page->lru);
		blocks->pages -= 1ul << order;
	}
	spin_unlock(&blocks->lock);
	if (!page)
		return 0;
	set_page_private(page, 0);
	__free_pages(page, order);
	return 1ul << order;
}

void balloon_blocks_release(struct balloon_blocks *blocks)
{
	while (give_one_back(blocks))
		cond_resched();
}

/* ---------------------------------------------------------- shrinker --- */

static unsigned long count(struct shrinker *shrinker,
			   struct shrink_control *control)
{
	struct balloon_blocks *blocks = compat_shrinker_owner(shrinker);

	return READ_ONCE(blocks->pages);
}

static unsigned long scan(struct shrinker *shrinker,
			  struct shrink_control *control)
{
	struct balloon_blocks *blocks = compat_shrinker_owner(shrinker);
	unsigned long freed = 0, one;

	while (freed < control->nr_to_scan) {
		one = give_one_back(blocks);
		if (!one)
			break;
		balloon_count(COUNT_TAKEN_BACK, 1);
		freed += one;
	}
	/* A block is more than was asked for; unsaid, all would follow it. */
	control->nr_scanned = freed;
	compat_account_reclaimed(freed);
	return freed ? freed : SHRINK_STOP;
}

void balloon_blocks_init(struct balloon_blocks *blocks)
{
	spin_lock_init(&blocks->lock);
	INIT_LIST_HEAD(&blocks->list);
}

int balloon_blocks_begin(struct balloon_blocks *blocks)
{
	blocks->shrinker = compat_shrinker(count, scan, blocks);
	return blocks->shrinker ? 0 : -ENOMEM;
}

void balloon_blocks_end(struct balloon_blocks *blocks)
{
	if (blocks->shrinker)
		compat_shrinker_end(blocks->shrinker);
	blocks->shrinker = NULL;
}
