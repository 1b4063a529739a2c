// SPDX-License-Identifier: MIT
/*
 * The balloon of a machine as the free_page_source of a migration: what its
 * thread asks, the device thread does.
 */
#include <time.h>

#include "machine/balloon_device_internal.h"

#define SAMPLE_PAGES 1024 /* of what was hinted, for a look at its content */

static const enum free_page_state free_page_states[REPORT_STATES] = {
	[REPORT_IDLE] = FREE_PAGE_NONE,
	[REPORT_REQUESTED] = FREE_PAGE_REQUESTED,
	[REPORT_ACCEPTING] = FREE_PAGE_ACCEPTING,
	[REPORT_COMPLETE] = FREE_PAGE_COMPLETE,
	[REPORT_CLOSED] = FREE_PAGE_NONE,
	[REPORT_DONE] = FREE_PAGE_NONE,
};

struct report_call {
	struct balloon_device *device;
	struct page_set *hinted;
	struct free_page_progress *progress;
	bool started;
};

static void fill_progress(const struct balloon_device *device,
			  struct free_page_progress *progress)
{
	const struct report_counters *counters =
		&device->balloon.report.counters;

	progress->state = free_page_states[device->balloon.report.state];
	progress->hints = counters->hints;
	progress->pages = counters->hinted_pages;
	progress->rejected = counters->rejected;
	if (!device->balloon.report.hinted ||
	    !page_set_next_run(device->balloon.report.hinted, 0,
			       SAMPLE_PAGES, &progress->sample))
		progress->sample.count = 0;
}

static void call_start(void *argument)
{
	struct report_call *call = argument;

	call->started = balloon_device_can_answer(call->device) &&
			balloon_report_start(&call->device->balloon,
					     call->hinted) == 0;
}

static void call_progress(void *argument)
{
	struct report_call *call = argument;

	fill_progress(call->device, call->progress);
}

static void call_drain(void *argument)
{
	struct report_call *call = argument;

	balloon_report_close(&call->device->balloon);
	fill_progress(call->device, call->progress);
}

static void call_done(void *argument)
{
	struct report_call *call = argument;

	balloon_report_done(&call->device->balloon);
}

static bool source_start(struct free_page_source *source,
			 struct page_set *hinted)
{
	struct balloon_device *device = (struct balloon_device *)source;
	struct report_call call = { .device = device, .hinted = hinted };

	device_thread_call(&device->thread, call_start, &call);
	return call.started;
}

static void source_wait(struct free_page_source *source,
			unsigned int timeout_ms,
			struct free_page_progress *progress)
{
	struct balloon_device *device = (struct balloon_device *)source;
	struct report_call call = { .device = device, .progress = progress };
	enum report_state before;
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += timeout_ms * 1000000l;
	until.tv_sec += until.tv_nsec / 1000000000l;
	until.tv_nsec %= 1000000000l;
	pthread_mutex_lock(&device->report_lock);
	before = device->report_state;
	while (device->report_state == before && !rc &&
	       (before == REPORT_REQUESTED || before == REPORT_ACCEPTING))
		rc = pthread_cond_timedwait(&device->report_changed,
					    &device->report_lock, &until);
	pthread_mutex_unlock(&device->report_lock);
	device_thread_call(&device->thread, call_progress, &call);
}

static void source_drain(struct free_page_source *source,
			 struct free_page_progress *progress)
{
	struct balloon_device *device = (struct balloon_device *)source;
	struct report_call call = { .device = device, .progress = progress };

	device_thread_call(&device->thread, call_drain, &call);
}

static void source_done(struct free_page_source *source)
{
	struct balloon_device *device = (struct balloon_device *)source;
	struct report_call call = { .device = device };

	device_thread_call(&device->thread, call_done, &call);
}

const struct free_page_source_ops balloon_device_source_ops = {
	.start = source_start,
	.wait = source_wait,
	.drain = source_drain,
	.done = source_done,
};
