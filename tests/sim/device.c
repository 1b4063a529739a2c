// SPDX-License-Identifier: MIT
/*
 * The device thread of a host and what goes through it, as
 * src/machine/balloon_device.c and device_thread.c have it: posts first, then
 * calls, then kicks unless it is to be quiet.
 */
#include "sim.h"

#define NS_PER_MS 1000000ull
#define SAMPLE_PAGES 1024

static const enum free_page_state free_page_states[REPORT_STATES] = {
	[REPORT_IDLE] = FREE_PAGE_NONE,
	[REPORT_REQUESTED] = FREE_PAGE_REQUESTED,
	[REPORT_ACCEPTING] = FREE_PAGE_ACCEPTING,
	[REPORT_COMPLETE] = FREE_PAGE_COMPLETE,
	[REPORT_CLOSED] = FREE_PAGE_NONE,
	[REPORT_DONE] = FREE_PAGE_NONE,
};

/* ------------------------------------------------ the balloon's events --- */

static void discard(struct host *host, struct page_run run)
{
	struct page_run gone;

	if (backing_discard(&host->memory, run, &gone) < 0)
		gone = run;
	else if (host == world.here)
		guest_lost(run);
	edge();
	if (!fault(FAULT_DISCARD_NOT_MARKED))
		guest_memory_mark_dirty(&host->memory,
					(struct gpa){ gone.first
						      << GUEST_PAGE_SHIFT },
					gone.count << GUEST_PAGE_SHIFT);
}

static void discard_one(struct host *host, struct page_run run)
{
	trace("device %u: discards %llu+%llu", host->name,
	      (unsigned long long)run.first, (unsigned long long)run.count);
	if (fault(FAULT_LATE_DISCARD) && host->lates < 4) {
		host->late[host->lates++] = run;
		return;
	}
	edge();
	discard(host, run);
	edge();
}

static void on_discard(void *of, const struct page_run *run, unsigned int runs)
{
	unsigned int i;

	for (i = 0; i < runs; i++)
		discard_one(of, run[i]);
}

static void on_returned(void *of, struct page_run run)
{
	edge();
}

/* It may look again for nothing; the one it looks for may come meanwhile. */
static bool on_linger(void *of, const struct virtqueue *free_page_queue)
{
	edge();
	return chance(4);
}

static void on_report_changed(void *of, enum report_state state)
{
	struct host *host = of;

	check_state_change(host->report_state, state);
	host->report_state = state;
	trace("device %u: report is %s", host->name, report_state_name(state));
	edge();
}

static void on_statistics_changed(void *of)
{
}

static void on_interrupt(void *of, enum balloon_queue queue)
{
	struct host *host = of;

	if (!(fault(FAULT_LOST_INTERRUPT) && chance(4)))
		host->queue_irq |= 1u << queue;
	edge();
}

static void unhide(struct host *host)
{
	atomic_fetch_or(&host->balloon.config.cmd_reg, host->hidden);
	host->hidden = 0;
}

static void on_config_changed(void *of)
{
	struct host *host = of;

	unhide(host);
	host->virtio.generation++;
	if (host == world.here)
		check_registers();
	if (!(fault(FAULT_LOST_INTERRUPT) && chance(4)))
		host->config_irq = true;
	edge();
}

static void on_broken(void *of, const char *reason)
{
	fail("ring", "the device calls the driver broken: %s", reason);
}

const struct balloon_host_ops sim_balloon_ops = {
	.discard = on_discard,
	.returned = on_returned,
	.linger = on_linger,
	.report_changed = on_report_changed,
	.interrupt = on_interrupt,
	.statistics_changed = on_statistics_changed,
	.config_changed = on_config_changed,
	.broken = on_broken,
};

/* --------------------------------------------------- the device thread --- */

void device_activate(struct host *host, const struct virtqueue_state *state)
{
	struct virtqueue_layout layout[VIRTIO_DEVICE_MAX_QUEUES];
	unsigned int i;

	for (i = 0; i < VIRTIO_DEVICE_MAX_QUEUES; i++) {
		layout[i] = host->virtio.queue[i].layout;
		if (!host->virtio.queue[i].enabled)
			layout[i].size = 0;
	}
	balloon_activate(&host->balloon, host->features, layout, state,
			 VIRTIO_DEVICE_MAX_QUEUES);
	host->kicked = (1u << BALLOON_QUEUES) - 1;
}

static void do_reset(struct host *host)
{
	model_reset();
	balloon_reset(&host->balloon);
}

static void note_stop(const struct host *host)
{
	if (world.guest.v17 && atomic_load(&host->balloon.config.acknowledged) &
				       BALLOON_V17_REPORT_STOP)
		model_hear_stop();
}

static void serve_posts(struct host *host)
{
	enum virtio_device_event event;

	if (host->acknowledged) {
		host->acknowledged = false;
		note_stop(host);
		balloon_acknowledged(&host->balloon);
		edge();
	}
	event = virtio_device_take_event(&host->virtio);
	if (event == VIRTIO_EVENT_ACTIVATE) {
		host->features = host->virtio.accepted;
		trace("device %u: DRIVER_OK", host->name);
		device_activate(host, NULL);
	} else if (event == VIRTIO_EVENT_RESET) {
		trace("device %u: reset", host->name);
		do_reset(host);
		edge();
		virtio_device_reset_done(&host->virtio);
	}
}

/* Fault: a START that waits for acknowledgements, or for the sign of the last
 * one, is made without (D-3). */
static void start_early(struct balloon *balloon)
{
	struct host *host = balloon->host;

	if (!balloon->report.deferred)
		return;
	if (fault(FAULT_START_BEFORE_SIGN))
		balloon->report.sign_due = false;
	if (!fault(FAULT_START_BESIDE_DONE))
		return;
	host->hidden = atomic_exchange(&balloon->config.cmd_reg, 0);
	balloon_acknowledged(balloon);
	unhide(host);
}

static void serve_calls(struct host *host)
{
	struct host_call *call;

	while (host->posted || host->calls) {
		if (host->posted) {
			host->posted = false;
			serve_posts(host);
			continue;
		}
		call = host->calls;
		host->calls = call->next;
		call->function(call->argument);
		start_early(&host->balloon);
		call->done = true;
		edge();
	}
}

/* Fault: what is counted here cannot be undone by a later write. */
static void clear_log_of_hints(struct host *host)
{
	const struct page_set *hinted = host->balloon.report.hinted;
	uint64_t word;

	for (word = 0; hinted && word < 2; word++)
		host->log.bit.word[word] &= ~page_set_word(hinted, word);
}

/* Fault: what waits to be discarded waits on when it is deflated. */
static void hold_again(struct host *host, const uint64_t *words)
{
	uint64_t word;

	for (word = 0; word < 2; word++)
		host->balloon.hold.pages += page_set_or_word(
			&host->balloon.hold.held, word, words[word]);
}

static bool serve(struct host *host, enum balloon_queue queue)
{
	const struct page_set *held = &host->balloon.hold.held;
	uint64_t before[2] = { page_set_word(held, 0), page_set_word(held, 1) };
	uint64_t pages = host->balloon.hold.pages;
	bool more = balloon_serve(&host->balloon, queue);

	if (queue == BALLOON_INFLATE && host->balloon.hold.pages > pages)
		tally.held += host->balloon.hold.pages - pages;
	if (queue == BALLOON_DEFLATE) {
		tally.cancelled_held += pages - host->balloon.hold.pages;
		if (fault(FAULT_HELD_PAST_DEFLATE))
			hold_again(host, before);
	}
	while (host->lates) {
		edge();
		discard(host, host->late[--host->lates]);
	}
	if (queue == BALLOON_FREE_PAGE) {
		model_served(host);
		if (fault(FAULT_HINT_CLEARS_LOG))
			clear_log_of_hints(host);
	}
	return more;
}

static void serve_kicks(struct host *host)
{
	unsigned int queue, bits = host->kicked;

	host->kicked = 0;
	for (queue = 0; queue < BALLOON_QUEUES; queue++) {
		if (!(bits & 1u << queue))
			continue;
		if (serve(host, queue))
			host->kicked |= 1u << queue;
		edge();
	}
}

static bool has_work(void *of)
{
	const struct host *host = of;

	return host->posted || host->calls || (host->kicked && !host->quiet);
}

static void flush(struct host *host)
{
	if (world.setup.held_ns == NEVER)
		return;
	if (host->balloon.hold.pages)
		trace("device %u: gives up waiting", host->name);
	balloon_flush(&host->balloon);
}

/* Until when it may sleep. */
static uint64_t deadline(const struct host *host)
{
	return host->quiet || !host->balloon.hold.pages ||
			       world.setup.held_ns == NEVER ?
		       NEVER : world.now + world.setup.held_ns;
}

void device_main(void *of)
{
	struct host *host = of;

	for (;;) {
		serve_calls(host);
		if (!host->quiet)
			serve_kicks(host);
		if (!coroutine_wait(has_work, host, deadline(host)))
			flush(host);
	}
}

static bool is_done(void *of)
{
	const struct host_call *call = of;

	return call->done;
}

void host_do(struct host *host, void (*function)(void *argument),
	     void *argument)
{
	struct host_call call = { .function = function,
				  .argument = argument };
	struct host_call **last;

	for (last = &host->calls; *last; last = &(*last)->next)
		;
	*last = &call;
	coroutine_wait(is_done, &call, NEVER);
	edge();
}

/* --------------------------------------------------- free_page_source --- */

struct report_call {
	struct host *host;
	struct page_set *hinted;
	struct free_page_progress *progress;
	enum report_state before;
	bool started;
};

static struct host *of_source(struct free_page_source *source)
{
	return (struct host *)((uint8_t *)source -
			       offsetof(struct host, source));
}

static void fill_progress(const struct host *host,
			  struct free_page_progress *progress)
{
	const struct report_counters *counters = &host->balloon.report.counters;

	progress->state = free_page_states[host->balloon.report.state];
	progress->hints = counters->hints;
	progress->pages = counters->hinted_pages;
	progress->rejected = counters->rejected;
	if (!host->balloon.report.hinted ||
	    !page_set_next_run(host->balloon.report.hinted, 0, SAMPLE_PAGES,
			       &progress->sample))
		progress->sample.count = 0;
}

static void call_start(void *argument)
{
	struct report_call *call = argument;
	struct host *host = call->host;

	call->started = !host->quiet &&
			balloon_report_start(&host->balloon,
					     call->hinted) == 0;
	if (call->started)
		model_start(host);
}

static void call_progress(void *argument)
{
	struct report_call *call = argument;

	fill_progress(call->host, call->progress);
}

static void call_drain(void *argument)
{
	struct report_call *call = argument;
	const struct balloon *balloon = &call->host->balloon;
	bool made = balloon->report.hinted && !balloon->report.deferred;

	model_close();
	balloon_report_close(&call->host->balloon);
	check_stopped(call->host, made);
	fill_progress(call->host, call->progress);
}

static void call_done(void *argument)
{
	struct report_call *call = argument;

	model_close();
	balloon_report_done(&call->host->balloon);
}

/* Fault: the report begins after the log was read and before what was read is
 * cleared and taken in. */
static void clear_behind_start(struct host *host, struct frames got)
{
	uint64_t word;
	unsigned int i;

	for (i = 0; i < 200; i++)
		coroutine_yield();
	for (word = 0; word < 2; word++) {
		got.word[word] &= host->exists.word[word];
		host->log.bit.word[word] &= ~got.word[word];
		page_set_or_word(&world.source.to_send, word, got.word[word]);
	}
}

static bool source_start(struct free_page_source *source,
			 struct page_set *hinted)
{
	struct report_call call = { .host = of_source(source),
				    .hinted = hinted };
	struct frames got = call.host->log.bit;

	/* It was asked for already, with FAULT_ARM_AFTER_PUBLISH. */
	if (fault(FAULT_ARM_AFTER_PUBLISH) && call.host->log.armed)
		return call.host->balloon.report.hinted == hinted;
	edge();
	host_do(call.host, call_start, &call);
	trace("source: a report is %s", call.started ? "asked for" :
	      "not to be had");
	if (fault(FAULT_START_BETWEEN_GET_AND_CLEAR) && call.started &&
	    world.moving)
		clear_behind_start(call.host, got);
	return call.started;
}

static bool report_moved(void *of)
{
	const struct report_call *call = of;

	return call->host->report_state != call->before;
}

static void source_wait(struct free_page_source *source,
			unsigned int timeout_ms,
			struct free_page_progress *progress)
{
	struct report_call call = { .host = of_source(source),
				    .progress = progress };

	call.before = call.host->report_state;
	if (call.before == REPORT_REQUESTED || call.before == REPORT_ACCEPTING)
		coroutine_wait(report_moved, &call,
			       world.now + timeout_ms * NS_PER_MS);
	host_do(call.host, call_progress, &call);
}

static void source_drain(struct free_page_source *source,
			 struct free_page_progress *progress)
{
	struct report_call call = { .host = of_source(source),
				    .progress = progress };

	edge();
	if (fault(FAULT_NO_DRAIN))
		fill_progress(call.host, progress);
	else
		host_do(call.host, call_drain, &call);
	trace("source: drained, %llu hints",
	      (unsigned long long)progress->hints);
}

static void source_done(struct free_page_source *source)
{
	device_done(of_source(source));
}

const struct free_page_source_ops sim_free_page_ops = {
	.start = source_start,
	.wait = source_wait,
	.drain = source_drain,
	.done = source_done,
};

/* ------------------------------------------------------- other callers --- */

void device_done(struct host *host)
{
	struct report_call call = { .host = host };

	if (fault(FAULT_FORGET_DONE))
		return;
	host_do(host, call_done, &call);
}

static void call_reset(void *argument)
{
	do_reset(argument);
}

void device_reset(struct host *host)
{
	host_do(host, call_reset, host);
	virtio_device_clear(&host->virtio);
}

static void call_flush(void *argument)
{
	flush(argument);
}

void device_flush(struct host *host)
{
	host_do(host, call_flush, host);
}

static void call_pause(void *argument)
{
	struct host *host = argument;

	model_close();
	balloon_pause(&host->balloon);
}

void device_pause(struct host *host)
{
	host_do(host, call_pause, host);
}

struct target_call {
	struct host *host;
	uint32_t pages;
};

static void call_target(void *argument)
{
	struct target_call *call = argument;

	balloon_set_target(&call->host->balloon, call->pages);
}

void device_set_target(struct host *host, uint32_t pages)
{
	struct target_call call = { host, pages };

	host_do(host, call_target, &call);
}

struct statistics_call {
	struct host *host;
	bool asked;
};

static void call_statistics(void *argument)
{
	struct statistics_call *call = argument;

	call->asked = !call->host->quiet &&
		      balloon_request_statistics(&call->host->balloon);
}

void device_statistics(struct host *host, bool *asked)
{
	struct statistics_call call = { host, false };

	host_do(host, call_statistics, &call);
	*asked = call.asked;
}
