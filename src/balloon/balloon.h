/* SPDX-License-Identifier: MIT */
/*
 * Traditional memory balloon, device half (VIRTIO 1.3 section 5.5), without
 * I/O: it takes buffers from its queues and tells its host what follows from
 * them. It knows no thread, no KVM and no migration.
 *
 * Everything here runs on one thread (the device thread), except
 * balloon_config_read() and balloon_config_write(), which any thread may call
 * at any time: the registers are single 32-bit words, accessed atomically.
 *
 * The free page report. A host that is about to move or save the guest asks
 * for a report; the guest then hands over blocks it does not use. All pages so
 * hinted land in one page set. Rules (R numbers: hazards in docs/spec):
 *  - the host arms its dirty log before balloon_report_start() (R1);
 *  - a hint only adds to the set; it never touches a dirty log (R2);
 *  - hints count only while the report accepts, which an out-buffer with the
 *    requested id opens once, and which the guest's stop sign,
 *    balloon_report_close() and reset end (R3, R4, R5, R29);
 *  - between balloon_report_start() and balloon_report_close() the set belongs
 *    to the device thread, otherwise to whoever passed it in.
 */
#ifndef BALLOON_BALLOON_H
#define BALLOON_BALLOON_H

#include <linux/virtio_balloon.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "memory/guest_memory.h"
#include "memory/page_set.h"
#include "virtio/virtqueue.h"

#include "balloon/queues.h"

/*
 * REPORT_IDLE		Nothing asked, or the last report is closed and the
 *			guest's sign for it came. Only balloon_report_start()
 *			and balloon_report_done() leave it.
 * REPORT_REQUESTED	An id is published; hints do not count yet.
 * REPORT_ACCEPTING	The guest repeated the id; hints count.
 * REPORT_COMPLETE	The guest's stop sign came: it has no more. Hints do
 *			not count.
 * REPORT_CLOSED	The host closed the report; late hints and the late
 *			sign are returned uncounted. A new start is allowed.
 * REPORT_DONE		Hinted pages go back to the guest. A new start is
 *			allowed from here too.
 */
enum report_state {
	REPORT_IDLE,
	REPORT_REQUESTED,
	REPORT_ACCEPTING,
	REPORT_COMPLETE,
	REPORT_CLOSED,
	REPORT_DONE,
	REPORT_STATES,
};

/* Name for logs and status, "accepting" and so on. */
const char *report_state_name(enum report_state state);

struct report_counters {
	uint64_t hints;		 /* buffers that counted */
	uint64_t hinted_pages;	 /* pages they added to the set */
	uint64_t rejected;	 /* counted buffers that were out of RAM, or
				    held no whole page */
	uint64_t uncounted;	 /* buffers outside an accepting report */
	uint64_t malformed;	 /* out-buffers that are no command: not 4
				    bytes, not in RAM, or writable as well */
};

/* Of the inflate and deflate queue, since balloon_init(). */
struct balloon_counters {
	uint64_t malformed;  /* buffers that are no array of le32 in RAM */
	uint64_t bad_frames; /* frame numbers outside RAM, passed over */
};

/* What the balloon tells its host; all members mandatory, all called on the
 * device thread, never with a lock held by the balloon. They may start, close
 * and finish reports, but not activate or reset the device they come from. */
struct balloon_host_ops {
	/* Give back the memory of a run of pages in RAM (in one region),
	 * before the guest's buffer is returned. Failure is the host's to
	 * count; the guest is acknowledged all the same (R24). */
	void (*discard)(void *host, struct page_run run);
	/* The guest takes these pages back into use. */
	void (*returned)(void *host, struct page_run run);
	/* The report moved on to @state. */
	void (*report_changed)(void *host, enum report_state state);
	/* Buffers of @queue were used and the driver wants an interrupt. */
	void (*interrupt)(void *host, enum balloon_queue queue);
	/* The device changed a configuration register. */
	void (*config_changed)(void *host);
	/* The guest broke the device: @reason is a static string. The balloon
	 * serves no queue until the next reset. */
	void (*broken)(void *host, const char *reason);
};

struct balloon;

/* A protocol variant: how requests reach the guest and what its words mean.
 * All members mandatory. */
struct balloon_protocol {
	const char *name;
	uint64_t features; /* offered beyond those of the options */
	/* Tell the guest to start the report with id balloon->report.id. */
	void (*request_start)(struct balloon *balloon);
	/* Tell the guest that hints are no longer used. */
	void (*request_stop)(struct balloon *balloon);
	/* Tell the guest that its hinted pages are its own again. */
	void (*request_done)(struct balloon *balloon);
	/* Tell the guest the new target, already in the register. */
	void (*request_target)(struct balloon *balloon);
	/* An out-buffer of the free page queue carried @id. */
	void (*command)(struct balloon *balloon, uint32_t id);
};

extern const struct balloon_protocol balloon_protocol_standard;

struct balloon_options {
	bool hinting; /* offer VIRTIO_BALLOON_F_FREE_PAGE_HINT */
	enum balloon_numbering numbering;
	const struct balloon_protocol *protocol;
};

struct balloon {
	struct balloon_options options;
	const struct balloon_host_ops *ops;
	void *host;
	struct guest_memory *memory;

	/* Configuration space (VIRTIO 1.3 section 5.5.4); any thread. */
	struct {
		_Atomic uint32_t num_pages, actual, free_page_hint_cmd_id,
			poison_val;
	} config;

	uint64_t features; /* negotiated; 0 while not running */
	bool running;	   /* DRIVER_OK was set, and nothing broke since */
	bool broken;
	struct virtqueue queue[BALLOON_QUEUES];

	struct {
		enum report_state state;
		uint32_t id;		 /* of the last start; survives reset */
		struct page_set *hinted; /* NULL outside a report */
		struct report_counters counters; /* of the last start */
	} report;

	struct balloon_counters counters;

	struct page_set run_pages; /* scratch: the frames of one drain */
	uint16_t heads[VIRTQUEUE_MAX_SIZE]; /* scratch: its buffers */
	struct virtqueue_chain chain;	    /* scratch: one buffer */
};

/**
 * balloon_init() - A balloon before its first reset
 * @scratch:	empty set over all frames of @memory; belongs to the balloon
 *		from here on, its storage stays the caller's
 */
void balloon_init(struct balloon *balloon, struct balloon_options options,
		  struct guest_memory *memory, struct page_set scratch,
		  const struct balloon_host_ops *ops, void *host);

/* Device features to offer, beside those of the transport. */
uint64_t balloon_features(const struct balloon *balloon);

/* Bytes of configuration space that exist with what is offered. */
uint32_t balloon_config_size(const struct balloon *balloon);

/* Any thread. Bytes beyond the size read as 0 and swallow writes; only aligned
 * 4-byte writes to actual and poison_val act. Return (write): true when
 * `actual` changed. */
void balloon_config_read(struct balloon *balloon, uint32_t offset, void *to,
			 uint32_t length);
bool balloon_config_write(struct balloon *balloon, uint32_t offset,
			  const void *from, uint32_t length);

/**
 * balloon_activate() - DRIVER_OK: serve the queues from now on
 * @features:	negotiated
 * @layout:	by queue index as the driver configured them
 * @state:	by queue index, where to go on; NULL for a fresh start
 * @indices:	entries in both arrays; a queue that was not enabled has
 *		size 0
 *
 * A bad layout breaks the device (ops->broken). A target other than `actual`
 * is told to the guest at once.
 */
void balloon_activate(struct balloon *balloon, uint64_t features,
		      const struct virtqueue_layout *layout,
		      const struct virtqueue_state *state,
		      unsigned int indices);

/* Device reset: no queue is served any more, a report ends (its hints are
 * dropped from the set, R15), configuration returns to its initial state
 * except num_pages and the id counter. */
void balloon_reset(struct balloon *balloon);

/* Index of the virtqueue that carries @queue, or -1 when it does not exist
 * with what is negotiated. */
int balloon_queue_number(const struct balloon *balloon,
			 enum balloon_queue queue);

/**
 * balloon_serve() - Serve one queue until it is empty
 *
 * To be called after a kick, and once after balloon_activate(). Work is
 * bounded: it returns after at most one ring's worth of buffers.
 *
 * Return: true when more may wait (call again, after looking at other work)
 */
bool balloon_serve(struct balloon *balloon, enum balloon_queue queue);

/* New target in pages of 4096 bytes; told to the guest if it runs. */
void balloon_set_target(struct balloon *balloon, uint32_t pages);

/* True when a report can be asked for: the driver runs and took the feature. */
bool balloon_can_report(const struct balloon *balloon);

/**
 * balloon_report_start() - Ask the guest for its free pages
 * @hinted:	empty set over all frames of the memory; the device thread's
 *		until balloon_report_close()
 *
 * The sign of an earlier report need not have come: what it left in the queue
 * stands before the new id there, and does not count.
 *
 * Return: 0, or -1 when no report can be asked for, or one is not closed
 */
int balloon_report_start(struct balloon *balloon, struct page_set *hinted);

/* Hints no longer count. Never waits for the guest. Harmless when no report
 * is under way. The set is the caller's again. */
void balloon_report_close(struct balloon *balloon);

/* Give the hinted pages back to the guest: once at the end of a migration,
 * whatever its outcome (R13). Closes the report first. On a destination: after
 * balloon_activate(), so that the guest is interrupted for it. */
void balloon_report_done(struct balloon *balloon);

/* What a migration carries of the balloon, beside its queues. */
struct balloon_state {
	uint32_t num_pages, actual, free_page_hint_cmd_id, poison_val;
	uint32_t report_id;
	uint32_t report_state;
};

void balloon_save(const struct balloon *balloon, struct balloon_state *state);

/* Before balloon_activate(). A report that was under way comes back closed: its
 * set stayed on the other side (D-9).
 * Return: 0, or -1 when a value cannot be */
int balloon_load(struct balloon *balloon, const struct balloon_state *state);

#endif
