// SPDX-License-Identifier: MIT
/*
 * The source's part in the report of free pages.
 *
 * A guest whose kernel zeroes what it allocates (init_on_alloc, Debian's
 * default) writes each block before it hints it (R28). Its hints leave nothing
 * out, and under an armed log each of those writes is a fault. Once a look at
 * what it hinted shows that, the log is taken off, the rest of the report only
 * waited for, and the log armed anew: free memory is zero then, which costs a
 * test a page and no byte. No hint counts in that case, so nothing rests on the
 * look being right.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "memory/backing.h"
#include "migration/policy.h"
#include "migration/source_internal.h"

#define NS_PER_MS 1000000ull
#define REPORT_LOOK_MS 20
#define REPORT_FIRST_LOOK_MS 2
#define SAMPLE_MIN_PAGES 512

static void note_report(struct migration_source *source,
			const struct free_page_progress *progress)
{
	scoped_lock(&source->lock);
	source->status.hints_received = progress->hints;
	source->status.hints_rejected = progress->rejected;
}

/* Does the guest zero what it hints? Such pages exist and are zero. */
static bool sample_is_zeroed(struct migration_source *source,
			     struct page_run run)
{
	struct gpa start = { run.first << GUEST_PAGE_SHIFT };
	const uint8_t *host = guest_memory_span(source->memory, start,
						run.count << GUEST_PAGE_SHIFT);
	uint64_t i;

	page_set_clear(&source->dirty);
	if (!host ||
	    backing_populated(source->memory, run, &source->dirty, NULL) < 0 ||
	    page_set_count(&source->dirty) != run.count)
		return false;
	for (i = 0; i < run.count; i++)
		if (!source_page_is_zero(source, host + (i << GUEST_PAGE_SHIFT)))
			return false;
	return true;
}

/* The first hints show what kind of guest it is. */
static void look_at_sample(struct migration_source *source,
			   const struct free_page_progress *progress,
			   bool *looked)
{
	if (*looked || progress->sample.count < SAMPLE_MIN_PAGES)
		return;
	*looked = true;
	if (!sample_is_zeroed(source, progress->sample))
		return;
	source->zeroing = true;
	source->dirty_log->ops->disarm(source->dirty_log);
	log_debug("migration", "the guest zeroes what it hints");
}

void source_ask_report(struct migration_source *source)
{
	source->reporting = source->free_pages && source->options.hinting &&
			    source->free_pages->ops->start(source->free_pages,
							   &source->hinted);
}

int source_await_report(struct migration_source *source, struct error *err)
{
	struct free_page_progress progress = { 0 };
	struct report_wait_stats stats = { 0 };
	uint64_t started = migration_now_ns(), moved = started, now;
	uint64_t hints = 0, accepting = 0;
	bool looked = false;

	if (!source->reporting)
		return 0;
	do {
		source->free_pages->ops->wait(source->free_pages,
					      looked ? REPORT_LOOK_MS :
						       REPORT_FIRST_LOOK_MS,
					      &progress);
		now = migration_now_ns();
		if (progress.state != stats.state || progress.hints != hints)
			moved = now;
		if (!accepting && progress.state == FREE_PAGE_ACCEPTING)
			accepting = now;
		hints = progress.hints;
		stats.state = progress.state;
		stats.pages = progress.pages;
		stats.accepting_ms = accepting ? (now - accepting) / NS_PER_MS :
						 0;
		stats.waited_ms = (now - started) / NS_PER_MS;
		stats.since_progress_ms = (now - moved) / NS_PER_MS;
		note_report(source, &progress);
		look_at_sample(source, &progress, &looked);
		/* What such a guest hints must not be sent before it is zero:
		 * the log is off. */
		stats.link_rate = source->zeroing ? 0 :
						    source->options.bandwidth;
		if (source_keep_alive(source, now, err) < 0)
			return -1;
	} while (policy_should_wait(&stats) && !atomic_load(&source->cancel));
	source->report_complete = progress.state == FREE_PAGE_COMPLETE;
	scoped_lock(&source->lock);
	source->status.report_ms = stats.waited_ms;
	return 0;
}

void source_drain(struct migration_source *source)
{
	struct free_page_progress progress;
	uint64_t late;

	if (!source->reporting)
		return;
	source->free_pages->ops->drain(source->free_pages, &progress);
	source->reporting = false;
	note_report(source, &progress);
	late = page_set_intersect_count(&source->hinted, &source->sent);
	page_set_intersect(&source->hinted, &source->to_send);
	page_set_union(&source->left_out, &source->hinted);
	page_set_subtract(&source->to_send, &source->hinted);
	page_set_clear(&source->hinted);
	scoped_lock(&source->lock);
	source->status.hints_late = late;
	source->status.pages_hinted = page_set_count(&source->left_out);
}

int source_work_in_report(struct migration_source *source,
			  struct error *err)
{
	struct free_page_progress progress;

	if (source->zeroing) {
		source->free_pages->ops->drain(source->free_pages, &progress);
		source->reporting = false;
		note_report(source, &progress);
		page_set_clear(&source->hinted);
		page_set_clear(&source->populated);
		return source_arm(source, err);
	}
	if (!source->reporting || !source->report_complete)
		return 0;
	source_drain(source);
	return source_sync_log(source, err) < 0 ? -1 : 0;
}
