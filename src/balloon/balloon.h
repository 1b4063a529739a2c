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
 * hinted land in one page set. Rules (R numbers: docs/conformance.md):
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

#include "balloon/command_register.h"
#include "balloon/page_ranges.h"
#include "balloon/queues.h"
#include "balloon/v17_registers.h"

/*
 * REPORT_IDLE		Nothing asked, or the last report is closed and the
 *			guest owes no word for it. Only balloon_report_start()
 *			and balloon_report_done() leave it.
 * REPORT_REQUESTED	An id is published, or waits to be; hints do not count
 *			yet.
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

/* Of all queues but the free page queue, since balloon_init(). */
struct balloon_counters {
	uint64_t malformed;  /* buffers that are not what their queue carries */
	uint64_t bad_frames; /* frame numbers outside RAM, passed over */
	uint64_t reported;   /* pages of free page reporting, in RAM */
	uint64_t inhibited;  /* of these, acknowledged but not given back,
				because they hold the guest's poison */
	uint64_t in_ranges;  /* pages in RAM of F_PAGE_RANGES' buffers */
};

/* Tags of the statistics queue: 0 to 9 of VIRTIO 1.3 section 5.5.6.4, 10 to 15
 * as Linux 6.12 sends them. Their numbers are those on the wire. */
enum balloon_statistic {
	BALLOON_STAT_SWAP_IN,	    /* bytes, since the guest's boot */
	BALLOON_STAT_SWAP_OUT,	    /* bytes, since boot */
	BALLOON_STAT_MAJOR_FAULTS,  /* since boot */
	BALLOON_STAT_MINOR_FAULTS,  /* since boot */
	BALLOON_STAT_FREE,	    /* bytes no one uses */
	BALLOON_STAT_TOTAL,	    /* bytes */
	BALLOON_STAT_AVAILABLE,	    /* bytes, an estimate */
	BALLOON_STAT_DISK_CACHES,   /* bytes */
	BALLOON_STAT_HUGETLB_ALLOCATIONS, /* since boot */
	BALLOON_STAT_HUGETLB_FAILURES,	  /* since boot */
	BALLOON_STAT_OOM_KILLS,	      /* since boot */
	BALLOON_STAT_ALLOC_STALLS,    /* since boot */
	BALLOON_STAT_ASYNC_SCANS,     /* bytes, since boot */
	BALLOON_STAT_DIRECT_SCANS,    /* bytes, since boot */
	BALLOON_STAT_ASYNC_RECLAIMS,  /* bytes, since boot */
	BALLOON_STAT_DIRECT_RECLAIMS, /* bytes, since boot */
	BALLOON_STATISTICS,
};

/* Name as in "aerostat stats": "swap_in" and so on. */
const char *balloon_statistic_name(enum balloon_statistic statistic);

/* What the guest said last. */
struct balloon_statistics {
	uint64_t value[BALLOON_STATISTICS];
	uint32_t present; /* bit per value the guest sent */
	uint64_t updates; /* buffers taken in, since balloon_init() */
};

#define BALLOON_RUNS 256u /* that the host hears of at a time */

/* What the balloon tells its host; all members mandatory, all called on the
 * device thread, never with a lock held by the balloon. They may start, close
 * and finish reports, but not activate or reset the device they come from. */
struct balloon_host_ops {
	/* Give back the memory of @runs runs of pages in RAM (each in one
	 * region; ascending), at most BALLOON_RUNS. All is done when it
	 * returns: either the guest's buffer is returned then (R24), or the
	 * pages may be deflated. Failure is the host's to count; the guest
	 * is acknowledged all the same. */
	void (*discard)(void *host, const struct page_run *run,
			unsigned int runs);
	/* The guest takes these pages back into use. */
	void (*returned)(void *host, struct page_run run);
	/* Hints are coming, and there is none just now. Return: true to look
	 * again at once, while the guest need not kick; false to have it kick */
	bool (*linger)(void *host, const struct virtqueue *free_page_queue);
	/* The report moved on to @state. */
	void (*report_changed)(void *host, enum report_state state);
	/* New statistics came, see balloon->statistics. */
	void (*statistics_changed)(void *host);
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
 * Members that may be NULL say so. */
struct balloon_protocol {
	const char *name;
	uint64_t feature; /* its own bit; 0 for the standard one */
	uint64_t needs;	  /* what a driver must accept along with it */
	/* Where its registers are, all 0 for the standard one: requests that
	 * are pending, the id of the START made last, and where the driver
	 * acknowledges. */
	uint32_t command_at, command_id_at, acknowledge_at;
	uint32_t config_size; /* bytes these need at least, or 0 */
	/* Its registers, as after reset. */
	void (*reset)(struct balloon *balloon);
	/* Tell the guest to start the report with id balloon->report.id. */
	void (*request_start)(struct balloon *balloon);
	/* Tell the guest that hints are no longer used. May be called when
	 * it was told already. The report's state is still the old one. */
	void (*request_stop)(struct balloon *balloon);
	/* Tell the guest that its hinted pages are its own again. */
	void (*request_done)(struct balloon *balloon);
	/* Tell the guest the new target, already in the register. */
	void (*request_target)(struct balloon *balloon);
	/* An out-buffer of the free page queue carried @id. */
	void (*command)(struct balloon *balloon, uint32_t id);
	/* What was taken from the free page queue has been returned; may be
	 * NULL. */
	void (*returned)(struct balloon *balloon);
	/* The driver acknowledged something; may be NULL. */
	void (*acknowledged)(struct balloon *balloon);
	/* DRIVER_OK, or the state of another machine goes on here: tell the
	 * guest again of what is pending; may be NULL. */
	void (*activated)(struct balloon *balloon);
	/* After balloon_load() filled the registers, before activation: is
	 * what was loaded possible? May be NULL. */
	bool (*loaded)(const struct balloon *balloon);
};

extern const struct balloon_protocol balloon_protocol_standard;
extern const struct balloon_protocol balloon_protocol_command_register;
extern const struct balloon_protocol balloon_protocol_v17;

/* By the name of --balloon protocol=, or NULL. */
const struct balloon_protocol *balloon_protocol_find(const char *name);

struct balloon_options {
	/* Features to offer. */
	bool hinting, reporting, statistics, poison, deflate_on_oom,
		must_tell_host, page_ranges;
	enum balloon_numbering numbering;
	const struct balloon_protocol *protocol;
};

/* How pages of the balloon wait for the rest of their block, see
 * balloon_hold(). */
struct balloon_hold {
	uint64_t block; /* pages, a power of two; 0: none waits */
	uint64_t most;	/* pages that may wait at a time */
};

struct balloon {
	struct balloon_options options;
	const struct balloon_host_ops *ops;
	void *host;
	struct guest_memory *memory;

	/* Configuration space (VIRTIO 1.3 section 5.5.4); any thread. The
	 * last three are those of the protocol offered: with v17 cmd_reg is
	 * host2guest_cmd, cmd_id_reg is free_page_cmd_id, and acknowledged has
	 * the bits of guest2host_cmd that the device thread has not seen. */
	struct {
		_Atomic uint32_t num_pages, actual, free_page_hint_cmd_id,
			poison_val, cmd_reg, cmd_id_reg, acknowledged;
	} config;

	/* The one spoken: that of the options, if the driver took it. */
	const struct balloon_protocol *protocol;
	uint64_t features; /* negotiated; 0 while not running */
	uint32_t poison;   /* poison_val at DRIVER_OK; later writes break D36 */
	bool running;	   /* DRIVER_OK was set, and nothing broke since */
	bool broken;
	struct virtqueue queue[BALLOON_QUEUES];

	struct {
		enum report_state state;
		uint32_t id;		 /* of the last start; survives reset */
		struct page_set *hinted; /* NULL outside a report */
		/* command-register only */
		bool sign_due;	  /* START was raised, and its sign has not
				     been returned (D-5) */
		bool sign_taken;  /* that sign is in the drain under way */
		bool stop_raised; /* for that START */
		bool deferred;	  /* START waits to be raised (D-3) */
		struct report_counters counters; /* of the last start */
	} report;

	struct {
		uint64_t block, most;	/* as of balloon_hold() */
		struct page_set inside; /* in the balloon, as far as a driver
					   that has to tell has told */
		struct page_set held;	/* of these, not discarded yet */
		uint64_t pages;		/* in held */
	} hold;

	struct balloon_counters counters;
	struct balloon_statistics statistics;
	int32_t statistics_head; /* the buffer we hold, or -1 */

	struct page_set run_pages; /* scratch: the frames of one drain */
	struct page_run run[BALLOON_RUNS]; /* scratch: what to discard */
	unsigned int runs;
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

/**
 * balloon_hold() - Hold back what is inflated of a block until all of it is
 * @hold:	a block is what the host gives back best as a whole, at a
 *		multiple of its size. When more than @hold.most pages wait,
 *		all of them are discarded
 * @inside:	empty sets over all frames of the memory, the balloon's from
 * @held:	here on; their storage stays the caller's
 *
 * Between balloon_init() and activation, if at all. Nothing is held unless the
 * driver took VIRTIO_BALLOON_F_MUST_TELL_HOST. The host ends the waiting by
 * balloon_flush(), in time and before it saves state.
 */
void balloon_hold(struct balloon *balloon, struct balloon_hold hold,
		  struct page_set inside, struct page_set held);

/* Discard what is held; balloon->hold.pages says how much that is. */
void balloon_flush(struct balloon *balloon);

/* Does the host want pages back that are in the balloon? What is deflated then
 * was asked for, and else is the guest's own wish. */
bool balloon_wants_less(const struct balloon *balloon);

/* Is what is inflated held back now, by this driver? Only then it is known
 * whether any page of @run is in the balloon. */
bool balloon_holds(const struct balloon *balloon);
bool balloon_has_inside(const struct balloon *balloon, struct page_run run);

/* The driver is gone without a word, and what was in the balloon may be in use:
 * discard nothing of it any more. */
void balloon_forget(struct balloon *balloon);

/* Device features to offer, beside those of the transport. */
uint64_t balloon_features(const struct balloon *balloon);

/* Bytes of configuration space that exist with what is offered. */
uint32_t balloon_config_size(const struct balloon *balloon);

/* Would the device work with these features (FEATURES_OK)? */
bool balloon_accepts(const struct balloon *balloon, uint64_t features);

/* What a write to configuration space changed. */
enum balloon_written {
	BALLOON_WROTE_NOTHING,
	BALLOON_WROTE_ACTUAL,
	BALLOON_WROTE_COMMAND, /* cmd_reg, guest2host_cmd: call
				  balloon_acknowledged() on the device thread */
};

/* Any thread. Bytes beyond the size read as 0 and swallow writes; only aligned
 * 4-byte writes to actual, poison_val, cmd_reg and guest2host_cmd act. */
void balloon_config_read(struct balloon *balloon, uint32_t offset, void *to,
			 uint32_t length);
enum balloon_written balloon_config_write(struct balloon *balloon,
					  uint32_t offset, const void *from,
					  uint32_t length);

/* The driver acknowledged commands: what waited for that goes on. With v17 it
 * may have said STOP by it. */
void balloon_acknowledged(struct balloon *balloon);

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

/* Where another device would go on with @queue. The statistics buffer we hold
 * counts as not taken. */
struct virtqueue_state balloon_queue_state(const struct balloon *balloon,
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

/* Ask for new statistics: hand the buffer back that waits for this (VIRTIO 1.3
 * section 5.5.6.4). Return: false when there is none, since the driver did not
 * take the feature or still fills one */
bool balloon_request_statistics(struct balloon *balloon);

/* The vCPUs were stopped by the user: a report that is under way is complete
 * with what came so far (D-6). */
void balloon_pause(struct balloon *balloon);

/* True when a report can be asked for: the driver runs and took the feature. */
bool balloon_can_report(const struct balloon *balloon);

/**
 * balloon_report_start() - Ask the guest for its free pages
 * @hinted:	empty set over all frames of the memory; the device thread's
 *		until balloon_report_close()
 *
 * The sign of an earlier report need not have come: what that report left in the
 * queue is returned uncounted before the guest can know the new id. The
 * command-register protocol lets the guest know only when that sign has come
 * (D-3); until then the report is REQUESTED, and may be closed as any other.
 *
 * Return: 0, or -1 when no report can be asked for, or one is not closed
 */
int balloon_report_start(struct balloon *balloon, struct page_set *hinted);

/* Hints no longer count. Never waits for the guest. Harmless when no report
 * is under way. The set is the caller's again. */
void balloon_report_close(struct balloon *balloon);

/* Give the hinted pages back to the guest: once at the end of a migration,
 * whatever its outcome (R13); no more is said when it is called again before
 * the next report. Closes the report first. On a destination: after
 * balloon_activate(), so that the guest is interrupted for it. */
void balloon_report_done(struct balloon *balloon);

/* What a migration carries of the balloon, beside its queues. */
struct balloon_state {
	uint32_t num_pages, actual, free_page_hint_cmd_id, poison_val;
	uint32_t report_id;
	uint32_t report_state;
	uint32_t cmd_reg, cmd_id_reg;
	uint32_t sign_due; /* 0, 1 */
};

void balloon_save(const struct balloon *balloon, struct balloon_state *state);

/* Before balloon_activate(), into a balloon as after balloon_init(). A report
 * that was under way comes back closed: its set stayed on the other side, and a
 * START that the guest was not told of is dropped (D-9).
 * Return: 0, or -1 when a value cannot be */
int balloon_load(struct balloon *balloon, const struct balloon_state *state);

#endif
