// SPDX-License-Identifier: MIT
/*
 * A move: what the real source and the real destination ask of a machine, as
 * src/machine/move.c and balloon_state.c answer it.
 */
#include "sim.h"

#define STACK_BYTES (256u << 10)
#define STATE_BALLOON 5

static uint8_t stacks[2][STACK_BYTES] __attribute__((aligned(64)));

/* Both hosts are this program: the state goes as it lies here. */
struct saved {
	struct balloon_state balloon;
	struct virtqueue_state queue[VIRTIO_DEVICE_MAX_QUEUES];
	struct virtio_device_queue layout[VIRTIO_DEVICE_MAX_QUEUES];
	uint64_t accepted;
	uint8_t status, activated, generation;
	bool config_irq, broken;
	unsigned int queue_irq;
};

/* --------------------------------------------------------------- source --- */

static void guest_save_config(void *guest, struct buffer *config,
			      struct buffer *cpuid)
{
	edge();
	buffer_put_string(config, "vm");
	buffer_put_u32(cpuid, 0);
}

static int guest_stop(void *guest, struct error *err)
{
	struct host *host = guest;

	edge();
	if (chance(32))
		return error_set(err, "the guest does not stop");
	host_begin_change(host);
	host->was_running = host->state == HOST_RUNNING;
	host->state = HOST_FINISHING;
	host_stop(host);
	host_end_change(host);
	return 0;
}

static bool guest_was_running(void *guest)
{
	const struct host *host = guest;

	return host->was_running;
}

static void save_queues(const struct host *host, struct saved *saved)
{
	unsigned int kind;
	int index;

	for (kind = 0; kind < BALLOON_QUEUES; kind++) {
		index = balloon_queue_number(&host->balloon, kind);
		if (index >= 0)
			saved->queue[index] =
				balloon_queue_state(&host->balloon, kind);
	}
	for (index = 0; index < VIRTIO_DEVICE_MAX_QUEUES; index++)
		saved->layout[index] = host->virtio.queue[index];
}

/* Writes a page, as KVM does when it is asked for some of its state. */
static int guest_save_state(void *guest, struct state_writer *writer,
			    struct error *err)
{
	struct host *host = guest;
	struct saved saved = {
		.accepted = host->virtio.accepted,
		.status = host->virtio.status,
		.activated = host->virtio.activated,
		.generation = host->virtio.generation,
		.config_irq = host->config_irq,
		.queue_irq = host->queue_irq,
	};
	struct buffer payload = { (uint8_t *)&saved, sizeof(saved),
				  sizeof(saved), false };

	edge();
	if (chance(32))
		return error_set(err, "the state cannot be saved");
	world.guest.page[FRAME_CLOCK].version = ++world.guest.last_version;
	host_write(host, FRAME_CLOCK, world.guest.last_version);
	balloon_save(&host->balloon, &saved.balloon);
	save_queues(host, &saved);
	state_writer_add(writer, STATE_BALLOON, 0, &payload);
	edge();
	return 0;
}

static void check_finishing(const struct host *host)
{
	if (host->state != HOST_FINISHING)
		fail("one side", "the source lets go of what it did not stop");
}

static void guest_go_on(void *guest)
{
	struct host *host = guest;

	edge();
	check_finishing(host);
	host_begin_change(host);
	host->state = host->was_running ? HOST_RUNNING : HOST_PAUSED;
	if (host->was_running)
		host_run(host);
	host_end_change(host);
}

static void guest_leave(void *guest)
{
	struct host *host = guest;

	check_finishing(host);
	host->state = HOST_MOVED;
	edge();
}

static const struct migration_guest_ops guest_ops = {
	.save_config = guest_save_config,
	.stop = guest_stop,
	.was_running = guest_was_running,
	.save_state = guest_save_state,
	.go_on = guest_go_on,
	.leave = guest_leave,
};

static void source_main(void *of)
{
	migration_source_run(of, "sim");
}

/* ---------------------------------------------------------- destination --- */

/* Where a destination may refuse. */
enum {
	REFUSES_CONFIG = 1,
	REFUSES_STATE,
	REFUSES_LOADED,
};

static int refuse(unsigned int where, struct error *err)
{
	edge();
	if (world.refuse != where)
		return 0;
	return error_set(err, "not here");
}

static struct guest_memory *host_ops_create(void *of,
					    struct buffer_reader *config,
					    struct buffer_reader *cpuid,
					    struct error *err)
{
	struct host *host = of;

	if (refuse(REFUSES_CONFIG, err) < 0)
		return NULL;
	return &host->memory;
}

struct activate_call {
	struct host *host;
	const struct saved *saved;
};

static void call_activate(void *argument)
{
	struct activate_call *call = argument;

	device_activate(call->host, call->saved->queue);
}

/* Fault: the report is as if there had been none. */
static void forget(struct balloon_state *state)
{
	state->report_state = REPORT_IDLE;
	state->cmd_reg = 0;
	state->sign_due = 0;
}

static int host_ops_load_state(void *of, uint32_t kind, uint32_t instance,
			       struct buffer_reader *payload,
			       struct error *err)
{
	struct host *host = of;
	struct saved saved;
	struct activate_call call = { host, &saved };
	unsigned int i;

	if (refuse(REFUSES_STATE, err) < 0)
		return -1;
	buffer_get(payload, &saved, sizeof(saved));
	if (fault(FAULT_DESTINATION_FORGETS))
		forget(&saved.balloon);
	host->virtio.accepted = saved.accepted;
	host->virtio.status = saved.status;
	host->virtio.activated = saved.activated;
	host->virtio.generation = saved.generation;
	for (i = 0; i < VIRTIO_DEVICE_MAX_QUEUES; i++)
		host->virtio.queue[i] = saved.layout[i];
	host->features = saved.accepted;
	world.keeps_irqs = world.keeps_irqs &&
			   (world.guest.commands || world.guest.v17);
	host->config_irq = world.keeps_irqs ? false : saved.config_irq;
	host->queue_irq = saved.queue_irq;
	if (balloon_load(&host->balloon, &saved.balloon) < 0)
		fail("state", "the destination refuses what the source saved");
	host->report_state = host->balloon.report.state;
	if (saved.activated)
		host_do(host, call_activate, &call);
	return 0;
}

static void arrive(struct host *host, bool run)
{
	edge();
	check_arrived();
	guest_moved_to(host);
	device_done(host);
	/* Interrupts of the move may have got lost, and are raised again. With
	 * commands, what is pending tells of itself (D-9, W-9). */
	if (!world.keeps_irqs) {
		host->config_irq = true;
		host->queue_irq = (1u << BALLOON_QUEUES) - 1;
	}
	run = run && !world.arrives_paused;
	host_begin_change(host);
	host->state = run ? HOST_RUNNING : HOST_PAUSED;
	trace("host %u: the guest has arrived", host->name);
	if (run)
		host_run(host);
	host_end_change(host);
}

static int host_ops_loaded(void *of, struct error *err)
{
	if (refuse(REFUSES_LOADED, err) < 0)
		return -1;
	if (fault(FAULT_COMMIT_TOO_EARLY))
		arrive(of, true);
	return 0;
}

static void host_ops_arrive(void *of, bool run)
{
	if (!fault(FAULT_COMMIT_TOO_EARLY))
		arrive(of, run);
}

static const struct migration_host_ops host_ops = {
	.create = host_ops_create,
	.load_state = host_ops_load_state,
	.loaded = host_ops_loaded,
	.arrive = host_ops_arrive,
};

static void destination_main(void *of)
{
	struct channel *channel = &world.destination_channel;

	channel_open(channel, 1);
	world.destination_rc =
		migration_destination_run(channel, &host_ops, of,
					  &world.destination_error);
	trace("destination: %s", world.destination_rc ?
	      world.destination_error.message : "has the guest");
	channel_close(channel);
}

void move_connected(void)
{
	coroutine_start(&world.destination_thread, stacks[1], STACK_BYTES,
			destination_main, world.to);
}

/* ----------------------------------------------------------------- life --- */

static struct migration_options draw_options(void)
{
	static const uint64_t downtimes[] = { 300, 300, 2000, 30, 1 };

	return (struct migration_options){
		.downtime_ms = downtimes[draw(5)],
		.bandwidth = chance(4) ? GUEST_PAGE_SIZE * (1 + draw(4)) : 0,
		.hinting = !chance(16),
		.verify = chance(8),
	};
}

bool move_begin(void)
{
	struct migration_source *source = &world.source;

	if (world.moving || world.moves == world.setup.moves ||
	    (world.here->state != HOST_RUNNING &&
	     world.here->state != HOST_PAUSED))
		return false;
	world.from = world.here;
	world.to = &world.host[!world.from->name];
	host_create(world.to, true);
	link_reset(&world.link, world.setup.room);
	migration_source_init(source, &world.from->memory, NULL);
	source->dirty_log = &world.from->log.log;
	source->free_pages = &world.from->source;
	source->ops = &guest_ops;
	source->guest = world.from;
	source->options = draw_options();
	world.refuse = chance(8) ? 1 + draw(3) : 0;
	world.keeps_irqs = chance(2);
	world.arrives_paused = chance(16);
	world.destination_rc = -1;
	world.destination_error.message[0] = '\0';
	world.moving = true;
	world.moves++;
	tally.started++;
	coroutine_start(&world.source_thread, stacks[0], STACK_BYTES,
			source_main, source);
	trace("user: moves the guest from %u to %u", world.from->name,
	      world.to->name);
	return true;
}

bool move_over(void *unused)
{
	return world.moving && !world.source_thread.active &&
	       !world.destination_thread.active;
}

static void count(const struct migration_status *status)
{
	tally.left_out += status->pages_hinted;
	tally.zeroing += world.source.zeroing;
	switch (status->state) {
	case MIGRATION_COMPLETED:
	case MIGRATION_UNKNOWN:
		tally.committed++;
		tally.verified += world.source.options.verify;
		break;
	case MIGRATION_CANCELLED:
		tally.cancelled++;
		break;
	default:
		tally.failed++;
		break;
	}
}

void move_conclude(void)
{
	struct migration_source *source = &world.source;

	trace("source: %s %s", migration_state_name(source->status.state),
	      source->status.error);
	count(&source->status);
	if (strstr(world.destination_error.message, "verification"))
		fail("verify", "%s", world.destination_error.message);
	if (source->committed != world.link.commit_sent)
		fail("one side", "the source is wrong about COMMIT");
	if (!world.destination_rc && !source->committed)
		fail("one side", "it arrived without COMMIT");
	if (source->status.state == MIGRATION_UNKNOWN &&
	    !world.destination_rc && !world.link.disturbed)
		fail("outcome", "it has moved and the source does not know");
	world.lost = source->committed && world.destination_rc;
	tally.lost += world.lost;
	if (!world.lost)
		check_memory(source->committed ? "it has moved" :
						 "it stayed");
	migration_source_destroy(source);
	world.moving = false;
}
