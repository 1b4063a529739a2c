// SPDX-License-Identifier: MIT
/*
 * The protocol of VIRTIO 1.3 section 5.5.6.6, spoken by stock Linux: the host
 * writes free_page_hint_cmd_id, the guest answers in the free page queue.
 *
 * The register says what is so at any moment: the id while a report is
 * requested and while it accepts (V8; a driver that reads it again for
 * whatever reason must not find STOP there), STOP once hints are of no use
 * (V6), DONE once the guest may have its pages back (V11).
 */
#include "balloon/balloon_internal.h"

static void set_register(struct balloon *balloon, uint32_t value)
{
	if (atomic_exchange_explicit(&balloon->config.free_page_hint_cmd_id,
				     value, memory_order_acq_rel) != value)
		balloon_config_changed(balloon);
}

static void reset(struct balloon *balloon)
{
	atomic_store(&balloon->config.free_page_hint_cmd_id,
		     VIRTIO_BALLOON_CMD_ID_STOP);
}

/*
 * A driver may keep all its ids in one word, so that an id it sent before turns
 * into the new one while it is still in the queue, and what was hinted behind it
 * would count (R4). So the queue is emptied before the guest can know the new
 * id. Nothing in it counts, and a driver has at most a ring of it: once is
 * enough. (With commands the sign of the last report has come back by now.)
 */
static void request_start(struct balloon *balloon)
{
	balloon_drain_free_pages(balloon);
	set_register(balloon, balloon->report.id);
}

static void request_stop(struct balloon *balloon)
{
	set_register(balloon, VIRTIO_BALLOON_CMD_ID_STOP);
}

static void request_done(struct balloon *balloon)
{
	set_register(balloon, VIRTIO_BALLOON_CMD_ID_DONE);
}

static void request_target(struct balloon *balloon)
{
	balloon_config_changed(balloon);
}

/*
 * While requested, everything but the new id was sent for an earlier report,
 * a late stop sign too (R5). The id opens once: a guest that repeats it later
 * would have the host leave out pages it has not armed anew (R7).
 *
 * While accepting, any out-buffer ends it. The sign says so. Another id means
 * that the pages behind it are not ours to count (V8). The same id once more
 * breaks D26, and such a driver is not relied on: too few hints cost time, one
 * too many costs a page.
 */
static void command(struct balloon *balloon, uint32_t id)
{
	switch (balloon->report.state) {
	case REPORT_REQUESTED:
		if (id == balloon->report.id)
			balloon_report_set_state(balloon, REPORT_ACCEPTING);
		break;
	case REPORT_ACCEPTING:
		balloon_report_set_state(balloon, REPORT_COMPLETE);
		break;
	case REPORT_CLOSED:
		if (id == VIRTIO_BALLOON_CMD_ID_STOP)
			balloon_report_set_state(balloon, REPORT_IDLE);
		break;
	case REPORT_IDLE:
	case REPORT_COMPLETE:
	case REPORT_DONE:
	case REPORT_STATES:
		break;
	}
}

const struct balloon_protocol balloon_protocol_standard = {
	.name = "standard",
	.reset = reset,
	.request_start = request_start,
	.request_stop = request_stop,
	.request_done = request_done,
	.request_target = request_target,
	.command = command,
};
