/* SPDX-License-Identifier: MIT */
/* What the files of the balloon share with each other only. */
#ifndef BALLOON_BALLOON_INTERNAL_H
#define BALLOON_BALLOON_INTERNAL_H

#include "balloon/balloon.h"

/* Pages that one drain may cover, beside one ring's worth of buffers. */
#define BALLOON_PAGES_BUDGET (1u << 24)

bool balloon_has_feature(const struct balloon *balloon, unsigned int bit);

/* The guest broke the device, see balloon_host_ops.broken. */
void balloon_break(struct balloon *balloon, const char *reason);

/* Take the next buffer into balloon->chain. Return: false when there is none,
 * or the device broke */
bool balloon_pop(struct balloon *balloon, struct virtqueue *queue);

/* Let the driver see what was pushed, and interrupt it if it wants that. */
void balloon_publish(struct balloon *balloon, enum balloon_queue index);

/* Serve a queue once. Return: true when more buffers may wait */
bool balloon_drain_inflate(struct balloon *balloon);
bool balloon_drain_deflate(struct balloon *balloon);
bool balloon_drain_statistics(struct balloon *balloon);
bool balloon_drain_free_pages(struct balloon *balloon);
bool balloon_drain_reporting(struct balloon *balloon);

/*
 * The whole pages of RAM within @segment, one run of one region after another.
 * Rounded inwards: the rest of a page that is given in part may hold live data
 * (R21).
 * @at:	in, out: where to look on; 0 to begin
 *
 * Return: false when there is no more
 */
bool balloon_next_run(const struct balloon *balloon,
		      struct virtqueue_segment segment, uint64_t *at,
		      struct page_run *run);

/* Have the host discard a run of pages in RAM, cut where regions meet; it has
 * done so when balloon_discard_end() returns. */
void balloon_discard_run(struct balloon *balloon, struct page_run run);
void balloon_discard_end(struct balloon *balloon);

/* Have the host discard all pages of a set. */
void balloon_discard_set(struct balloon *balloon, const struct page_set *set);

/* The frames of this drain, in run_pages, were inflated: discard the blocks
 * that are whole now, hold the rest. */
void balloon_hold_inflated(struct balloon *balloon);

/* They are deflated: whatever is discarded later, they are not. */
void balloon_hold_deflated(struct balloon *balloon);

/* Move the report on and tell the host; nothing when it is there already. */
void balloon_report_set_state(struct balloon *balloon, enum report_state state);

/* The device changed a register: tell the guest, if there is one running. */
void balloon_config_changed(struct balloon *balloon);

/* Set bits in the register of requests, and let the guest know; nothing unless
 * it runs. What the request names was stored before. */
void balloon_raise(struct balloon *balloon, uint32_t bits);

/* The requests that the driver has not acknowledged. */
uint32_t balloon_pending(const struct balloon *balloon);

#endif
