/* SPDX-License-Identifier: MIT */
/*
 * A real source and a real destination of a migration, and everything around
 * them made of nothing: a guest that is a test's script, a dirty log in
 * software, and a free_page_source that does what the script says. The memory
 * of both is vm_fixture.h's, the line between them line_fixture.h's.
 *
 * The script is called at every moment the source asks something of its
 * surroundings, on the source's own thread: what the guest does then happens
 * exactly then, so a run is the same each time.
 */
#ifndef MIGRATION_FIXTURE_H
#define MIGRATION_FIXTURE_H

#include "line_fixture.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "migration/destination.h"
#include "migration/source.h"

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

#endif
