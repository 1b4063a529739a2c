// SPDX-License-Identifier: MIT
/*
 * What must hold, and a second, plainer account of which pages count: it sees
 * what the driver put into the free page queue and how far the device has taken
 * it.
 */
#include "sim.h"

#include "base/endian.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

static struct {
	bool asked, accepting;
	bool trusted; /* fault v17_trusts_stop */
	uint32_t id;
	struct frames hinted;
	uint64_t hints;
	uint64_t ids, signs; /* taken, of this driver */
} model;

void fail(const char *invariant, const char *format, ...)
{
	va_list args;

	if (world.failed)
		return;
	va_start(args, format);
	vsnprintf(world.why, sizeof(world.why), format, args);
	va_end(args);
	world.failed = invariant;
	trace("FAILED %s: %s", invariant, world.why);
	/* Never to go on; nothing but the scheduler sees it. */
	while (coroutine_now)
		coroutine_yield();
}

/* --------------------------------------------------------------- memory --- */

static void check_page(const struct host *host, unsigned int frame,
		       const char *when)
{
	uint32_t version = world.guest.page[frame].version;
	const uint64_t *at = frame_at(host, frame);

	if (page_filled(at, version))
		return;
	fail("memory", "%s: page %u holds %#llx, not version %u (%#llx)", when,
	     frame, (unsigned long long)at[0], version,
	     version * 0x9e3779b97f4a7c15ull);
}

static void check_live(const struct host *host, const char *when)
{
	const struct guest *guest = &world.guest;
	unsigned int i;

	check_page(host, FRAME_IMAGE, when);
	check_page(host, FRAME_CLOCK, when);
	for (i = 0; i < guest->usables; i++)
		if (guest->page[guest->usable[i]].state == PAGE_LIVE)
			check_page(host, guest->usable[i], when);
}

void check_memory(const char *when)
{
	check_live(world.here, when);
}

/* Before the guest runs at the destination. Rings are as they were left. */
void check_arrived(void)
{
	unsigned int frame;

	const struct guest *guest = &world.guest;
	unsigned int i;

	check_live(world.to, "on arrival");
	for (i = 0; i < guest->usables; i++)
		if (guest->page[guest->usable[i]].state == PAGE_LIVE &&
		    page_set_contains(&world.source.left_out,
				      guest->usable[i]))
			fail("left out", "page %u is live", guest->usable[i]);
	for (frame = FRAME_REPORT; frame <= FRAME_RINGS; frame++)
		if (memcmp(frame_at(world.to, frame),
			   frame_at(world.from, frame), GUEST_PAGE_SIZE))
			fail("memory", "on arrival: page %u of rings differs",
			     frame);
}

void check_runs(const struct host *host)
{
	if (world.host[!host->name].cpus_run)
		fail("one side", "host %u runs beside the other", host->name);
	if (world.moving &&
	    world.link.commit_sent != (host == world.to))
		fail("one side", "host %u runs %s COMMIT", host->name,
		     world.link.commit_sent ? "after" : "before");
}

/* --------------------------------------------------------------- report --- */

void check_state_change(enum report_state from, enum report_state to)
{
#define TO(state) (1u << REPORT_##state)
	static const unsigned int allowed[REPORT_STATES] = {
		[REPORT_IDLE] = TO(REQUESTED) | TO(DONE),
		[REPORT_REQUESTED] = TO(ACCEPTING) | TO(COMPLETE) | TO(CLOSED) |
				     TO(IDLE),
		[REPORT_ACCEPTING] = TO(COMPLETE) | TO(CLOSED) | TO(IDLE),
		[REPORT_COMPLETE] = TO(CLOSED) | TO(IDLE),
		[REPORT_CLOSED] = TO(IDLE) | TO(REQUESTED) | TO(DONE),
		[REPORT_DONE] = TO(REQUESTED) | TO(IDLE),
	};
#undef TO

	if (!(allowed[from] & 1u << to))
		fail("report state", "from %s to %s", report_state_name(from),
		     report_state_name(to));
}

/* cmd_id_reg moves with START only, to an id that was never used, when nothing
 * else waits for the driver, and when that has every slot back (D-3 to D-5). */
static void check_start(uint32_t id)
{
	const struct balloon *balloon = &world.here->balloon;
	struct guest *guest = &world.guest;
	const struct vring_driver *ring = &guest->ring[BALLOON_FREE_PAGE];

	if ((atomic_load(&balloon->config.cmd_reg) & BALLOON_CMD_REPORT) !=
		    BALLOON_CMD_REPORT_START ||
	    balloon->report.state != REPORT_REQUESTED ||
	    id != balloon->report.id)
		fail("START", "%#x beside commands %#x, state %s", id,
		     atomic_load(&balloon->config.cmd_reg),
		     report_state_name(balloon->report.state));
	if (guest->signs != guest->starts || guest->open ||
	    le16_load(&ring->used->idx) != ring->next_avail)
		fail("START", "%#x before the last one's sign is back", id);
	guest->starts++;
	tally.starts++;
}

/* START takes a STOP back (W-3). */
static void check_v17_start(uint32_t id)
{
	const struct balloon *balloon = &world.here->balloon;
	uint32_t bits = atomic_load(&balloon->config.cmd_reg);

	if (!(bits & BALLOON_V17_REPORT_START) ||
	    bits & BALLOON_V17_REPORT_STOP ||
	    balloon->report.state != REPORT_REQUESTED ||
	    id != balloon->report.id)
		fail("START", "%#x beside commands %#x, state %s", id, bits,
		     report_state_name(balloon->report.state));
	world.guest.starts++;
	tally.starts++;
}

void check_registers(void)
{
	uint32_t id = atomic_load(&world.here->balloon.config.cmd_id_reg);

	if (id != world.guest.seen_cmd_id && id &&
	    world.guest.driver == DRIVER_OK)
		(world.guest.v17 ? check_v17_start : check_start)(id);
	world.guest.seen_cmd_id = id;
}

/* A report that was closed: the driver was told, or will be when it looks. */
void check_stopped(const struct host *host, bool made)
{
	const struct balloon *balloon = &host->balloon;
	uint32_t id = atomic_load(&balloon->config.free_page_hint_cmd_id);

	if (balloon->running && id >= 2)
		fail("STOP", "the register still reads %#x", id);
	if (made && world.guest.commands && balloon->report.sign_due &&
	    !balloon->report.stop_raised)
		fail("STOP", "it was not made");
}

void model_reset(void)
{
	memset(&model, 0, sizeof(model));
}

void model_start(struct host *host)
{
	uint32_t id = host->balloon.report.id;

	if (id <= world.last_id)
		fail("id", "%#x after %#x", id, world.last_id);
	world.last_id = id;
	model.asked = true;
	model.accepting = false;
	model.trusted = false;
	model.id = id;
	model.hinted = (struct frames){ { 0 } };
	model.hints = 0;
}

void model_close(void)
{
	model.asked = model.accepting = false;
}

void model_hear_stop(void)
{
	model.trusted = model.asked || model.accepting;
	model_close();
}

/* Fault: late pages are left out all the same. */
static void count_late(const struct host *host, struct page_run run)
{
	if (!world.moving || world.from != host || model.asked)
		return;
	page_set_remove(&world.source.to_send, run);
	page_set_add(&world.source.left_out, run);
}

static void model_block(const struct host *host, struct page_run run)
{
	uint64_t frame;

	for (frame = run.first; frame < run.first + run.count; frame++) {
		world.guest.page[frame].queued = false;
		if (model.accepting)
			frames_add(&model.hinted, frame);
	}
	model.hints += model.accepting;
	tally.hints += model.accepting;
	tally.hinted_pages += model.accepting ? run.count : 0;
	if (!model.accepting && (fault(FAULT_COUNT_AFTER_STOP) ||
				 (fault(FAULT_V17_TRUSTS_STOP) &&
				  model.trusted)))
		count_late(host, run);
}

static void model_take(const struct host *host, const struct sent *sent)
{
	switch (sent->kind) {
	case SENT_ID:
		model.ids++;
		if (model.asked && sent->id == model.id) {
			model.accepting = true;
			model.asked = false;
		} else {
			model.accepting = false;
		}
		break;
	case SENT_SIGN:
		model.signs++;
		model.accepting = false;
		break;
	case SENT_BLOCK:
		model_block(host, sent->run);
		break;
	}
}

static void check_counted(const struct balloon *balloon)
{
	const struct page_set *hinted = balloon->report.hinted;

	if (!hinted)
		return;
	if (page_set_word(hinted, 0) != model.hinted.word[0] ||
	    page_set_word(hinted, 1) != model.hinted.word[1] ||
	    balloon->report.counters.hints != model.hints)
		fail("counted", "%llu hints, not %llu",
		     (unsigned long long)balloon->report.counters.hints,
		     (unsigned long long)model.hints);
}

void model_served(struct host *host)
{
	const struct virtqueue *queue = &host->balloon.queue[BALLOON_FREE_PAGE];
	struct guest *guest = &world.guest;

	if (!queue->memory || host != world.here)
		return;
	while (guest->taken != queue->next_avail)
		model_take(host, &guest->sent[guest->taken++ % SENT_MAX]);
	check_counted(&host->balloon);
}

/* ---------------------------------------------------------------- quiet --- */

static void check_balloon(void)
{
	const struct balloon *balloon = &world.here->balloon;
	const struct adjust *adjust = &world.guest.adjust;
	uint32_t target = atomic_load(&balloon->config.num_pages);

	if (target != world.target || adjust->target != target)
		fail("balloon", "asked for %u, register %u, driver %u",
		     world.target, target, adjust->target);
	if (adjust->actual != target || adjust->state != SETTLED ||
	    atomic_load(&balloon->config.actual) != target ||
	    world.guest.in_state[PAGE_BALLOON] != target)
		fail("balloon", "%u pages of %u, actual reads %u",
		     adjust->actual, target,
		     atomic_load(&balloon->config.actual));
}

static void check_report(void)
{
	const struct balloon *balloon = &world.here->balloon;
	const struct guest *guest = &world.guest;

	if (guest->in_state[PAGE_HELD])
		fail("DONE", "%u pages did not come back",
		     guest->in_state[PAGE_HELD]);
	if (guest->open ||
	    (guest->commands && guest->starts != model.signs) ||
	    (!guest->commands && !guest->v17 && model.ids != model.signs))
		fail("sign", "%llu starts, %llu ids, %llu signs",
		     (unsigned long long)guest->starts,
		     (unsigned long long)model.ids,
		     (unsigned long long)model.signs);
	if (atomic_load(&balloon->config.cmd_reg) || balloon->report.sign_due ||
	    balloon->report.deferred)
		fail("commands", "%#x is pending, sign %u, start %u",
		     atomic_load(&balloon->config.cmd_reg),
		     balloon->report.sign_due, balloon->report.deferred);
}

static void check_rings(void)
{
	const struct vring_driver *ring;
	unsigned int queue;

	for (queue = 0; queue < BALLOON_QUEUES; queue++) {
		ring = &world.guest.ring[queue];
		if (!ring->size || queue == BALLOON_STATS)
			continue;
		if (le16_load(&ring->used->idx) != ring->next_avail)
			fail("ring", "queue %u keeps a buffer", queue);
	}
}

void check_quiet(void)
{
	if (world.guest.driver != DRIVER_OK || !world.here->cpus_run)
		fail("quiet", "the guest does not run");
	check_balloon();
	check_report();
	check_rings();
	check_memory("when all is quiet");
}
