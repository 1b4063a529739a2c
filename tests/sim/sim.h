/* SPDX-License-Identifier: MIT */
/*
 * The simulator: two hosts, one guest, one thread, every choice from a seed.
 *
 * The device half, the driver halves, the source and the destination of a
 * migration are the real ones. What stands here is what surrounds them: hosts
 * with memory, a dirty log, a device thread and a run state (host.c, device.c,
 * dirty_log.c, backing.c), a link (channel.c), a guest (guest.c, driver.c,
 * worker.c, adjust.c), a user (user.c), the order in which they run
 * (schedule.c), and what must hold (check.c).
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "balloon/balloon.h"
#include "balloon/balloon_driver.h"
#include "balloon/v17_driver.h"
#include "memory/backing.h"
#include "memory/dirty_log.h"
#include "migration/destination.h"
#include "migration/source.h"
#include "virtio/device.h"
#include "virtio/vring_driver.h"

#include "coroutine.h"
#include "fault.h"

/* ------------------------------------------------------------ choices --- */

struct random {
	uint64_t state;
};

static inline uint64_t random_next(struct random *random)
{
	uint64_t z = (random->state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* ------------------------------------------------------------- memory --- */

/* Two regions with a hole between them; frame numbers fit in two words. */
#define LOW_PAGES 24u
#define HIGH_FIRST 64u
#define HIGH_PAGES 40u
#define RAM_PAGES (LOW_PAGES + HIGH_PAGES)
#define FRAMES (HIGH_FIRST + HIGH_PAGES)

/* What the guest's low frames are for. */
enum {
	FRAME_REPORT,  /* free page queue, words and state of its driver */
	FRAME_RINGS,   /* the other queues and their buffers */
	FRAME_IMAGE,   /* the monitor loads it at each boot */
	FRAME_CLOCK,   /* the monitor writes it when it saves state */
	FRAME_FIRST,   /* from here on the guest's allocator */
};

struct frames {
	uint64_t word[2];
};

static inline bool frames_have(const struct frames *set, uint64_t frame)
{
	return set->word[frame / 64] >> (frame % 64) & 1;
}

static inline void frames_add(struct frames *set, uint64_t frame)
{
	set->word[frame / 64] |= 1ull << (frame % 64);
}

static inline void frames_drop(struct frames *set, uint64_t frame)
{
	set->word[frame / 64] &= ~(1ull << (frame % 64));
}

static inline bool is_ram(uint64_t frame)
{
	return frame < LOW_PAGES || (frame >= HIGH_FIRST && frame < FRAMES);
}

/* The @n-th frame of RAM. */
static inline unsigned int ram_frame(unsigned int n)
{
	return n < LOW_PAGES ? n : n - LOW_PAGES + HIGH_FIRST;
}

/* --------------------------------------------------------------- host --- */

enum host_state {
	HOST_NONE,
	HOST_INCOMING,
	HOST_RUNNING,
	HOST_PAUSED,
	HOST_FINISHING,
	HOST_MOVED,
};

struct host_call {
	void (*function)(void *argument);
	void *argument;
	bool done;
	struct host_call *next;
};

struct host_log {
	struct dirty_log log; /* first member */
	bool armed;
	struct frames bit;
};

struct host {
	struct guest_memory memory; /* first member */
	uint8_t *ram;		    /* all regions, one behind the other */
	struct frames exists;
	struct host_log log;
	struct free_page_source source;
	struct balloon balloon;
	struct page_set scratch, inside, held; /* the balloon's */
	struct virtio_device virtio;
	uint64_t features;
	unsigned int name; /* 0, 1 */

	enum host_state state;
	bool was_running;
	bool changing; /* somebody is at it to run, stop or reset it */
	bool cpus_run; /* the guest's steps happen here */
	enum report_state report_state; /* as the host was told */

	/* The device thread. */
	struct coroutine device;
	bool quiet, posted, acknowledged;
	unsigned int kicked; /* bit per queue of the balloon */
	struct host_call *calls;

	/* Interrupts that were raised and that no CPU has taken. */
	bool config_irq;
	unsigned int queue_irq; /* bit per queue of the balloon */

	struct page_run late[4]; /* fault late_discard */
	unsigned int lates;
	uint32_t hidden; /* fault start_beside_done: of cmd_reg */
};

static inline void *frame_at(const struct host *host, uint64_t frame)
{
	return host->ram + ((frame < LOW_PAGES ?
		frame : frame - HIGH_FIRST + LOW_PAGES) << GUEST_PAGE_SHIFT);
}

/* backing.c. Memory exists from now on and was written: into the log. */
void host_wrote(struct host *host, uint64_t frame);
/* Somebody wrote to @at, if that is guest memory. No log. */
void backing_touched(const void *at, uint64_t length);
void backing_reset(struct host *host);
void page_sets_reset(void);

/* dirty_log.c */
extern const struct dirty_log_ops sim_log_ops;

/* host.c. A machine, stopped, with memory of nothing. */
void host_create(struct host *host, bool incoming);
void host_boot(struct host *host);
void host_run(struct host *host);
void host_stop(struct host *host);
/* Changes of the run state come one after another. */
void host_begin_change(struct host *host);
void host_end_change(struct host *host);
/* On the device thread; waits for it. */
void host_do(struct host *host, void (*function)(void *argument),
	     void *argument);
/* The monitor's own write of a whole page. */
void host_write(struct host *host, uint64_t frame, uint32_t version);

/* device.c */
extern const struct free_page_source_ops sim_free_page_ops;
extern const struct balloon_host_ops sim_balloon_ops;
extern const struct virtio_device_ops sim_virtio_ops;
void device_main(void *host);
void device_activate(struct host *host, const struct virtqueue_state *state);
void device_reset(struct host *host);
void device_pause(struct host *host);
void device_flush(struct host *host);
void device_set_target(struct host *host, uint32_t pages);
void device_statistics(struct host *host, bool *asked);
void device_done(struct host *host);

/* ---------------------------------------------------------------- link --- */

#define PIPE_BYTES 16384u

/* Memory that the reader may see as it is when he reads. */
struct loan {
	const uint8_t *from;
	uint64_t start, end; /* of all bytes that were put into the pipe */
};

#define LOANS_MAX 16u

struct pipe {
	uint8_t bytes[PIPE_BYTES];
	unsigned int head, used, room;
	uint64_t got; /* bytes in all */
	struct loan loan[LOANS_MAX];
	unsigned int loans;
	bool ended; /* its writer says no more */
	bool deaf;  /* its reader is gone */
};

struct link {
	struct pipe pipe[2]; /* to the destination, to the source */
	uint64_t stalled_until;
	unsigned int patience_ms[2]; /* of the source, of the destination */
	bool commit_sent;	     /* to its last byte */
	bool disturbed;		     /* cut, stalled or cancelled */
};

void link_reset(struct link *link, unsigned int room);
void link_cut(struct link *link);

/* --------------------------------------------------------------- guest --- */

enum page_state {
	PAGE_FREE,
	PAGE_LIVE,	/* written since it was allocated */
	PAGE_HELD,	/* handed over in a report */
	PAGE_INFLATING, /* on its way into the balloon */
	PAGE_BALLOON,
	PAGE_DEFLATING,
	PAGE_REPORTING, /* isolated while the host discards it */
	PAGE_STATES,
};

struct guest_page {
	uint8_t state;
	bool usable;	  /* the allocator has it */
	bool discarded;	  /* by the host, and not written since */
	bool queued;	  /* its hint was not taken by the device yet */
	uint32_t version; /* what it was filled with last */
};

#define RING_MAX 16u
#define SENT_MAX 64u /* some may be used again before they are looked at */
#define FRAMES_MAX RING_MAX /* in one buffer of the inflate queue */

/* A buffer of the free page queue as the driver sent it. */
struct sent {
	enum { SENT_ID, SENT_SIGN, SENT_BLOCK } kind;
	uint32_t id;
	struct page_run run;
};

struct handler {
	bool busy;
	unsigned int step;
	uint32_t value, seen[3]; /* of the registers */
};

enum driver_state {
	DRIVER_NONE,
	DRIVER_RESETTING, /* wrote 0 into status, reads until it is so */
	DRIVER_OK,
};

struct adjust {
	enum { SETTLED, INFLATING, DEFLATING } state;
	uint32_t target, actual;
	unsigned int count;
	bool awake, starved;
	unsigned int moves; /* of the guest before it was sent */
};

struct guest {
	struct guest_page page[FRAMES];
	unsigned int usable[RAM_PAGES], usables; /* frames of the allocator */
	unsigned int in_state[PAGE_STATES];
	unsigned int live_most;
	uint32_t last_version;
	unsigned int moves; /* it has made */

	enum driver_state driver;
	uint64_t features;
	bool commands; /* speaks command-register */
	bool v17;      /* speaks that */
	struct vring_driver ring[BALLOON_QUEUES];
	struct report_driver standard;
	struct v17_driver v17_driver;
	struct handler handler[2];
	bool handler_wanted; /* once by itself after DRIVER_OK */

	/* The worker of the report. */
	bool awake, open;
	unsigned int unkicked, words;
	uint32_t current; /* id of the report that is open */
	struct sent sent[SENT_MAX];
	uint16_t taken; /* by the device, of those sent */
	/* By what the handler has heard (G-3, G-4, G-7, W-12). */
	bool stopped, sign_alone, done_handled;

	struct adjust adjust;
	bool reporting;		  /* a buffer is in that queue */
	struct page_run reported; /* of the one */
	unsigned int reported_moves;
	uint32_t stats_value;

	uint64_t ids, signs, starts; /* of this driver */
	uint32_t seen_cmd_id;
};

/* guest.c: memory and its allocator */
void guest_boot(void);
/* Fill a page of @host, past its log. */
void guest_fill(struct host *host, unsigned int frame, uint32_t version);
/* Bytes at @at of the guest's own pages, which it writes now. */
void *guest_own(unsigned int frame, unsigned int at);
bool page_filled(const void *page, uint32_t version);
void guest_write(unsigned int frame, uint32_t version);
/* Its host has discarded these; they read as zero, if they are in the balloon. */
void guest_lost(struct page_run run);
void guest_set_state(unsigned int frame, enum page_state state);
/* A frame in that state, at random; or -1. */
int guest_any(enum page_state state);
void guest_allocator(void);
void guest_give_back(enum page_state from);
/* The guest's own pages hang from another host now. */
void guest_moved_to(struct host *host);

/* driver.c: handler, balloon, statistics, reporting */
void driver_boot(void);
bool driver_can_step(void);
void driver_boot_step(void);
void driver_reset(void);
bool driver_interrupts(void);
void driver_interrupt(void);
bool handler_can_step(void);
void handler_step(void);
bool adjust_can_step(void);
void adjust_step(void);
void driver_kick(enum balloon_queue queue);
uint32_t driver_read(uint32_t offset);
void driver_write(uint32_t offset, uint32_t value);
struct command_driver *driver_commands(void);
void driver_v17_stop(void);

/* adjust.c */
void adjust_boot(void);
void statistics_fill(void);
void reporting_send(void);
void reporting_reap(void);

/* worker.c */
void worker_boot(void);
void worker_leave(void);
bool worker_can_step(void);
void worker_step(void);

/* -------------------------------------------------------------- world --- */

#define PROTOCOLS 3u

/* By the numbers of fault.h. */
extern const struct balloon_protocol *const sim_protocols[PROTOCOLS];

/* What a seed decides before the first step. */
struct setup {
	unsigned int protocol;
	unsigned int ring_size;
	uint64_t offered, wanted;
	bool initially_set, manual_clear;
	bool memfd[2];
	bool zeroes;	 /* init_on_alloc */
	bool discards_fail;
	unsigned int room;   /* of the link */
	unsigned int pages;  /* of the allocator */
	unsigned int batch;  /* hints per kick */
	unsigned int taking; /* how likely hinted pages are taken back */
	unsigned int dirtied; /* of 4 free pages exist at the boot */
	unsigned int chaos;  /* steps before the calm */
	unsigned int edges;  /* a thread gives way at one in so many */
	/* Inflated pages wait for the rest of a block of so many (0: not), so
	 * many at most, for so long (NEVER: until it comes). */
	unsigned int block, held_most;
	uint64_t held_ns;
	unsigned int trouble; /* how likely the user makes some, of 256 */
	unsigned int moves;  /* at most */
};

enum actor {
	ACTOR_SOURCE,
	ACTOR_DESTINATION,
	ACTOR_DEVICE_0,
	ACTOR_DEVICE_1,
	ACTOR_USER,
	ACTOR_INTERRUPT,
	ACTOR_HANDLER,
	ACTOR_WORKER,
	ACTOR_ADJUST,
	ACTOR_BOOT,
	ACTOR_ALLOCATOR,
	ACTORS,
};

struct tally {
	uint64_t schedules, steps;
	uint64_t started, committed, cancelled, failed, lost;
	uint64_t verified, zeroing, paused, resets, driver_resets;
	uint64_t ranges, range_pages;
	uint64_t hints, hinted_pages, left_out, taken, window, read;
	uint64_t targets, statistics, starts, signs;
	uint64_t held, cancelled_held; /* pages that waited; in vain */
	uint64_t by_protocol[PROTOCOLS];
};

struct world {
	struct random random;
	struct setup setup;
	uint64_t seed, limit;
	enum fault fault;
	uint64_t now, step;
	bool calm; /* no choices any more, everybody finishes */
	bool trace;
	const char *failed; /* the invariant; NULL: none */
	char why[512];

	struct host host[2];
	struct host *here; /* where the guest is, or was last */
	struct guest guest;
	struct link link;
	struct migration_source source;
	struct coroutine source_thread, destination_thread, user_thread;
	struct channel destination_channel;
	struct host *from, *to; /* of the move under way */
	bool moving, lost;
	unsigned int moves;
	int destination_rc;
	struct error destination_error;
	unsigned int refuse; /* where the destination says no; 0: nowhere */
	bool arrives_paused, keeps_irqs;
	uint32_t target; /* the host's */
	uint32_t last_id;

	uint8_t slot[256]; /* actors by weight */
	unsigned int last_actor;
};

extern struct world world;
extern struct tally tally;

/* schedule.c. One of @n, 0 when all is calm. */
unsigned int draw(unsigned int n);
static inline bool chance(unsigned int in)
{
	return draw(in) == 1;
}
/* A thread may be overtaken here. */
void edge(void);
bool schedule_run(uint64_t seed, uint64_t limit, enum fault fault,
		  int protocol, bool trace);
bool others_idle(void *unused);
__attribute__((format(printf, 1, 2))) void trace_line(const char *format, ...);
#define trace(...)                                                             \
	do {                                                                   \
		if (__builtin_expect(world.trace, 0))                          \
			trace_line(__VA_ARGS__);                               \
	} while (0)

static inline bool fault(enum fault which)
{
	return __builtin_expect(world.fault == which, 0);
}

/* user.c */
void user_main(void *unused);

/* move.c */
bool move_begin(void);
bool move_over(void *unused);
void move_conclude(void);
/* The source has got through; its destination begins. */
void move_connected(void);

/* check.c */
__attribute__((format(printf, 2, 3))) void fail(const char *invariant,
						const char *format, ...);
void check_memory(const char *when);
void check_arrived(void);
void check_runs(const struct host *host);
void check_registers(void);
void check_quiet(void);
void check_stopped(const struct host *host, bool made);
void check_state_change(enum report_state from, enum report_state to);
/* What the device counts, told a second time. */
void model_reset(void);
void model_start(struct host *host);
void model_close(void);
/* The guest's STOP of v17 is heard: as close; and by the host of the fault. */
void model_hear_stop(void);
void model_served(struct host *host);

#endif
