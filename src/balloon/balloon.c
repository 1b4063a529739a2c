// SPDX-License-Identifier: MIT
/*
 * Traditional memory balloon, device half, see balloon.h.
 *
 * Theory of operation. A queue is served in drains. A drain takes what is
 * available (at most one ring's worth, and no more work than a budget), does
 * it, and only then publishes the used buffers, with one decision about the
 * interrupt. Nothing is carried from one drain to the next (R25).
 *
 * Inflate and deflate gather the frames of a drain in a page set, so that the
 * host hears of runs instead of single pages; the buffers are returned after
 * it has heard of all of them ("discard strictly before used", R24).
 *
 * The free page queue is processed strictly in ring order, since the id that
 * tells whether a hint counts travels in it (R4).
 *
 * Whatever a guest puts into a well-formed buffer is skipped and counted where
 * it makes no sense. Only a malformed ring breaks the device.
 */
#include "balloon/balloon_internal.h"

#include <stddef.h>

#include "base/checked.h"
#include "base/endian.h"

/* Ids count up from here, as they do in practice. */
#define FIRST_ID 0x80000000u

/*
 * What one drain may cost, beside one ring's worth of buffers: frame numbers
 * read, and pages hinted. A buffer that has more frame numbers than this is
 * not believed.
 */
#define FRAMES_BUDGET (1u << 20)
#define HINTS_BUDGET (1u << 24)

/* Frame numbers copied at a time. */
#define FRAMES_CHUNK 64

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

static bool has_feature(const struct balloon *balloon, unsigned int bit)
{
	return balloon->features >> bit & 1;
}

/*
 * Set-up, reset, features
 */

void balloon_init(struct balloon *balloon, struct balloon_options options,
		  struct guest_memory *memory, struct page_set scratch,
		  const struct balloon_host_ops *ops, void *host)
{
	__builtin_memset(balloon, 0, sizeof(*balloon));
	balloon->options = options;
	balloon->memory = memory;
	balloon->run_pages = scratch;
	balloon->ops = ops;
	balloon->host = host;
}

uint64_t balloon_features(const struct balloon *balloon)
{
	uint64_t features = balloon->options.protocol->features;

	if (balloon->options.hinting)
		features |= 1ull << VIRTIO_BALLOON_F_FREE_PAGE_HINT;
	return features;
}

int balloon_queue_number(const struct balloon *balloon,
			 enum balloon_queue queue)
{
	return balloon_queue_index(queue, balloon->features,
				   balloon->options.numbering);
}

void balloon_config_changed(struct balloon *balloon)
{
	if (balloon->running)
		balloon->ops->config_changed(balloon->host);
}

static void stop_queues(struct balloon *balloon)
{
	unsigned int i;

	for (i = 0; i < BALLOON_QUEUES; i++)
		virtqueue_stop(&balloon->queue[i]);
}

static void break_device(struct balloon *balloon, const char *reason)
{
	balloon->running = false;
	balloon->broken = true;
	stop_queues(balloon);
	balloon->ops->broken(balloon->host, reason);
}

static int start_queues(struct balloon *balloon,
			const struct virtqueue_layout *layout,
			const struct virtqueue_state *state,
			unsigned int indices, const char **reason)
{
	struct virtqueue_state fresh = { 0, 0 };
	int i, index;

	for (i = 0; i < BALLOON_QUEUES; i++) {
		index = balloon_queue_number(balloon, (enum balloon_queue)i);
		if (index < 0 || (unsigned int)index >= indices ||
		    !layout[index].size)
			continue;
		if (virtqueue_start(&balloon->queue[i], balloon->memory,
				    &layout[index], balloon->features,
				    state ? state[index] : fresh, reason))
			return -1;
	}
	return 0;
}

void balloon_activate(struct balloon *balloon, uint64_t features,
		      const struct virtqueue_layout *layout,
		      const struct virtqueue_state *state,
		      unsigned int indices)
{
	const char *reason = "";

	if (balloon->broken)
		return;
	stop_queues(balloon);
	balloon->features = features;
	if (start_queues(balloon, layout, state, indices, &reason)) {
		break_device(balloon, reason);
		return;
	}
	balloon->running = true;
	if (atomic_load(&balloon->config.num_pages) !=
	    atomic_load(&balloon->config.actual))
		balloon->options.protocol->request_target(balloon);
}

void balloon_reset(struct balloon *balloon)
{
	stop_queues(balloon);
	balloon->running = false;
	balloon->broken = false;
	balloon->features = 0;
	atomic_store(&balloon->config.actual, 0);
	atomic_store(&balloon->config.free_page_hint_cmd_id,
		     VIRTIO_BALLOON_CMD_ID_STOP);
	atomic_store(&balloon->config.poison_val, 0);

	/* The guest that gave these hints is gone, and with it the promise
	 * that it does not need the pages (R15). */
	if (balloon->report.hinted)
		page_set_clear(balloon->report.hinted);
	balloon->report.hinted = NULL;
	balloon_report_set_state(balloon, REPORT_IDLE);
}

void balloon_set_target(struct balloon *balloon, uint32_t pages)
{
	if (atomic_exchange(&balloon->config.num_pages, pages) == pages)
		return;
	if (balloon->running)
		balloon->options.protocol->request_target(balloon);
}

/*
 * Inflate and deflate
 */

/* Add what is RAM of @count frame numbers to the frames of this drain. */
static void gather(struct balloon *balloon, const __le32 *frames,
		   uint64_t count)
{
	struct page_run run = { 0, 1 };
	struct gpa start;
	uint64_t i;

	for (i = 0; i < count; i++) {
		run.first = le32_get(frames[i]);
		start.value = run.first << GUEST_PAGE_SHIFT;
		if (guest_memory_span(balloon->memory, start, GUEST_PAGE_SIZE))
			page_set_add(&balloon->run_pages, run);
		else
			balloon->counters.bad_frames++;
	}
}

/* Return: frame numbers read */
static uint64_t gather_buffer(struct balloon *balloon,
			      const struct virtqueue *queue)
{
	const struct virtqueue_chain *chain = &balloon->chain;
	uint64_t bytes = chain->readable_bytes;
	__le32 frames[FRAMES_CHUNK];
	uint64_t at, part;

	/* An array that ends within a number is no array of numbers. */
	if (!bytes || bytes % 4 || bytes / 4 > FRAMES_BUDGET) {
		balloon->counters.malformed++;
		return 0;
	}
	for (at = 0; at < bytes; at += part) {
		part = bytes - at < sizeof(frames) ? bytes - at
						   : sizeof(frames);
		if (virtqueue_copy_out(queue, chain, at, frames, part)) {
			balloon->counters.malformed++;
			break;
		}
		gather(balloon, frames, part / 4);
	}
	return at / 4;
}

/* Call @tell once per run of the frames gathered, cut where regions meet. */
static void tell_runs(struct balloon *balloon,
		      void (*tell)(void *host, struct page_run run))
{
	struct page_run run = { 0, 0 };
	struct gpa start;
	uint64_t length;

	while (page_set_next_run(&balloon->run_pages, run.first + run.count,
				 UINT64_MAX, &run)) {
		start.value = run.first << GUEST_PAGE_SHIFT;
		length = run.count << GUEST_PAGE_SHIFT;
		guest_memory_clip(balloon->memory, &start, &length);
		run.count = length >> GUEST_PAGE_SHIFT;
		tell(balloon->host, run);
	}
	page_set_clear(&balloon->run_pages);
}

static void publish(struct balloon *balloon, enum balloon_queue index)
{
	if (virtqueue_publish(&balloon->queue[index]))
		balloon->ops->interrupt(balloon->host, index);
}

/*
 * Take the next buffer into balloon->chain.
 *
 * Return: false when there is none, or the device broke
 */
static bool pop(struct balloon *balloon, struct virtqueue *queue)
{
	const char *reason = "";
	int popped = virtqueue_pop(queue, &balloon->chain, &reason);

	if (popped < 0)
		break_device(balloon, reason);
	return popped > 0;
}

/* Return: true when more buffers may wait */
static bool drain_frames(struct balloon *balloon, enum balloon_queue index,
			 void (*tell)(void *host, struct page_run run))
{
	struct virtqueue *queue = &balloon->queue[index];
	uint64_t frames = 0;
	unsigned int taken = 0;
	unsigned int i;

	while (taken < queue->size && frames < FRAMES_BUDGET &&
	       pop(balloon, queue)) {
		frames += gather_buffer(balloon, queue);
		balloon->heads[taken++] = balloon->chain.head;
	}
	if (balloon->broken) {
		page_set_clear(&balloon->run_pages);
		return false;
	}

	tell_runs(balloon, tell);
	for (i = 0; i < taken; i++)
		virtqueue_push(queue, balloon->heads[i], 0);
	publish(balloon, index);
	return taken == queue->size || frames >= FRAMES_BUDGET;
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
	balloon->options.protocol->command(balloon, le32_get(id));
}

/*
 * Add the whole pages of RAM within a segment. Rounded inwards: the rest of a
 * page that is hinted in part may hold live data (R21).
 *
 * Return: how many pages the segment covers
 */
static uint64_t hint_segment(struct balloon *balloon,
			     struct virtqueue_segment segment)
{
	uint64_t covered = 0;
	struct page_run run;
	uint64_t at, end, part;
	struct gpa start;

	if (!checked_add(segment.start.value, GUEST_PAGE_SIZE - 1, &at))
		return 0;
	/* Up to the end of the address space, where no RAM is. */
	if (!checked_add(segment.start.value, segment.length, &end))
		end = UINT64_MAX;
	at &= ~(GUEST_PAGE_SIZE - 1);
	end &= ~(GUEST_PAGE_SIZE - 1);
	while (at < end) {
		start.value = at;
		part = end - at;
		if (!guest_memory_clip(balloon->memory, &start, &part))
			break;
		run.first = start.value >> GUEST_PAGE_SHIFT;
		run.count = part >> GUEST_PAGE_SHIFT;
		balloon->report.counters.hinted_pages +=
			page_set_add(balloon->report.hinted, run);
		covered += run.count;
		at = start.value + part;
	}
	return covered;
}

/* Return: pages the buffer covers */
static uint64_t handle_hint(struct balloon *balloon)
{
	struct report_counters *counters = &balloon->report.counters;
	const struct virtqueue_chain *chain = &balloon->chain;
	uint64_t covered = 0;
	uint16_t i;

	if (balloon->report.state != REPORT_ACCEPTING) {
		counters->uncounted++;
		return 0;
	}
	for (i = 0; i < chain->writable; i++)
		covered += hint_segment(balloon, chain->segment[i]);
	counters->hints++;
	if (!covered)
		counters->rejected++;
	return covered;
}

/* Return: true when more buffers may wait */
static bool drain_free_pages(struct balloon *balloon)
{
	struct virtqueue *queue = &balloon->queue[BALLOON_FREE_PAGE];
	uint64_t pages = 0;
	unsigned int taken = 0;

	while (taken < queue->size && pages < HINTS_BUDGET &&
	       pop(balloon, queue)) {
		if (balloon->chain.readable)
			handle_command(balloon, queue);
		else
			pages += handle_hint(balloon);
		virtqueue_push(queue, balloon->chain.head, 0);
		taken++;
	}
	if (balloon->broken)
		return false;
	publish(balloon, BALLOON_FREE_PAGE);
	return taken == queue->size || pages >= HINTS_BUDGET;
}

/* Statistics and reporting are not offered yet. */
static bool is_served(const struct balloon *balloon, enum balloon_queue queue)
{
	return balloon->running &&
	       (queue == BALLOON_INFLATE || queue == BALLOON_DEFLATE ||
		queue == BALLOON_FREE_PAGE) &&
	       balloon->queue[queue].memory;
}

static bool drain(struct balloon *balloon, enum balloon_queue queue)
{
	const struct balloon_host_ops *ops = balloon->ops;

	if (queue == BALLOON_FREE_PAGE)
		return drain_free_pages(balloon);
	return drain_frames(balloon, queue,
			    queue == BALLOON_INFLATE ? ops->discard
						     : ops->returned);
}

bool balloon_serve(struct balloon *balloon, enum balloon_queue queue)
{
	struct virtqueue *served;

	if (!is_served(balloon, queue))
		return false;
	served = &balloon->queue[queue];
	virtqueue_disable_notify(served);
	if (drain(balloon, queue))
		return true;
	return balloon->running && virtqueue_enable_notify(served);
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
	       has_feature(balloon, VIRTIO_BALLOON_F_FREE_PAGE_HINT);
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
	balloon->options.protocol->request_start(balloon);
	return 0;
}

void balloon_report_close(struct balloon *balloon)
{
	bool signed_off = balloon->report.state == REPORT_COMPLETE;

	if (!balloon->report.hinted)
		return;
	balloon->report.hinted = NULL;
	balloon_report_set_state(balloon,
				 signed_off ? REPORT_IDLE : REPORT_CLOSED);
	balloon->options.protocol->request_stop(balloon);
}

void balloon_report_done(struct balloon *balloon)
{
	balloon_report_close(balloon);
	/* No report was ever asked for: the guest holds no page. */
	if (!balloon->report.id)
		return;
	balloon_report_set_state(balloon, REPORT_DONE);
	balloon->options.protocol->request_done(balloon);
}

/*
 * Save and load
 */

void balloon_save(const struct balloon *balloon, struct balloon_state *state)
{
	*state = (struct balloon_state){
		.num_pages = atomic_load(&balloon->config.num_pages),
		.actual = atomic_load(&balloon->config.actual),
		.free_page_hint_cmd_id =
			atomic_load(&balloon->config.free_page_hint_cmd_id),
		.poison_val = atomic_load(&balloon->config.poison_val),
		.report_id = balloon->report.id,
		.report_state = (uint32_t)balloon->report.state,
	};
}

/* What becomes of a report that was under way on the other side. */
static enum report_state loaded_state(enum report_state saved)
{
	switch (saved) {
	case REPORT_REQUESTED:
	case REPORT_ACCEPTING:
		return REPORT_CLOSED;
	case REPORT_COMPLETE:
		return REPORT_IDLE;
	default:
		return saved;
	}
}

int balloon_load(struct balloon *balloon, const struct balloon_state *state)
{
	uint32_t cmd_id = state->free_page_hint_cmd_id;

	if (state->report_state >= REPORT_STATES)
		return -1;
	if (state->report_id == VIRTIO_BALLOON_CMD_ID_DONE)
		return -1;
	if (!state->report_id && state->report_state != REPORT_IDLE)
		return -1;
	if (cmd_id != VIRTIO_BALLOON_CMD_ID_STOP &&
	    cmd_id != VIRTIO_BALLOON_CMD_ID_DONE && cmd_id != state->report_id)
		return -1;

	atomic_store(&balloon->config.num_pages, state->num_pages);
	atomic_store(&balloon->config.actual, state->actual);
	atomic_store(&balloon->config.free_page_hint_cmd_id, cmd_id);
	atomic_store(&balloon->config.poison_val, state->poison_val);
	balloon->report.id = state->report_id;
	balloon->report.hinted = NULL;
	balloon->report.state = loaded_state(
		(enum report_state)state->report_state);
	return 0;
}
