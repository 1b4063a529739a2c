/* SPDX-License-Identifier: MIT */
/* Inside the source of a migration: for source*.c only. */
#ifndef MIGRATION_SOURCE_INTERNAL_H
#define MIGRATION_SOURCE_INTERNAL_H

#include "migration/source.h"

uint64_t migration_now_ns(void);

/**
 * source_send_pages() - Send to_send, without what is hinted, and empty it
 *
 * A page that is zero costs nothing when the destination never had it, and a
 * ZERO record when it has an older version. Hinted pages stay in to_send.
 *
 * Return: 0, or -1 with @err
 */
int source_send_pages(struct migration_source *source, bool last,
		      struct error *err);

/* Does a page of guest memory read as zero? One that is gone does. */
bool source_page_is_zero(const struct migration_source *source,
			 const void *page);

/* Has the destination heard nothing for some seconds, as of @now? It gives up
 * after CHANNEL_PATIENCE_SECONDS. To be asked again and again. */
bool source_is_silent(struct migration_source *source, uint64_t now);

/* A WAITING record if so. Return: 0, or -1 with @err */
int source_keep_alive(struct migration_source *source, uint64_t now,
		      struct error *err);

/* VERIFY records over every page that matters to the guest. */
int source_send_hashes(struct migration_source *source, struct error *err);

/* Log every later write; then all memory that exists is to_send.
 * Return: 0, or -1 with @err */
int source_arm(struct migration_source *source, struct error *err);

/* Add to to_send what was written since. The report is drained before.
 * Return: pages written, or -1 with @err */
int64_t source_sync_log(struct migration_source *source, struct error *err);

/* Ask the guest for its free pages, if it can be asked. The log is armed. */
void source_ask_report(struct migration_source *source);

/* Wait for them for as long as that pays. Return: 0, or -1 with @err */
int source_await_report(struct migration_source *source, struct error *err);

/**
 * source_work_in_report() - Before the first page is sent
 *
 * A complete report is drained, and what was written while it was waited for
 * is taken from the log: those pages go once, not twice. A report that still
 * runs goes on beside the first round. Of a guest that zeroes no hint counts.
 *
 * Return: 0, or -1 with @err
 */
int source_work_in_report(struct migration_source *source, struct error *err);

/* End the report and leave out what was hinted and is still to be sent. */
void source_drain(struct migration_source *source);

#endif
