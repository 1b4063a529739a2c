// SPDX-License-Identifier: MIT
/*
 * The free page queue and the report it carries (VIRTIO 1.3 section 5.5.6.6),
 * whatever the protocol variant.
 *
 * The queue is processed strictly in ring order, since the id that tells
 * whether a hint counts travels in it (R4).
 */
#include "balloon/balloon_internal.h"

#include "base/checked.h"
#include "base/endian.h"

/* Ids count up from here, as they do in practice. */
#define FIRST_ID 0x80000000u

static const char *const state_names[REPORT_STATES] = {
	[REPORT_IDLE] = "idle",		  [REPORT_REQUESTED] = "requested",
	[REPORT_ACCEPTING] = "accepting", [REPORT_COMPLETE] = "complete",
	[REPORT_CLOSED] = "closed",	  [REPORT_DONE] = "done",
};

const char *report_state_name(enum report_state state)
{
	return (unsigned int)state < REPORT_STATES ? state_names[state]
						   : "unknown";
}

/*
 * The free page queue
 */

static void handle_command(struct balloon *balloon,
			   const struct virtqueue *queue)
{
	const struct virtqueue_chain *chain = &balloon->chain;
	__le32 id;

	if (chain->writable || chain->readable_bytes != sizeof(id) ||
	    virtqueue_copy_out(queue, chain, 0, &id, sizeof(id))) {
		balloon->report.counters.malformed++;
		return;
	}
	balloon->protocol->command(balloon, le32_get(id));
}

bool balloon_next_run(const struct balloon *balloon,
		      struct virtqueue_segment segment, uint64_t *at,
		      struct page_run *run)
{
	uint64_t first, end, length;
	struct gpa start;

	if (!checked_add(segment.start.value, GUEST_PAGE_SIZE - 1, &first))
		return false;
	/* Up to the end of the address space, where no RAM is. */
	if (!checked_add(segment.start.value, segment.length, &end))
		end = UINT64_MAX;
	first &= ~(GUEST_PAGE_SIZE - 1);
	end &= ~(GUEST_PAGE_SIZE - 1);
	start.value = *at > first ? *at : first;
	if (start.value >= end)
		return false;
	length = end - start.value;
	if (!guest_memory_clip(balloon->memory, &start, &length))
		return false;
	run->first = start.value >> GUEST_PAGE_SHIFT;
	run->count = length >> GUEST_PAGE_SHIFT;
	*at = start.value + length;
	return true;
}

/* Return: pages the buffer covers */
static uint64_t handle_hint(struct balloon *balloon)
{
	struct report_counters *counters = &balloon->report.counters;
	const struct virtqueue_chain *chain = &balloon->chain;
	uint64_t at, covered = 0;
	struct page_run run;
	uint16_t i;

	if (balloon->report.state != REPORT_ACCEPTING) {
		counters->uncounted++;
		return 0;
	}
	for (i = 0; i < chain->writable; i++) {
		at = 0;
		while (balloon_next_run(balloon, chain->segment[i], &at,
					&run)) {
			counters->hinted_pages +=
				page_set_add(balloon->report.hinted, run);
			covered += run.count;
		}
	}
	counters->hints++;
	if (!covered)
		counters->rejected++;
	return covered;
}

bool balloon_drain_free_pages(struct balloon *balloon)
{
	struct virtqueue *queue = &balloon->queue[BALLOON_FREE_PAGE];
	uint64_t pages = 0;
	unsigned int taken = 0;
	uint16_t head;

	while (taken < queue->size && pages < BALLOON_PAGES_BUDGET &&
	       balloon_pop(balloon, queue)) {
		/* The host may start a report meanwhile, which drains. */
		head = balloon->chain.head;
		if (balloon->chain.readable)
			handle_command(balloon, queue);
		else
			pages += handle_hint(balloon);
		/* It broke the device, and with it the queue. */
		if (balloon->broken)
			return false;
		virtqueue_push(queue, head, 0);
		taken++;
	}
	if (balloon->broken)
		return false;
	balloon_publish(balloon, BALLOON_FREE_PAGE);
	if (taken && balloon->protocol->returned)
		balloon->protocol->returned(balloon);
	return taken == queue->size || pages >= BALLOON_PAGES_BUDGET;
}

/*
 * The free page report
 */

void balloon_report_set_state(struct balloon *balloon, enum report_state state)
{
	if (balloon->report.state == state)
		return;
	balloon->report.state = state;
	balloon->ops->report_changed(balloon->host, state);
}

bool balloon_can_report(const struct balloon *balloon)
{
	return balloon->running && balloon->queue[BALLOON_FREE_PAGE].memory &&
	       balloon_has_feature(balloon, VIRTIO_BALLOON_F_FREE_PAGE_HINT);
}

/* Never 0 or 1, which are words of the protocol, and not used again before
 * two thousand million others. */
static uint32_t id_after(uint32_t id)
{
	return id < FIRST_ID || id == UINT32_MAX ? FIRST_ID : id + 1;
}

int balloon_report_start(struct balloon *balloon, struct page_set *hinted)
{
	if (!balloon_can_report(balloon) || balloon->report.hinted)
		return -1;
	balloon->report.id = id_after(balloon->report.id);
	balloon->report.hinted = hinted;
	balloon->report.counters = (struct report_counters){ 0 };
	balloon_report_set_state(balloon, REPORT_REQUESTED);
	balloon->protocol->request_start(balloon);
	return 0;
}

/* Does the guest owe a word for the report that is being closed? */
static enum report_state closed_state(const struct balloon *balloon)
{
	if (balloon->report.sign_due)
		return REPORT_CLOSED;
	return balloon->report.state == REPORT_COMPLETE ||
			       balloon->report.deferred ?
		       REPORT_IDLE : REPORT_CLOSED;
}

void balloon_report_close(struct balloon *balloon)
{
	enum report_state to = closed_state(balloon);

	if (!balloon->report.hinted)
		return;
	balloon->report.hinted = NULL;
	/* Before the host hears of it, who may start the next one at once. */
	balloon->protocol->request_stop(balloon);
	balloon_report_set_state(balloon, to);
}

void balloon_report_done(struct balloon *balloon)
{
	balloon_report_close(balloon);
	/* No report was asked for, ever or since the last time: the guest
	 * holds no page, or knows. */
	if (!balloon->report.id || balloon->report.state == REPORT_DONE)
		return;
	balloon_report_set_state(balloon, REPORT_DONE);
	balloon->protocol->request_done(balloon);
}

void balloon_pause(struct balloon *balloon)
{
	if (balloon->report.state != REPORT_REQUESTED &&
	    balloon->report.state != REPORT_ACCEPTING)
		return;
	balloon->protocol->request_stop(balloon);
	balloon_report_set_state(balloon, REPORT_COMPLETE);
}
