// SPDX-License-Identifier: MIT
/*
 * Pages of the balloon that wait for the rest of their block.
 *
 * A host with huge pages gives a part of one back at the price of splitting it,
 * or not at all; and Linux inflates by 1 MiB of small pages at a time. So what
 * a drain brings of a block that is not in the balloon as a whole is kept in
 * mind, and the block is discarded when its last page has come.
 *
 * A page may be discarded from the moment it was seen in the inflate queue
 * until its deflate is acknowledged, if the driver has to tell (V3). Without
 * VIRTIO_BALLOON_F_MUST_TELL_HOST it may be in use again unseen as soon as it
 * was acknowledged, so nothing is held then (R25). With it, what a deflate
 * names is dropped from both sets before its buffer is returned, and so is all
 * of them when the driver is gone: reset, or a broken device, whose driver can
 * tell nothing any more.
 *
 * When to give up waiting is the host's business, which has a clock.
 */
#include "balloon/balloon_internal.h"

void balloon_hold(struct balloon *balloon, struct balloon_hold hold,
		  struct page_set inside, struct page_set held)
{
	balloon->hold.block = hold.block;
	balloon->hold.most = hold.most;
	balloon->hold.inside = inside;
	balloon->hold.held = held;
}

bool balloon_holds(const struct balloon *balloon)
{
	return balloon->hold.block &&
	       balloon_has_feature(balloon, VIRTIO_BALLOON_F_MUST_TELL_HOST);
}

bool balloon_has_inside(const struct balloon *balloon, struct page_run run)
{
	return page_set_count_in(&balloon->hold.inside, run) != 0;
}

void balloon_flush(struct balloon *balloon)
{
	if (!balloon->hold.pages)
		return;
	balloon_discard_set(balloon, &balloon->hold.held);
	page_set_clear(&balloon->hold.held);
	balloon->hold.pages = 0;
}

void balloon_forget(struct balloon *balloon)
{
	if (!balloon->hold.block)
		return;
	page_set_clear(&balloon->hold.inside);
	page_set_clear(&balloon->hold.held);
	balloon->hold.pages = 0;
}

/* Is the block at @first in the balloon as a whole? */
static bool is_whole(const struct balloon *balloon, uint64_t first)
{
	const struct page_set *inside = &balloon->hold.inside;
	uint64_t block = balloon->hold.block;

	return first + block <= inside->pages &&
	       page_set_count_in(inside, (struct page_run){ first, block }) ==
		       block;
}

/* The run of whole blocks at or behind @at, up to @end, both at the border of a
 * block. Return: false when there is none */
static bool next_whole(const struct balloon *balloon, uint64_t at, uint64_t end,
		       struct page_run *run)
{
	uint64_t block = balloon->hold.block;

	while (at < end && !is_whole(balloon, at))
		at += block;
	run->first = at;
	while (at < end && is_whole(balloon, at))
		at += block;
	run->count = at - run->first;
	return run->count;
}

/* Discard the whole blocks that lie in [at, end), all of each: the host may
 * have filled the rest of a block again when the guest touched one page. */
static void discard_whole(struct balloon *balloon, uint64_t at, uint64_t end)
{
	struct page_run run;

	for (; next_whole(balloon, at, end, &run); at = run.first + run.count) {
		balloon->hold.pages -= page_set_remove(&balloon->hold.held,
						       run);
		balloon_discard_run(balloon, run);
	}
}

void balloon_hold_inflated(struct balloon *balloon)
{
	uint64_t mask = balloon->hold.block - 1, at = 0, end;
	struct page_run run;

	page_set_union(&balloon->hold.inside, &balloon->run_pages);
	balloon->hold.pages += page_set_union(&balloon->hold.held,
					      &balloon->run_pages);
	while (page_set_next_run(&balloon->run_pages, at, UINT64_MAX, &run)) {
		end = (run.first + run.count + mask) & ~mask;
		discard_whole(balloon, run.first & ~mask, end);
		at = end; /* the last block was looked at whole */
	}
	balloon_discard_end(balloon);
	if (balloon->hold.pages > balloon->hold.most)
		balloon_flush(balloon);
}

void balloon_hold_deflated(struct balloon *balloon)
{
	page_set_subtract(&balloon->hold.inside, &balloon->run_pages);
	balloon->hold.pages -= page_set_subtract(&balloon->hold.held,
						 &balloon->run_pages);
}
