/* SPDX-License-Identifier: MIT */
/*
 * A real source and a real destination of a migration, and everything around
 * them made of nothing: a guest that is a test's script, a dirty log in
 * software, a free_page_source that does what the script says, and a line
 * between the two that records, cuts and damages what passes.
 *
 * The script is called at every moment the source asks something of its
 * surroundings, on the source's own thread: what the guest does then happens
 * exactly then, so a run is the same each time.
 */
#ifndef MIGRATION_FIXTURE_H
#define MIGRATION_FIXTURE_H

#include "unit.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/endian.h"
#include "memory/backing.h"
#include "migration/destination.h"
#include "migration/source.h"

/* Two regions of 6 MiB and a hole between them. */
#define LOW_PAGES 1536u
#define HIGH_FIRST 4096u
#define HIGH_PAGES 1536u
#define FRAMES (HIGH_FIRST + HIGH_PAGES)
#define RAM_PAGES (LOW_PAGES + HIGH_PAGES)
#define REGION_BYTES (LOW_PAGES * 4096ull)
#define HUGE_BYTES (2ull << 20)

static inline bool is_ram(uint64_t page)
{
	return page < LOW_PAGES || (page >= HIGH_FIRST && page < FRAMES);
}

/* The n-th page of RAM. */
static inline uint64_t ram_page(uint64_t n)
{
	return n < LOW_PAGES ? n : n - LOW_PAGES + HIGH_FIRST;
}

/* ------------------------------------------------------------- memory --- */

struct vm {
	struct guest_memory memory;
	void *map[2];
};

#define MAP_BYTES (REGION_BYTES + 2 * HUGE_BYTES)

static inline void vm_region(struct vm *vm, unsigned int i, uint64_t first)
{
	uintptr_t at;
	struct memory_region region = { { first << 12 }, REGION_BYTES, NULL };

	vm->map[i] = mmap(NULL, MAP_BYTES, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(vm->map[i] != MAP_FAILED);
	/* With pages nobody may touch on both sides. */
	at = ((uintptr_t)vm->map[i] + HUGE_BYTES) & ~(HUGE_BYTES - 1);
	region.host = (uint8_t *)at;
	assert_int_equal(mprotect(region.host, REGION_BYTES,
				  PROT_READ | PROT_WRITE), 0);
	madvise(region.host, REGION_BYTES, MADV_NOHUGEPAGE);
	assert_int_equal(guest_memory_add_region(&vm->memory, region), 0);
}

static inline void vm_create(struct vm *vm)
{
	memset(vm, 0, sizeof(*vm));
	/* khugepaged fills the holes of what it merges, whenever it comes by;
	 * these tests count pages. */
	assert_int_equal(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
	vm_region(vm, 0, 0);
	vm_region(vm, 1, HIGH_FIRST);
	assert_int_equal(page_set_create(&vm->memory.written, FRAMES, NULL),
			 0);
}

static inline void vm_destroy(struct vm *vm)
{
	munmap(vm->map[0], MAP_BYTES);
	munmap(vm->map[1], MAP_BYTES);
	page_set_free(&vm->memory.written);
}

static inline uint64_t *vm_page(const struct vm *vm, uint64_t page)
{
	return guest_memory_span(&vm->memory, (struct gpa){ page << 12 },
				 4096);
}

/* Pages that exist, by pagemap. */
static inline struct page_set vm_populated(const struct vm *vm)
{
	struct page_set set;
	struct page_run all = { 0, FRAMES };

	assert_int_equal(page_set_create(&set, FRAMES, NULL), 0);
	assert_int_equal(backing_populated(&vm->memory, all, &set, NULL), 0);
	return set;
}

static inline bool vm_exists(const struct vm *vm, uint64_t page)
{
	struct page_set set = vm_populated(vm);
	bool there = page_set_contains(&set, page);

	page_set_free(&set);
	return there;
}

/* A page's content from a number; 0 is a page of zeroes. The guest writes while
 * the source sends, by design: a page that was torn is in the dirty log. So
 * ThreadSanitizer need not look here. */
__attribute__((noinline, unused, no_sanitize("thread")))
static void fill_page(uint64_t *at, uint64_t value)
{
	unsigned int i;

	for (i = 0; i < 512; i++)
		at[i] = value ? value * 0x9e3779b97f4a7c15ull + i : 0;
}

static inline bool page_filled(const uint64_t *at, uint64_t value)
{
	uint64_t want[512];

	fill_page(want, value);
	return !memcmp(at, want, sizeof(want));
}

/* --------------------------------------------------------------- line --- */

/* Between the two ends. Runs on a thread of its own. */
struct line {
	int source, destination;   /* its own ends */
	uint64_t cut, cut_answers; /* pass that many bytes, then hang up */
	uint64_t flip;		   /* byte to damage on its way */
	uint64_t cancel;	   /* cancel once that many have passed */
	int patience_ms;	   /* hang up after a silence; -1: never */
	struct migration_source *to_cancel;
	struct buffer recorded;
	uint64_t answered;
	pthread_t thread;
};

static inline bool line_send(int fd, const uint8_t *bytes, size_t count)
{
	while (count) {
		ssize_t rc = send(fd, bytes, count, MSG_NOSIGNAL);

		if (rc <= 0)
			return false;
		bytes += rc;
		count -= rc;
	}
	return true;
}

/* Return: false when the line is to be hung up */
static inline bool line_forward(struct line *line)
{
	uint8_t bytes[16384];
	uint64_t passed = line->recorded.used;
	ssize_t got = recv(line->source, bytes, sizeof(bytes), 0);
	bool whole = true;

	if (got <= 0)
		return false;
	if (passed + got >= line->cut) {
		got = line->cut - passed;
		whole = false;
	}
	buffer_put(&line->recorded, bytes, got);
	if (line->flip >= passed && line->flip < passed + got)
		bytes[line->flip - passed] ^= 0x40;
	if (passed + got >= line->cancel) {
		migration_source_cancel(line->to_cancel);
		line->cancel = UINT64_MAX;
	}
	/* A destination that hung up may have said why: see below. */
	line_send(line->destination, bytes, got);
	return whole;
}

static inline bool line_answer(struct line *line)
{
	uint8_t bytes[1024];
	ssize_t got = recv(line->destination, bytes, sizeof(bytes), 0);
	bool whole = true;

	if (got <= 0)
		return false;
	if (line->answered + got > line->cut_answers) {
		got = line->cut_answers - line->answered;
		whole = false;
	}
	line->answered += got;
	return line_send(line->source, bytes, got) && whole;
}

static inline void *line_main(void *argument)
{
	struct line *line = argument;
	struct pollfd fds[2] = {
		{ .fd = line->destination, .events = POLLIN },
		{ .fd = line->source, .events = POLLIN },
	};
	bool open = true;

	while (open && poll(fds, 2, line->patience_ms) > 0) {
		if (fds[0].revents)
			open = line_answer(line);
		else if (fds[1].revents)
			open = line_forward(line);
	}
	close(line->source);
	close(line->destination);
	return NULL;
}

/* -------------------------------------------------------------- world --- */

/* When the script is called. */
enum moment {
	AT_CONFIG,	/* CONFIG is asked for */
	AT_ARM,		/* before the log is armed */
	AT_ARMED,	/* after */
	AT_START,	/* a report is asked for */
	AT_WAIT,
	AT_DRAIN,	/* hints may still come in this call */
	AT_SYNC,	/* before the log is read */
	AT_SYNCED,	/* after */
	AT_STOP,
	AT_WAS_RUNNING,
	AT_SAVE,
	AT_GO_ON,
	AT_LEAVE,
	AT_DONE,
	AT_DISARM,
	MOMENTS,
};

struct world {
	struct vm here, there;
	struct migration_source source;
	struct line line;
	struct migration_status status;

	/* The guest: does a page's content matter to it? */
	bool matters[FRAMES];
	bool stopped;

	struct dirty_log log;
	pthread_mutex_t lock; /* a write and its bit are one */
	bool armed, bit[FRAMES];
	bool plain_log; /* as KVM without INITIALLY_SET */

	struct free_page_source free_pages;
	bool cannot_report, impatient; /* wait() does not wait */
	struct page_set *hinted; /* while hints are accepted */
	struct free_page_progress progress;

	void (*script)(struct world *w, enum moment moment,
		       unsigned int nth);
	void *own; /* the script's */
	uint64_t seed;
	unsigned int count[MOMENTS];
	bool fail_stop, fail_save;
	unsigned int states; /* STATE records saved */
	bool all_states;     /* one of each kind, as a machine has them */

	/* The destination. */
	const char *refuse_config, *refuse_state, *refuse_loaded;
	pthread_t thread;
	int destination_fd, rc;
	struct error err;
	unsigned int created, loads, loaded, arrived;
	bool run, out_of_order;
};

static inline void step(struct world *w, enum moment moment)
{
	unsigned int nth = w->count[moment]++;

	if (w->script)
		w->script(w, moment, nth);
}

/* -------------------------------------------------- what the guest does --- */

static inline void guest_write(struct world *w, uint64_t page, uint64_t value)
{
	pthread_mutex_lock(&w->lock);
	fill_page(vm_page(&w->here, page), value);
	w->bit[page] |= w->armed;
	w->matters[page] = true;
	pthread_mutex_unlock(&w->lock);
}

/* It needs the page no more. */
static inline void guest_free(struct world *w, uint64_t page)
{
	w->matters[page] = false;
}

/* The balloon takes a page the guest does not use. Not in the log. */
static inline void guest_discard(struct world *w, uint64_t page)
{
	struct page_run gone;

	w->matters[page] = false;
	assert_int_equal(backing_discard(&w->here.memory,
					 (struct page_run){ page, 1 }, &gone),
			 0);
}

static inline void guest_hint(struct world *w, uint64_t page)
{
	assert_non_null(w->hinted);
	w->matters[page] = false;
	page_set_add(w->hinted, (struct page_run){ page, 1 });
	w->progress.hints++;
	w->progress.pages++;
}

static inline void write_run(struct world *w, uint64_t first, uint64_t count,
			     uint64_t value)
{
	uint64_t i;

	for (i = 0; i < count; i++)
		guest_write(w, first + i, value ? value + i : 0);
}

static inline void hint_run(struct world *w, uint64_t first, uint64_t count)
{
	for (; count--; first++)
		guest_hint(w, first);
}

/* ----------------------------------------------------------- dirty log --- */

#define of_log(log_) \
	((struct world *)((char *)(log_) - offsetof(struct world, log)))

static inline int fake_arm(struct dirty_log *log,
			   const struct page_set *populated, struct error *err)
{
	struct world *w = of_log(log);
	uint64_t page;

	step(w, AT_ARM);
	pthread_mutex_lock(&w->lock);
	w->armed = true;
	for (page = 0; page < FRAMES; page++)
		w->bit[page] = is_ram(page) && !w->plain_log &&
			       !page_set_contains(populated, page);
	pthread_mutex_unlock(&w->lock);
	step(w, AT_ARMED);
	return 0;
}

static inline int64_t fake_sync(struct dirty_log *log,
				const struct page_set *populated,
				struct page_set *into, struct error *err)
{
	struct world *w = of_log(log);
	int64_t written = 0;
	uint64_t page;

	/* No report may be open: R3. */
	assert_null(w->hinted);
	step(w, AT_SYNC);
	pthread_mutex_lock(&w->lock);
	for (page = 0; page < FRAMES; page++) {
		if (!w->bit[page] ||
		    (!w->plain_log && !page_set_contains(populated, page)))
			continue;
		w->bit[page] = false;
		page_set_add(into, (struct page_run){ page, 1 });
		written++;
	}
	written += page_set_take_shared(into, &w->here.memory.written);
	pthread_mutex_unlock(&w->lock);
	step(w, AT_SYNCED);
	return written;
}

static inline void fake_disarm(struct dirty_log *log)
{
	struct world *w = of_log(log);

	w->armed = false;
	step(w, AT_DISARM);
}

static const struct dirty_log_ops fake_log_ops = {
	.arm = fake_arm,
	.sync = fake_sync,
	.disarm = fake_disarm,
};

/* ---------------------------------------------------------- free pages --- */

#define of_free_pages(source_)                                                 \
	((struct world *)((char *)(source_) -                                  \
			  offsetof(struct world, free_pages)))

static inline bool fake_start(struct free_page_source *source,
			      struct page_set *hinted)
{
	struct world *w = of_free_pages(source);

	assert_true(w->armed); /* R1 */
	assert_null(w->hinted);
	assert_true(page_set_is_empty(hinted));
	if (!w->cannot_report) {
		w->hinted = hinted;
		w->progress.state = FREE_PAGE_REQUESTED;
	}
	step(w, AT_START);
	return !w->cannot_report;
}

static inline void fake_wait(struct free_page_source *source,
			     unsigned int timeout_ms,
			     struct free_page_progress *progress)
{
	struct world *w = of_free_pages(source);
	enum free_page_state before = w->progress.state;

	step(w, AT_WAIT);
	if (w->progress.state == before && !w->impatient)
		usleep(timeout_ms * 1000);
	*progress = w->progress;
}

static inline void fake_drain(struct free_page_source *source,
			      struct free_page_progress *progress)
{
	struct world *w = of_free_pages(source);

	step(w, AT_DRAIN);
	w->hinted = NULL;
	*progress = w->progress;
}

static inline void fake_done(struct free_page_source *source)
{
	step(of_free_pages(source), AT_DONE);
}

static const struct free_page_source_ops fake_free_page_ops = {
	.start = fake_start,
	.wait = fake_wait,
	.drain = fake_drain,
	.done = fake_done,
};

/* --------------------------------------------------------- source's ops --- */

#define CPUID_BYTES (8 + 28)
#define CONFIG_MEMORY (FRAMES * 4096ull)

static inline void put_config(struct buffer *config)
{
	buffer_put_string(config, "vm");
	buffer_put_u64(config, CONFIG_MEMORY);
	buffer_put_u32(config, 1);
	buffer_put_string(config, "/boot/kernel");
	buffer_put_u64(config, 0x1122334455667788);
	buffer_put_string(config, "");
	buffer_put_u64(config, 0);
	buffer_put_string(config, "console=ttyS0");
	buffer_put_u32(config, 0);
	buffer_put_u32(config, 0);
	buffer_put_u32(config, 0);
	buffer_put_string(config, "standard");
	buffer_put_u64(config, 0);
	buffer_put_u32(config, 0);
}

static inline void put_cpuid(struct buffer *cpuid)
{
	static const uint8_t entry[28] = { 1 };

	buffer_put_u32(cpuid, 2000000);
	buffer_put_u32(cpuid, 1);
	buffer_put(cpuid, entry, sizeof(entry));
}

static inline void fake_save_config(void *guest, struct buffer *config,
				    struct buffer *cpuid)
{
	struct world *w = guest;

	step(w, AT_CONFIG);
	put_config(config);
	put_cpuid(cpuid);
}

static inline int fake_stop(void *guest, struct error *err)
{
	struct world *w = guest;

	step(w, AT_STOP);
	if (w->fail_stop)
		return error_set(err, "the guest does not stop");
	w->stopped = true;
	return 0;
}

static inline bool fake_was_running(void *guest)
{
	step(guest, AT_WAS_RUNNING);
	return true;
}

static inline void put_state(struct state_writer *writer, uint32_t kind,
			     size_t length)
{
	struct buffer payload = { 0 };
	size_t i;

	for (i = 0; i < length; i++)
		buffer_put(&payload, "\0", 1);
	state_writer_add(writer, kind, 0, &payload);
	buffer_free(&payload);
}

static inline void put_vcpu(struct state_writer *writer)
{
	struct buffer payload = { 0 };
	uint32_t part;

	for (part = 1; part <= 9; part++) {
		buffer_put_u32(&payload, part);
		buffer_put_u32(&payload, 4);
		buffer_put_u32(&payload, 0);
	}
	state_writer_add(writer, 3, 0, &payload);
	buffer_free(&payload);
}

static inline int fake_save_state(void *guest, struct state_writer *writer,
				  struct error *err)
{
	struct world *w = guest;

	assert_true(w->stopped);
	step(w, AT_SAVE);
	if (w->fail_save)
		return error_set(err, "the state cannot be saved");
	put_state(writer, 1, 8);
	if (w->all_states) {
		put_state(writer, 2, 3 * sizeof(struct kvm_irqchip));
		put_vcpu(writer);
		put_state(writer, 4, 73);
	}
	put_state(writer, 6, 16);
	w->states = writer->count;
	return 0;
}

static inline void fake_go_on(void *guest)
{
	struct world *w = guest;

	w->stopped = false;
	step(w, AT_GO_ON);
}

static inline void fake_leave(void *guest)
{
	step(guest, AT_LEAVE);
}

static const struct migration_guest_ops fake_guest_ops = {
	.save_config = fake_save_config,
	.stop = fake_stop,
	.was_running = fake_was_running,
	.save_state = fake_save_state,
	.go_on = fake_go_on,
	.leave = fake_leave,
};

/* ---------------------------------------------------- destination's ops --- */

/* On the destination's thread: nothing is asserted here. */
static inline struct guest_memory *fake_create(void *host,
					       struct buffer_reader *config,
					       struct buffer_reader *cpuid,
					       struct error *err)
{
	struct world *w = host;
	char text[64];

	if (w->created++ || w->loads || w->loaded || w->arrived)
		w->out_of_order = true;
	buffer_get_string(config, text, sizeof(text));
	if (config->failed || strcmp(text, "vm") ||
	    buffer_get_u64(config) != CONFIG_MEMORY ||
	    cpuid->left != CPUID_BYTES) {
		error_set(err, "not the configuration that was sent");
		return NULL;
	}
	if (w->refuse_config) {
		error_set(err, "%s", w->refuse_config);
		return NULL;
	}
	return &w->there.memory;
}

static inline int fake_load_state(void *host, uint32_t kind, uint32_t instance,
				  struct buffer_reader *payload,
				  struct error *err)
{
	struct world *w = host;

	if (!w->created || w->loaded || w->arrived)
		w->out_of_order = true;
	w->loads++;
	if (w->refuse_state)
		return error_set(err, "%s", w->refuse_state);
	return 0;
}

static inline int fake_loaded(void *host, struct error *err)
{
	struct world *w = host;

	if (!w->created || w->loaded++ || w->arrived)
		w->out_of_order = true;
	if (w->refuse_loaded)
		return error_set(err, "%s", w->refuse_loaded);
	return 0;
}

static inline void fake_arrive(void *host, bool run)
{
	struct world *w = host;

	if (!w->loaded || w->arrived++)
		w->out_of_order = true;
	w->run = run;
}

static const struct migration_host_ops fake_host_ops = {
	.create = fake_create,
	.load_state = fake_load_state,
	.loaded = fake_loaded,
	.arrive = fake_arrive,
};

static inline void *destination_main(void *argument)
{
	struct world *w = argument;
	struct channel channel;

	channel_open(&channel, w->destination_fd);
	w->rc = migration_destination_run(&channel, &fake_host_ops, w,
					  &w->err);
	channel_close(&channel);
	return NULL;
}

/* ---------------------------------------------------------------- a run --- */

static inline struct world *world_new(void (*script)(struct world *w,
						     enum moment moment,
						     unsigned int nth))
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	signal(SIGPIPE, SIG_IGN); /* as the program does */
	vm_create(&w->here);
	vm_create(&w->there);
	pthread_mutex_init(&w->lock, NULL);
	assert_int_equal(migration_source_init(&w->source, &w->here.memory,
					       NULL), 0);
	w->log.ops = &fake_log_ops;
	w->free_pages.ops = &fake_free_page_ops;
	w->source.dirty_log = &w->log;
	w->source.free_pages = &w->free_pages;
	w->source.ops = &fake_guest_ops;
	w->source.guest = w;
	w->source.options.downtime_ms = 10000;
	w->line.cut = w->line.cut_answers = UINT64_MAX;
	w->line.flip = w->line.cancel = UINT64_MAX;
	w->line.patience_ms = -1;
	w->line.to_cancel = &w->source;
	w->script = script;
	return w;
}

static inline struct world *hinting_world(void (*script)(struct world *w,
							 enum moment moment,
							 unsigned int nth))
{
	struct world *w = world_new(script);

	w->source.options.hinting = true;
	return w;
}

static inline void world_delete(struct world *w)
{
	migration_source_destroy(&w->source);
	vm_destroy(&w->here);
	vm_destroy(&w->there);
	buffer_free(&w->line.recorded);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static inline void world_run(struct world *w)
{
	int left[2], right[2];
	char uri[32];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, left), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, right), 0);
	w->line.source = left[1];
	w->line.destination = right[0];
	w->destination_fd = right[1];
	assert_int_equal(pthread_create(&w->line.thread, NULL, line_main,
					&w->line), 0);
	assert_int_equal(pthread_create(&w->thread, NULL, destination_main,
					w), 0);
	snprintf(uri, sizeof(uri), "fd:%d", left[0]);
	migration_source_run(&w->source, uri);
	channel_close(&w->source.channel);
	pthread_join(w->line.thread, NULL);
	pthread_join(w->thread, NULL);
	migration_source_status(&w->source, &w->status);
}

/* What holds however it ended. */
static inline void check_ending(struct world *w)
{
	bool hinting = w->source.options.hinting;

	assert_false(w->out_of_order);
	assert_int_equal(w->count[AT_GO_ON] + w->count[AT_LEAVE],
			 w->count[AT_STOP] && !w->fail_stop);
	assert_true(w->count[AT_DONE] <= 1);
	/* Never on both sides. */
	if (w->arrived)
		assert_int_equal(w->count[AT_LEAVE], 1);
	assert_int_equal(w->arrived, w->rc == 0);
	if (w->rc < 0) {
		assert_true(w->err.message[0]);
		assert_null(strchr(w->err.message, '\n'));
	}
	switch (w->status.state) {
	case MIGRATION_COMPLETED:
		assert_int_equal(w->arrived, 1);
		assert_int_equal(w->count[AT_LEAVE], 1);
		assert_true(w->run);
		assert_int_equal(w->status.bytes_sent,
				 w->status.bytes_received);
		assert_int_equal(w->status.bytes_sent, w->line.recorded.used);
		assert_string_equal(w->status.error, "");
		assert_int_equal(w->loads, w->states);
		break;
	case MIGRATION_UNKNOWN:
		assert_int_equal(w->count[AT_LEAVE], 1);
		break;
	default:
		assert_in_range(w->status.state, MIGRATION_FAILED,
				MIGRATION_CANCELLED);
		assert_int_equal(w->count[AT_LEAVE], 0);
		assert_int_equal(w->arrived, 0);
		assert_int_equal(w->count[AT_DONE], hinting);
		assert_false(w->armed);
		assert_false(w->stopped);
		break;
	}
	if (w->status.state != MIGRATION_COMPLETED) {
		assert_true(w->status.error[0]);
		assert_null(strchr(w->status.error, '\n'));
	}
}

/* Every page that matters is the same on both sides. */
static inline void check_memory(struct world *w)
{
	uint64_t n;

	for (n = 0; n < RAM_PAGES; n++) {
		uint64_t page = ram_page(n);

		if (w->matters[page] && memcmp(vm_page(&w->here, page),
					       vm_page(&w->there, page), 4096))
			fail_msg("page %#llx differs",
				 (unsigned long long)page);
	}
}

static inline void world_move(struct world *w)
{
	world_run(w);
	if (w->status.state != MIGRATION_COMPLETED)
		print_error("state %s: %s; %s\n",
			    migration_state_name(w->status.state),
			    w->status.error, w->err.message);
	assert_int_equal(w->status.state, MIGRATION_COMPLETED);
	check_ending(w);
}

/* ------------------------------------------------------------- recorded --- */

/* What a recorded stream holds, counted. */
struct tally {
	unsigned int pages_records, zero_records, verify_records, waiting;
	unsigned int announce_records, announced_runs;
	uint64_t pages, zero_pages, verified_pages;
};

static inline struct tally tally(const struct buffer *stream)
{
	struct buffer_reader r = { stream->data, stream->used, false };
	struct tally t = { 0 };

	buffer_get_span(&r, sizeof(struct stream_header));
	while (r.left && !r.failed) {
		uint32_t type = buffer_get_u32(&r);
		uint64_t length, i;
		const uint8_t *payload;

		buffer_get_u32(&r);
		length = buffer_get_u64(&r);
		payload = buffer_get_span(&r, length);
		assert_false(r.failed);
		if (type == STREAM_PAGES) {
			t.pages_records++;
			t.pages += le64_load(payload + 8);
		} else if (type == STREAM_ZERO) {
			t.zero_records++;
			for (i = 0; i < length; i += 16)
				t.zero_pages += le64_load(payload + i + 8);
		} else if (type == STREAM_VERIFY) {
			t.verify_records++;
			for (i = 0; i < length; i += 24)
				t.verified_pages += le64_load(payload + i + 8);
		} else if (type == STREAM_WAITING) {
			t.waiting++;
		} else if (type == STREAM_ANNOUNCE) {
			t.announce_records++;
			t.announced_runs += length / 16;
		}
	}
	return t;
}

#define DATA_BYTES(records, pages) ((records) * 32ull + (pages) * 4096ull)
#define ZERO_BYTES(runs) (16 + (runs) * 16ull)
#define ANNOUNCE_BYTES(records, runs) ((records) * 16ull + (runs) * 16ull)

/* Bytes of a stream without memory: header, CONFIG, CPUID, two STATE records,
 * END, COMMIT. */
static inline uint64_t bare_stream_bytes(void)
{
	struct buffer config = { 0 };
	uint64_t bytes;

	put_config(&config);
	bytes = 24 + (16 + config.used) + (16 + CPUID_BYTES) +
		(16 + 8 + 8) + (16 + 8 + 16) + (16 + 8) + 16;
	buffer_free(&config);
	return bytes;
}

#endif
