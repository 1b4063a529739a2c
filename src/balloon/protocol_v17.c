// SPDX-License-Identifier: MIT
/*
 * The v17 protocol, device half: docs/spec/v17.md, whose rules are cited by
 * number.
 *
 * Requests are those of the command register, in host2guest_cmd. The guest's
 * word that it has no more comes through guest2host_cmd instead of the queue:
 * nothing orders it against the pages, it names no report, and it looks like an
 * acknowledgement. So it is believed in one thing only, that nothing more need
 * be counted; whoever goes on closes the report first, as with the others. A
 * STOP that was meant for another report then costs hints, and no page.
 */
#include "balloon/balloon_internal.h"

#include <linux/virtio_config.h>

static void reset(struct balloon *balloon)
{
	atomic_store(&balloon->config.free_page_hint_cmd_id,
		     VIRTIO_BALLOON_CMD_ID_DONE);
	atomic_store(&balloon->config.cmd_reg, 0);
	atomic_store(&balloon->config.cmd_id_reg, 0);
	atomic_store(&balloon->config.acknowledged, 0);
}

/*
 * W-3. What is in the queue was handed over before the log was armed for this
 * report: it must be gone before a driver that keeps its ids in one word can
 * make an old buffer say the new id (R4). A STOP that came so far belongs to an
 * earlier report, and so does one that the driver has yet to see: START tells
 * it as much.
 */
static void request_start(struct balloon *balloon)
{
	balloon_drain_free_pages(balloon);
	atomic_fetch_and_explicit(&balloon->config.cmd_reg,
				  ~BALLOON_V17_REPORT_STOP,
				  memory_order_acq_rel);
	atomic_store(&balloon->config.acknowledged, 0);
	atomic_store_explicit(&balloon->config.cmd_id_reg, balloon->report.id,
			      memory_order_release);
	balloon_raise(balloon, BALLOON_V17_REPORT_START);
}

static bool is_under_way(const struct balloon *balloon)
{
	return balloon->report.state == REPORT_REQUESTED ||
	       balloon->report.state == REPORT_ACCEPTING;
}

/* W-6: not to a driver that has said STOP, or it would say it once more and end
 * the next report. */
static void request_stop(struct balloon *balloon)
{
	if (is_under_way(balloon))
		balloon_raise(balloon, BALLOON_V17_REPORT_STOP);
}

/* W-7: the guest took its pages back when it said STOP. */
static void request_done(struct balloon *balloon)
{
}

static void request_target(struct balloon *balloon)
{
	balloon_raise(balloon, BALLOON_V17_BALLOONING);
}

/* W-5. */
static void command(struct balloon *balloon, uint32_t id)
{
	if (balloon->report.state == REPORT_ACCEPTING)
		balloon_report_set_state(balloon, REPORT_COMPLETE);
	else if (balloon->report.state == REPORT_REQUESTED &&
		 id == balloon->report.id)
		balloon_report_set_state(balloon, REPORT_ACCEPTING);
}

/* The guest's STOP ends what is under way, whichever it was meant for. */
static void acknowledged(struct balloon *balloon)
{
	uint32_t written = atomic_exchange_explicit(
		&balloon->config.acknowledged, 0, memory_order_acq_rel);

	if (!(written & BALLOON_V17_REPORT_STOP))
		return;
	if (is_under_way(balloon))
		balloon_report_set_state(balloon, REPORT_COMPLETE);
	else if (balloon->report.state == REPORT_CLOSED)
		balloon_report_set_state(balloon, REPORT_IDLE);
}

/* On a destination (W-9): the interrupt for what is pending may have got lost
 * between the machines. */
static void activated(struct balloon *balloon)
{
	if (balloon_pending(balloon))
		balloon_config_changed(balloon);
}

static bool loaded(const struct balloon *balloon)
{
	uint32_t id = atomic_load(&balloon->config.cmd_id_reg);
	uint32_t bits = balloon_pending(balloon);

	if (bits & ~BALLOON_V17_KNOWN || id == VIRTIO_BALLOON_CMD_ID_DONE ||
	    balloon->report.sign_due)
		return false;
	/* START comes with an id and leaves it there; a STOP follows it. */
	if (!id && bits & (BALLOON_V17_REPORT_START | BALLOON_V17_REPORT_STOP))
		return false;
	if (id && !balloon->report.id)
		return false;
	/* With this protocol spoken the standard register does not move. */
	return (!id && !bits) ||
	       atomic_load(&balloon->config.free_page_hint_cmd_id) ==
		       VIRTIO_BALLOON_CMD_ID_DONE;
}

const struct balloon_protocol balloon_protocol_v17 = {
	.name = "v17",
	.feature = 1ull << BALLOON_F_V17,
	.needs = 1ull << VIRTIO_F_VERSION_1 |
		 1ull << VIRTIO_BALLOON_F_FREE_PAGE_HINT,
	.command_at = BALLOON_V17_HOST2GUEST_CMD,
	.command_id_at = BALLOON_V17_FREE_PAGE_CMD_ID,
	.acknowledge_at = BALLOON_V17_GUEST2HOST_CMD,
	.config_size = BALLOON_V17_GUEST2HOST_CMD + 4,
	.reset = reset,
	.request_start = request_start,
	.request_stop = request_stop,
	.request_done = request_done,
	.request_target = request_target,
	.command = command,
	.acknowledged = acknowledged,
	.activated = activated,
	.loaded = loaded,
};
