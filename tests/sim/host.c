// SPDX-License-Identifier: MIT
/*
 * A machine without a kernel: its memory, its device and whether its guest's
 * CPUs run, as src/machine has them.
 */
#include "sim.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#include "balloon/page_ranges.h"

#define STACK_BYTES (64u << 10)

static uint8_t ram[2][RAM_PAGES * GUEST_PAGE_SIZE]
	__attribute__((aligned(4096)));
static uint8_t stacks[2][STACK_BYTES] __attribute__((aligned(64)));

/* -------------------------------------------------------- the transport --- */

static bool on_accepts(void *owner, uint64_t features)
{
	struct host *host = owner;

	return balloon_accepts(&host->balloon, features);
}

static void on_status_changed(void *owner)
{
	struct host *host = owner;

	host->posted = true;
}

static void on_config_read(void *owner, uint32_t offset, void *to,
			   uint32_t length)
{
	struct host *host = owner;

	balloon_config_read(&host->balloon, offset, to, length);
}

static void on_config_write(void *owner, uint32_t offset, const void *from,
			    uint32_t length)
{
	struct host *host = owner;

	if (balloon_config_write(&host->balloon, offset, from, length) !=
	    BALLOON_WROTE_COMMAND)
		return;
	host->acknowledged = true;
	host->posted = true;
}

static void on_kick(void *owner, uint16_t queue)
{
	struct host *host = owner;

	host->kicked |= 1u << queue;
}

const struct virtio_device_ops sim_virtio_ops = {
	.accepts = on_accepts,
	.status_changed = on_status_changed,
	.config_read = on_config_read,
	.config_write = on_config_write,
	.kick = on_kick,
};

/* --------------------------------------------------------------- memory --- */

static void add_region(struct host *host, uint64_t first, uint64_t pages)
{
	struct memory_region region = {
		.start = { first << GUEST_PAGE_SHIFT },
		.size = pages << GUEST_PAGE_SHIFT,
		.host = frame_at(host, first),
	};

	if (guest_memory_add_region(&host->memory, region) < 0)
		fail("sim", "a region does not fit");
}

static void create_memory(struct host *host)
{
	host->ram = ram[host->name];
	backing_reset(host);
	page_set_free(&host->memory.written);
	page_set_free(&host->scratch);
	page_set_free(&host->inside);
	page_set_free(&host->held);
	memset(&host->memory, 0, sizeof(host->memory));
	add_region(host, 0, LOW_PAGES);
	add_region(host, HIGH_FIRST, HIGH_PAGES);
	host->memory.backing = world.setup.memfd[host->name] ?
				       BACKING_MEMFD : BACKING_ANONYMOUS;
	page_set_create(&host->memory.written, FRAMES, NULL);
	page_set_create(&host->scratch, FRAMES, NULL);
	page_set_create(&host->inside, FRAMES, NULL);
	page_set_create(&host->held, FRAMES, NULL);
}

void host_write(struct host *host, uint64_t frame, uint32_t version)
{
	struct gpa start = { frame << GUEST_PAGE_SHIFT };

	guest_fill(host, frame, version);
	guest_memory_mark_dirty(&host->memory, start, GUEST_PAGE_SIZE);
}

/* ----------------------------------------------------------------- life --- */

void host_create(struct host *host, bool incoming)
{
	struct balloon_options options = {
		.hinting = true,
		.reporting = world.setup.offered >> VIRTIO_BALLOON_F_REPORTING
			     & 1,
		.statistics = world.setup.offered >> VIRTIO_BALLOON_F_STATS_VQ
			      & 1,
		.must_tell_host = true,
		.page_ranges = world.setup.offered >> BALLOON_F_PAGE_RANGES & 1,
		.protocol = sim_protocols[world.setup.protocol],
	};

	create_memory(host);
	host->log = (struct host_log){ .log.ops = &sim_log_ops };
	host->source.ops = &sim_free_page_ops;
	balloon_init(&host->balloon, options, &host->memory, host->scratch,
		     &sim_balloon_ops, host);
	balloon_hold(&host->balloon, (struct balloon_hold){
			     .block = world.setup.block,
			     .most = world.setup.held_most },
		     host->inside, host->held);
	host->report_state = REPORT_IDLE;
	virtio_device_init(&host->virtio, VIRTIO_ID_BALLOON,
			   balloon_features(&host->balloon) |
				   1ull << VIRTIO_F_VERSION_1 |
				   1ull << VIRTIO_RING_F_EVENT_IDX,
			   BALLOON_QUEUES, RING_MAX, &sim_virtio_ops, host);
	host->features = 0;
	host->state = incoming ? HOST_INCOMING : HOST_PAUSED;
	host->was_running = host->changing = host->cpus_run = false;
	host->quiet = true;
	host->posted = host->acknowledged = false;
	host->kicked = host->queue_irq = host->lates = host->hidden = 0;
	host->config_irq = false;
	host->calls = NULL;
	coroutine_start(&host->device, stacks[host->name], STACK_BYTES,
			device_main, host);
}

void host_boot(struct host *host)
{
	host_write(host, FRAME_IMAGE, ++world.guest.last_version);
	world.guest.page[FRAME_IMAGE].version = world.guest.last_version;
	edge();
	host_write(host, FRAME_CLOCK, ++world.guest.last_version);
	world.guest.page[FRAME_CLOCK].version = world.guest.last_version;
	guest_boot();
}

static void call_quiet(void *argument)
{
	struct host *host = argument;

	host->quiet = true;
}

static void call_resume(void *argument)
{
	struct host *host = argument;

	host->quiet = false;
	host->kicked = (1u << BALLOON_QUEUES) - 1;
}

void host_stop(struct host *host)
{
	host->cpus_run = false;
	edge();
	if (!fault(FAULT_STOP_NOT_QUIET))
		host_do(host, call_quiet, host);
	device_flush(host);
	trace("host %u: stands still", host->name);
}

void host_run(struct host *host)
{
	host_do(host, call_resume, host);
	check_runs(host);
	host->cpus_run = true;
	trace("host %u: runs", host->name);
}

static bool is_settled(void *of)
{
	const struct host *host = of;

	return !host->changing;
}

void host_begin_change(struct host *host)
{
	while (host->changing && !fault(FAULT_RUN_BESIDE_STOP))
		coroutine_wait(is_settled, host, NEVER);
	host->changing = true;
}

void host_end_change(struct host *host)
{
	host->changing = false;
	edge();
}
