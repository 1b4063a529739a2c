// SPDX-License-Identifier: MIT
/*
 * The command-register protocol, device half: docs/spec/command-register.md,
 * whose rules are cited by number.
 *
 * Theory of operation. A request stores its own register and then sets its bit
 * in cmd_reg; the driver's acknowledgement clears the bit and reads the
 * register after that. cmd_reg is the one word that two threads write: the
 * device thread sets bits, a vCPU clears some in balloon_config_write(). Both
 * do it in one atomic operation, so that neither undoes the other; the order of
 * these operations is what the protocol rests on:
 *  - the bit is set with release and looked at with acquire, so a driver that
 *    has seen it, or has cleared it, reads a register at least as new;
 *  - a request that finds its bit still set was made before the bit is cleared,
 *    so the driver has yet to read its register.
 * All else here is the device thread's.
 *
 * A START is answered by one sign. Between the two, report.sign_due is set;
 * stop_raised and sign_taken say how far that has gone. What report.state says
 * beside it is whether hints count, and what the host may expect.
 */
#include "balloon/balloon_internal.h"

#include <linux/virtio_config.h>

static void reset(struct balloon *balloon)
{
	atomic_store(&balloon->config.free_page_hint_cmd_id,
		     VIRTIO_BALLOON_CMD_ID_DONE);
	atomic_store(&balloon->config.cmd_reg, 0);
	atomic_store(&balloon->config.cmd_id_reg, 0);
	balloon->report.sign_due = false;
	balloon->report.sign_taken = false;
	balloon->report.stop_raised = false;
	balloon->report.deferred = false;
}

/*
 * D-3. A START before the sign of the last one has come back could find no slot
 * in the ring for its own. One beside a STOP or DONE that the driver may have
 * read but not yet acknowledged would be ended by it, or would see it vanish
 * by an acknowledgement that was meant for the older one.
 */
static void start_if_possible(struct balloon *balloon)
{
	if (!balloon->report.deferred || balloon->report.sign_due ||
	    balloon_pending(balloon) & BALLOON_CMD_REPORT)
		return;
	balloon->report.deferred = false;
	balloon->report.sign_due = true;
	balloon->report.sign_taken = false;
	balloon->report.stop_raised = false;
	atomic_store_explicit(&balloon->config.cmd_id_reg, balloon->report.id,
			      memory_order_release);
	balloon_raise(balloon, BALLOON_CMD_REPORT_START);
}

static void request_start(struct balloon *balloon)
{
	balloon->report.deferred = true;
	start_if_possible(balloon);
}

/* A START the driver has not been told of is dropped (D-3). One whose sign was
 * taken has ended by itself: there is nothing to stop. */
static void request_stop(struct balloon *balloon)
{
	if (balloon->report.deferred) {
		balloon->report.deferred = false;
		return;
	}
	if (!balloon->report.sign_due || balloon->report.sign_taken ||
	    balloon->report.stop_raised)
		return;
	balloon->report.stop_raised = true;
	balloon_raise(balloon, BALLOON_CMD_REPORT_STOP);
}

static void request_done(struct balloon *balloon)
{
	balloon_raise(balloon, BALLOON_CMD_REPORT_DONE);
}

static void request_target(struct balloon *balloon)
{
	balloon_raise(balloon, BALLOON_CMD_BALLOONING);
}

/* The sign was taken; it counts as given when it has been returned (D-5). While
 * a START waits the sign belongs to the one before. */
static void take_sign(struct balloon *balloon)
{
	enum report_state state = balloon->report.state;

	if (!balloon->report.sign_due)
		return;
	balloon->report.sign_taken = true;
	if (state == REPORT_ACCEPTING ||
	    (state == REPORT_REQUESTED && !balloon->report.deferred))
		balloon_report_set_state(balloon, REPORT_COMPLETE);
}

/* D-6. Anything but the sign breaks the rules for drivers while a report
 * accepts, and ends the counting; that driver still owes its sign. */
static void command(struct balloon *balloon, uint32_t id)
{
	if (id == VIRTIO_BALLOON_CMD_ID_STOP)
		take_sign(balloon);
	else if (balloon->report.state == REPORT_ACCEPTING)
		balloon_report_set_state(balloon, REPORT_COMPLETE);
	else if (balloon->report.state == REPORT_REQUESTED &&
		 !balloon->report.deferred && id == balloon->report.id)
		balloon_report_set_state(balloon, REPORT_ACCEPTING);
}

static void returned(struct balloon *balloon)
{
	if (!balloon->report.sign_taken)
		return;
	balloon->report.sign_taken = false;
	balloon->report.sign_due = false;
	if (balloon->report.state == REPORT_CLOSED)
		balloon_report_set_state(balloon, REPORT_IDLE);
	start_if_possible(balloon);
}

static void acknowledged(struct balloon *balloon)
{
	start_if_possible(balloon);
}

/*
 * On a destination (D-9). A report that waited there for acknowledgements only
 * never reached the driver, which owes nothing for it. The interrupt for what
 * is pending may have got lost between the machines.
 */
static void activated(struct balloon *balloon)
{
	if (balloon->report.state == REPORT_CLOSED && !balloon->report.sign_due)
		balloon_report_set_state(balloon, REPORT_IDLE);
	if (balloon_pending(balloon))
		balloon_config_changed(balloon);
}

/* The state is as balloon_load() made it: nothing is under way any more. */
static bool loaded(const struct balloon *balloon)
{
	uint32_t id = atomic_load(&balloon->config.cmd_id_reg);
	uint32_t bits = balloon_pending(balloon);

	if (bits & ~BALLOON_CMD_KNOWN || id == VIRTIO_BALLOON_CMD_ID_DONE)
		return false;
	/* START comes with an id and leaves it there; a STOP follows it. */
	if (!id && (balloon->report.sign_due ||
		    bits & (BALLOON_CMD_REPORT_START |
			    BALLOON_CMD_REPORT_STOP)))
		return false;
	/* DONE tells that a report was asked for, if only with a START that
	 * was dropped before the driver heard of it. */
	if (!balloon->report.id && (id || bits & BALLOON_CMD_REPORT_DONE))
		return false;
	if (balloon->report.sign_due && balloon->report.state == REPORT_IDLE)
		return false;
	/* With this protocol spoken the standard register does not move. */
	return (!id && !bits) ||
	       atomic_load(&balloon->config.free_page_hint_cmd_id) ==
		       VIRTIO_BALLOON_CMD_ID_DONE;
}

const struct balloon_protocol balloon_protocol_command_register = {
	.name = "command-register",
	.feature = 1ull << BALLOON_F_COMMAND_REGISTER,
	.needs = 1ull << VIRTIO_F_VERSION_1 |
		 1ull << VIRTIO_BALLOON_F_FREE_PAGE_HINT,
	.command_at = BALLOON_CMD_REG,
	.command_id_at = BALLOON_CMD_ID_REG,
	.acknowledge_at = BALLOON_CMD_REG,
	.config_size = BALLOON_CMD_ID_REG + 4,
	.reset = reset,
	.request_start = request_start,
	.request_stop = request_stop,
	.request_done = request_done,
	.request_target = request_target,
	.command = command,
	.returned = returned,
	.acknowledged = acknowledged,
	.activated = activated,
	.loaded = loaded,
};
