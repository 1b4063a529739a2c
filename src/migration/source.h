/* SPDX-License-Identifier: MIT */
/*
 * The source of a migration: a running guest's memory and state go to a
 * destination, and free pages stay behind.
 *
 * The caller gives it a thread. What it knows of the guest it knows through
 * struct migration_guest_ops, dirty_log and free_page_source.
 */
#ifndef MIGRATION_SOURCE_H
#define MIGRATION_SOURCE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/buffer.h"
#include "memory/dirty_log.h"
#include "memory/guest_memory.h"
#include "migration/channel.h"
#include "migration/free_page_source.h"

#define MIGRATION_MAX_ROUNDS 64 /* of which details are kept */

/* Collects STATE records: @payload is copied. */
struct state_writer {
	struct buffer *records; /* encoded, in order */
	unsigned int count;
};

/* The caller's payload buffer is appended as one STATE record. */
void state_writer_add(struct state_writer *writer, uint32_t kind,
		      uint32_t instance, const struct buffer *payload);

/* All members mandatory, called on the migration's thread. */
struct migration_guest_ops {
	/* Payloads of CONFIG and CPUID. */
	void (*save_config)(void *guest, struct buffer *config,
			    struct buffer *cpuid);
	/* Stop the guest and its devices. Return: 0, or -1 with @err */
	int (*stop)(void *guest, struct error *err);
	/* Was it running, so that it shall run at the destination? */
	bool (*was_running)(void *guest);
	/* Stopped: write all state. Return: 0, or -1 with @err */
	int (*save_state)(void *guest, struct state_writer *writer,
			  struct error *err);
	/* After stop(): exactly one of these. */
	void (*go_on)(void *guest); /* failure: it lives here */
	void (*leave)(void *guest); /* commit: it lives there */
};

struct migration_options {
	uint64_t downtime_ms; /* limit, default 300 */
	uint64_t bandwidth;   /* bytes a second, 0: no limit */
	bool hinting;	      /* ask for free pages */
	bool verify;	      /* the destination compares hashes */
};

enum migration_state {
	MIGRATION_NONE,
	MIGRATION_SETUP,     /* connecting, arming */
	MIGRATION_ACTIVE,    /* the guest runs */
	MIGRATION_STOPPING,  /* it does not */
	MIGRATION_COMPLETED,
	MIGRATION_FAILED,
	MIGRATION_CANCELLED,
	/* COMMIT was sent and no answer came: the guest is there or lost. */
	MIGRATION_UNKNOWN,
};

const char *migration_state_name(enum migration_state state);

struct migration_round {
	uint64_t pages_sent; /* with content */
	uint64_t dirty;	     /* pages found written at its end */
	uint64_t ms;
};

/* A copy of how it stands, or how it ended. */
struct migration_status {
	enum migration_state state;
	char error[512]; /* why it failed, "" otherwise */
	uint64_t total_ms, downtime_ms, setup_ms;
	uint64_t report_ms; /* it was waited for, behind the set-up */
	uint64_t ram_bytes, bytes_sent, bytes_received;
	uint64_t pages_sent, pages_hinted, pages_absent, pages_zero;
	uint64_t hints_received, hints_late, hints_rejected;
	uint64_t verified_pages, destination_rss_bytes;
	uint64_t pages_left;	 /* to look at in this round */
	uint64_t bytes_per_second; /* over the last second or so */
	unsigned int rounds;	 /* begun so far */
	struct migration_round round[MIGRATION_MAX_ROUNDS];
};

struct migration_source {
	/* Set by the caller before migration_source_run(). */
	struct guest_memory *memory;
	struct dirty_log *dirty_log;
	struct free_page_source *free_pages; /* NULL: none to ask */
	const struct migration_guest_ops *ops;
	void *guest;
	struct migration_options options;

	struct channel channel;
	atomic_bool cancel, committed;
	/* Of status, of the channel's opening, and of who comes first: a cancel
	 * or the commit. */
	pthread_mutex_t lock;
	struct migration_status status;

	/* The migration thread's own. */
	struct page_set populated, to_send, sent, hinted, left_out, dirty;
	bool reporting, report_complete, zeroing, stopped;
	uint64_t started_ns, stopped_ns, ended_ns, pages_done, busy_ns;
	uint64_t heard_ns, heard_bytes; /* of the last look at what was sent */
};

/* Return: 0, or -1 with @err. To be undone by migration_source_destroy() */
int migration_source_init(struct migration_source *source,
			  struct guest_memory *memory, struct error *err);
/* Give up all it holds. How it ended can be asked still. */
void migration_source_destroy(struct migration_source *source);

/**
 * migration_source_run() - Move the guest to @uri
 *
 * Blocks until it is over; call it on a thread of its own. On failure before
 * the commit the guest runs on as it did. The status says how it ended.
 */
void migration_source_run(struct migration_source *source, const char *uri);

/* Have it end soon; once it commits this does nothing. Any thread. */
void migration_source_cancel(struct migration_source *source);

void migration_source_status(struct migration_source *source,
			     struct migration_status *status);

#endif
