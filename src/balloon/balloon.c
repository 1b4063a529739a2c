// SPDX-License-Identifier: MIT
/*
 * Traditional memory balloon, device half, see balloon.h.
 *
 * Theory of operation. A queue is served in drains. A drain takes what is
 * available (at most one ring's worth, and no more work than a budget), does
 * it, and only then publishes the used buffers, with one decision about the
 * interrupt. Nothing is carried from one drain to the next (R25), unless the
 * driver tells before it uses a page again (hold.c).
 *
 * Whatever a guest puts into a well-formed buffer is skipped and counted where
 * it makes no sense. Only a malformed ring breaks the device.
 */
#include "balloon/balloon_internal.h"

static const struct balloon_protocol *const protocols[] = {
	&balloon_protocol_standard,
	&balloon_protocol_command_register,
	&balloon_protocol_v17,
};

const struct balloon_protocol *balloon_protocol_find(const char *name)
{
	const char *a, *b;
	unsigned int i;

	for (i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
		for (a = name, b = protocols[i]->name; *a && *a == *b; a++)
			b++;
		if (*a == *b)
			return protocols[i];
	}
	return NULL;
}

bool balloon_has_feature(const struct balloon *balloon, unsigned int bit)
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
	balloon->statistics_head = -1;
	balloon->protocol = &balloon_protocol_standard;
	options.protocol->reset(balloon);
}

/* The commands beyond those of the text are opt-in of both sides. */
static const struct balloon_protocol *spoken(const struct balloon *balloon,
					     uint64_t features)
{
	const struct balloon_protocol *offered = balloon->options.protocol;

	return offered->feature & features ? offered
					   : &balloon_protocol_standard;
}

uint64_t balloon_features(const struct balloon *balloon)
{
	const struct balloon_options *o = &balloon->options;

	return o->protocol->feature |
	       (uint64_t)o->page_ranges << BALLOON_F_PAGE_RANGES |
	       (uint64_t)o->must_tell_host << VIRTIO_BALLOON_F_MUST_TELL_HOST |
	       (uint64_t)o->statistics << VIRTIO_BALLOON_F_STATS_VQ |
	       (uint64_t)o->deflate_on_oom << VIRTIO_BALLOON_F_DEFLATE_ON_OOM |
	       (uint64_t)o->hinting << VIRTIO_BALLOON_F_FREE_PAGE_HINT |
	       (uint64_t)o->poison << VIRTIO_BALLOON_F_PAGE_POISON |
	       (uint64_t)o->reporting << VIRTIO_BALLOON_F_REPORTING;
}

bool balloon_accepts(const struct balloon *balloon, uint64_t features)
{
	const struct balloon_protocol *protocol = spoken(balloon, features);

	if (features >> BALLOON_F_PAGE_RANGES & 1 &&
	    !(features >> VIRTIO_F_VERSION_1 & 1))
		return false; /* P-1 */
	return (features & protocol->needs) == protocol->needs;
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

void balloon_break(struct balloon *balloon, const char *reason)
{
	balloon->running = false;
	balloon->broken = true;
	stop_queues(balloon);
	balloon_forget(balloon);
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
	balloon->protocol = spoken(balloon, features);
	balloon->poison = balloon_has_feature(balloon,
					      VIRTIO_BALLOON_F_PAGE_POISON) ?
				  atomic_load(&balloon->config.poison_val) : 0;
	balloon->statistics_head = -1;
	if (start_queues(balloon, layout, state, indices, &reason)) {
		balloon_break(balloon, reason);
		return;
	}
	balloon->running = true;
	if (balloon->protocol->activated)
		balloon->protocol->activated(balloon);
	if (atomic_load(&balloon->config.num_pages) !=
	    atomic_load(&balloon->config.actual))
		balloon->protocol->request_target(balloon);
}

void balloon_reset(struct balloon *balloon)
{
	stop_queues(balloon);
	balloon_forget(balloon);
	balloon->running = false;
	balloon->broken = false;
	balloon->features = 0;
	balloon->poison = 0;
	balloon->statistics_head = -1;
	if (balloon->statistics.present) {
		balloon->statistics.present = 0;
		balloon->ops->statistics_changed(balloon->host);
	}
	atomic_store(&balloon->config.actual, 0);
	atomic_store(&balloon->config.poison_val, 0);
	balloon->options.protocol->reset(balloon);
	balloon->protocol = &balloon_protocol_standard;

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
		balloon->protocol->request_target(balloon);
}

bool balloon_wants_less(const struct balloon *balloon)
{
	return atomic_load(&balloon->config.num_pages) <
	       atomic_load(&balloon->config.actual);
}

void balloon_publish(struct balloon *balloon, enum balloon_queue index)
{
	if (virtqueue_publish(&balloon->queue[index]))
		balloon->ops->interrupt(balloon->host, index);
}

bool balloon_pop(struct balloon *balloon, struct virtqueue *queue)
{
	const char *reason = "";
	int popped = virtqueue_pop(queue, &balloon->chain, &reason);

	if (popped < 0)
		balloon_break(balloon, reason);
	return popped > 0;
}

static bool is_served(const struct balloon *balloon, enum balloon_queue queue)
{
	return balloon->running && queue < BALLOON_QUEUES &&
	       balloon->queue[queue].memory;
}

static bool drain(struct balloon *balloon, enum balloon_queue queue)
{
	switch (queue) {
	case BALLOON_INFLATE:
		return balloon_drain_inflate(balloon);
	case BALLOON_DEFLATE:
		return balloon_drain_deflate(balloon);
	case BALLOON_STATS:
		return balloon_drain_statistics(balloon);
	case BALLOON_FREE_PAGE:
		return balloon_drain_free_pages(balloon);
	case BALLOON_REPORTING:
		return balloon_drain_reporting(balloon);
	case BALLOON_QUEUES:
		break;
	}
	return false;
}

/* A hint costs us less than the guest its kick, so we are through before it has
 * the next: to be told of each is what would take the time. */
static bool lingers(struct balloon *balloon, enum balloon_queue queue)
{
	return queue == BALLOON_FREE_PAGE &&
	       balloon->report.state == REPORT_ACCEPTING &&
	       balloon->ops->linger(balloon->host, &balloon->queue[queue]);
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
	if (!balloon->running)
		return false;
	return lingers(balloon, queue) || virtqueue_enable_notify(served);
}

void balloon_acknowledged(struct balloon *balloon)
{
	if (balloon->running && balloon->protocol->acknowledged)
		balloon->protocol->acknowledged(balloon);
}

/*
 * Save and load
 */

struct virtqueue_state balloon_queue_state(const struct balloon *balloon,
					   enum balloon_queue queue)
{
	struct virtqueue_state state = virtqueue_save(&balloon->queue[queue]);

	/* It is the last we took, for D16 allows no other. */
	if (queue == BALLOON_STATS && balloon->statistics_head >= 0)
		state.next_avail--;
	return state;
}

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
		.cmd_reg = atomic_load(&balloon->config.cmd_reg),
		.cmd_id_reg = atomic_load(&balloon->config.cmd_id_reg),
		.sign_due = balloon->report.sign_due,
	};
}

/* What becomes of a report that was under way on the other side. */
static enum report_state loaded_state(const struct balloon_state *state)
{
	enum report_state saved = (enum report_state)state->report_state;

	switch (saved) {
	case REPORT_REQUESTED:
	case REPORT_ACCEPTING:
		return REPORT_CLOSED;
	case REPORT_COMPLETE:
		return state->sign_due ? REPORT_CLOSED : REPORT_IDLE;
	default:
		return saved;
	}
}

int balloon_load(struct balloon *balloon, const struct balloon_state *state)
{
	uint32_t cmd_id = state->free_page_hint_cmd_id;

	if (state->report_state >= REPORT_STATES || state->sign_due > 1)
		return -1;
	if (state->report_id == VIRTIO_BALLOON_CMD_ID_DONE)
		return -1;
	if (!state->report_id && state->report_state != REPORT_IDLE)
		return -1;
	if (cmd_id != VIRTIO_BALLOON_CMD_ID_STOP &&
	    cmd_id != VIRTIO_BALLOON_CMD_ID_DONE && cmd_id != state->report_id)
		return -1;
	if (!balloon->options.protocol->feature &&
	    (state->cmd_reg || state->cmd_id_reg || state->sign_due))
		return -1;

	atomic_store(&balloon->config.num_pages, state->num_pages);
	atomic_store(&balloon->config.actual, state->actual);
	atomic_store(&balloon->config.free_page_hint_cmd_id, cmd_id);
	atomic_store(&balloon->config.poison_val, state->poison_val);
	atomic_store(&balloon->config.cmd_reg, state->cmd_reg);
	atomic_store(&balloon->config.cmd_id_reg, state->cmd_id_reg);
	balloon->report.id = state->report_id;
	balloon->report.hinted = NULL;
	balloon->report.sign_due = state->sign_due;
	balloon->report.deferred = false;
	balloon->report.state = loaded_state(state);
	return balloon->options.protocol->loaded &&
			       !balloon->options.protocol->loaded(balloon) ?
		       -1 : 0;
}
