// SPDX-License-Identifier: MIT
/*
 * The source of a migration.
 *
 * The order that keeps the guest's memory safe (docs/architecture.md):
 *  1. arm the dirty log; only then ask for free pages (R1);
 *  2. while hints are accepted nothing clears the log (R2);
 *  3. at the end of a round close the report and wait for its thread (R3,
 *     R29), take what was hinted out of to_send, and only then sync the log:
 *     a page written after it was freed is in the log and comes back;
 *  4. stop the guest and its devices, save their state (which writes memory),
 *     then take the last log.
 */
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/log.h"
#include "memory/backing.h"
#include "migration/policy.h"
#include "migration/source_internal.h"

#define NS_PER_MS 1000000ull
#define REFUSAL_MS 200
#define RESIDENT_MS 1000
#define SETTLE_MS 200
/* Beyond this and ten times the limit that the user gave, a guest that stands
 * still is better off here; hashes are taken at so much a millisecond. */
#define STILL_MOST_MS 30000
#define HASHED_PER_MS (256u << 10)
#define RUNNING_MS 30000
/* A few times within the destination's patience. */
#define SILENT_NS (5 * 1000000000ull)
/* Before anything was measured: stop, state and hand-over. */
#define FIXED_GUESS_MS 30

static const char *const state_names[] = {
	[MIGRATION_NONE] = "none",
	[MIGRATION_SETUP] = "setup",
	[MIGRATION_ACTIVE] = "active",
	[MIGRATION_STOPPING] = "device",
	[MIGRATION_COMPLETED] = "completed",
	[MIGRATION_FAILED] = "failed",
	[MIGRATION_CANCELLED] = "cancelled",
	[MIGRATION_UNKNOWN] = "unknown",
};

const char *migration_state_name(enum migration_state state)
{
	return state_names[state];
}

uint64_t migration_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void set_state(struct migration_source *source,
		      enum migration_state state)
{
	scoped_lock(&source->lock);
	source->status.state = state;
	log_debug("migration", "%s", state_names[state]);
}

/* ------------------------------------------------------------- set-up --- */

int migration_source_init(struct migration_source *source,
			  struct guest_memory *memory, struct error *err)
{
	struct page_set *sets[] = { &source->populated, &source->to_send,
				    &source->sent,	&source->hinted,
				    &source->left_out,	&source->dirty };
	size_t i;

	memset(source, 0, sizeof(*source));
	source->memory = memory;
	channel_init(&source->channel);
	source->status.ram_bytes = memory->size;
	pthread_mutex_init(&source->lock, NULL);
	for (i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		if (page_set_create(sets[i], memory->frames, err) < 0) {
			migration_source_destroy(source);
			return -1;
		}
	return 0;
}

void migration_source_destroy(struct migration_source *source)
{
	page_set_free(&source->populated);
	page_set_free(&source->to_send);
	page_set_free(&source->sent);
	page_set_free(&source->hinted);
	page_set_free(&source->left_out);
	page_set_free(&source->dirty);
	channel_close(&source->channel);
}

/* Header, CONFIG and CPUID; then the destination's word. */
static int introduce(struct migration_source *source, struct error *err)
{
	struct stream_header header = {
		.magic = STREAM_MAGIC,
		.version = le32_make(STREAM_VERSION),
		.oldest = le32_make(STREAM_OLDEST),
		.flags = le32_make(source->options.verify ?
					   STREAM_FLAG_VERIFY : 0),
	};
	struct iovec part = { &header, sizeof(header) };
	struct buffer config = { 0 }, cpuid = { 0 };
	int rc;

	source->ops->save_config(source->guest, &config, &cpuid);
	rc = channel_write(&source->channel, &part, 1, err);
	if (rc == 0)
		rc = channel_write_record(&source->channel, STREAM_CONFIG,
					  config.data, config.used, err);
	if (rc == 0)
		rc = channel_write_record(&source->channel, STREAM_CPUID,
					  cpuid.data, cpuid.used, err);
	buffer_free(&config);
	buffer_free(&cpuid);
	return rc;
}

/* Reads a REFUSED record's text into @err. Return: -1 */
static int read_refusal(struct migration_source *source, uint64_t length,
			struct error *err)
{
	char why[sizeof(err->message) - 64];

	if (length >= sizeof(why))
		length = sizeof(why) - 1;
	if (channel_read(&source->channel, why, length, err) < 0)
		return -1;
	why[length] = '\0';
	return error_set(err, "the destination refused the guest: %s", why);
}

/* Wait for one reply of @length bytes. Return: 0, or -1 with @err */
static int expect(struct migration_source *source, uint32_t type, void *payload,
		  uint64_t length, struct error *err)
{
	uint32_t got;
	uint64_t got_length;

	for (;;) {
		if (channel_read_record(&source->channel, &got, &got_length,
					err) < 0)
			return -1;
		if (got == type || !(got & STREAM_TYPE_OPTIONAL))
			break;
		if (channel_skip_record(&source->channel, got, got_length,
					err) < 0)
			return -1;
	}
	if (got == STREAM_REFUSED)
		return read_refusal(source, got_length, err);
	if (got != type || got_length != length)
		return error_set(err, "the destination answered with record "
				 "%#x instead of %#x", got, type);
	return channel_read(&source->channel, payload, length, err);
}

bool source_is_silent(struct migration_source *source, uint64_t now)
{
	if (source->channel.sent != source->heard_bytes) {
		source->heard_bytes = source->channel.sent;
		source->heard_ns = now;
	}
	return now - source->heard_ns >= SILENT_NS;
}

int source_keep_alive(struct migration_source *source, uint64_t now,
		      struct error *err)
{
	if (!source_is_silent(source, now))
		return 0;
	return channel_write_record(&source->channel, STREAM_WAITING, NULL, 0,
				    err);
}

int source_arm(struct migration_source *source, struct error *err)
{
	struct page_run all = { 0, source->memory->frames };

	if (backing_populated(source->memory, all, &source->populated, err) < 0)
		return -1;
	if (source->dirty_log->ops->arm(source->dirty_log, &source->populated,
					err) < 0)
		return -1;
	/* What came into being while the log was armed counts as well. */
	if (backing_populated(source->memory, all, &source->populated, err) < 0)
		return -1;
	page_set_union(&source->to_send, &source->populated);
	return 0;
}

/* ---------------------------------------------------------- the log --- */

int64_t source_sync_log(struct migration_source *source, struct error *err)
{
	struct page_run all = { 0, source->memory->frames };
	int64_t written;

	/* A page that is absent now was not written before now; its bit stays
	 * in the log until it exists. */
	page_set_clear(&source->populated);
	if (backing_populated(source->memory, all, &source->populated, err) < 0)
		return -1;
	page_set_clear(&source->dirty);
	written = source->dirty_log->ops->sync(source->dirty_log,
					       &source->populated,
					       &source->dirty, err);
	if (written < 0)
		return -1;
	page_set_subtract(&source->left_out, &source->dirty);
	page_set_union(&source->to_send, &source->dirty);
	return written;
}

/* ------------------------------------------------------------- rounds --- */

static struct migration_round *begin_round(struct migration_source *source)
{
	unsigned int index;

	scoped_lock(&source->lock);
	index = source->status.rounds < MIGRATION_MAX_ROUNDS ?
			source->status.rounds : MIGRATION_MAX_ROUNDS - 1;
	source->status.rounds++;
	memset(&source->status.round[index], 0, sizeof(source->status.round[0]));
	return &source->status.round[index];
}

/* One pass over to_send, with what was written meanwhile found at its end.
 * Return: 0, or -1 with @err */
static int one_round(struct migration_source *source, bool last,
		     struct error *err)
{
	struct migration_round *round = begin_round(source);
	uint64_t started = migration_now_ns(), sent_before, ms;
	int64_t written = 0;

	sent_before = source->status.pages_sent;
	if (source_send_pages(source, last, err) < 0)
		return -1;
	ms = (migration_now_ns() - started) / NS_PER_MS;
	source->busy_ns += migration_now_ns() - started;
	if (!last) {
		source_drain(source);
		written = source_sync_log(source, err);
		if (written < 0)
			return -1;
	}
	scoped_lock(&source->lock);
	round->pages_sent = source->status.pages_sent - sent_before;
	round->dirty = written;
	round->ms = ms;
	return 0;
}

static bool time_to_stop(struct migration_source *source)
{
	uint64_t limit = source->options.downtime_ms;
	struct round_stats stats = {
		.pages_left = page_set_count(&source->to_send),
		.pages_done = source->pages_done,
		.busy_ms = source->busy_ns / NS_PER_MS,
		/* A small limit is met as far as pages go; 0 never is. */
		.fixed_ms = !limit || limit / 2 > FIXED_GUESS_MS ?
				    FIXED_GUESS_MS : limit / 2,
		.downtime_ms = limit,
	};

	return policy_should_stop(&stats);
}

static int iterate(struct migration_source *source, struct error *err)
{
	do {
		if (one_round(source, false, err) < 0)
			return -1;
		if (atomic_load(&source->cancel))
			return error_set(err, "cancelled");
	} while (!time_to_stop(source));
	return 0;
}

/* ---------------------------------------------------------- hand-over --- */

void state_writer_add(struct state_writer *writer, uint32_t kind,
		      uint32_t instance, const struct buffer *payload)
{
	struct stream_record record = {
		.type = le32_make(STREAM_STATE),
		.length = le64_make(payload->used + 8),
	};

	buffer_put(writer->records, &record, sizeof(record));
	buffer_put_u32(writer->records, kind);
	buffer_put_u32(writer->records, instance);
	buffer_put(writer->records, payload->data, payload->used);
	if (payload->failed)
		writer->records->failed = true;
	writer->count++;
}

static int send_end(struct migration_source *source, struct error *err)
{
	struct stream_end end = {
		.run = le32_make(source->ops->was_running(source->guest)),
	};

	return channel_write_record(&source->channel, STREAM_END, &end,
				    sizeof(end), err);
}

/* The guest stands still: the rest of its memory, and its state. */
static int send_rest(struct migration_source *source, struct error *err)
{
	struct buffer records = { 0 };
	struct state_writer writer = { .records = &records };
	struct iovec part;
	int rc = source->ops->save_state(source->guest, &writer, err);

	/* Saving may write memory; the log is taken behind it. */
	if (rc == 0 && source_sync_log(source, err) < 0)
		rc = -1;
	if (rc == 0)
		rc = one_round(source, true, err);
	part = (struct iovec){ records.data, records.used };
	if (rc == 0 && records.failed)
		rc = error_set(err, "no memory for the guest's state");
	/* Hashes come first: to load state may write the destination's rings. */
	if (rc == 0 && source->options.verify)
		rc = source_send_hashes(source, err);
	if (rc == 0)
		rc = channel_write(&source->channel, &part, 1, err);
	if (rc == 0)
		rc = send_end(source, err);
	buffer_free(&records);
	return rc;
}

/* The destination counts when the guest runs; a count is not worth more than a
 * second. */
static uint64_t resident_there(struct migration_source *source)
{
	struct stream_resident resident;

	channel_set_patience(&source->channel, RESIDENT_MS);
	if (expect(source, STREAM_RESIDENT, &resident, sizeof(resident),
		   &(struct error){ "" }) < 0)
		return 0;
	return le64_get(resident.bytes);
}

/* Who comes first: a cancel that comes later does nothing, for to break the
 * channel then would only hide what became of the guest. Return: is it ours? */
static bool decide(struct migration_source *source)
{
	scoped_lock(&source->lock);
	if (atomic_load(&source->cancel))
		return false;
	atomic_store(&source->committed, true);
	return true;
}

/* From COMMIT on the guest is the destination's, whatever is heard. */
static int commit(struct migration_source *source, struct error *err)
{
	struct stream_running running;
	uint64_t resident;

	if (!decide(source))
		return error_set(err, "cancelled");
	if (channel_write_record(&source->channel, STREAM_COMMIT, NULL, 0,
				 err) < 0) {
		/* It did not go out whole. */
		atomic_store(&source->committed, false);
		return -1;
	}
	source->ops->leave(source->guest);
	channel_set_deadline(&source->channel, RUNNING_MS);
	if (expect(source, STREAM_RUNNING, &running, sizeof(running), err) < 0)
		return error_prefix(err, "the guest was handed over, but the "
				    "destination did not say that it runs");
	source->ended_ns = migration_now_ns();
	resident = resident_there(source);
	scoped_lock(&source->lock);
	source->status.bytes_received = le64_get(running.bytes_received);
	source->status.downtime_ms =
		(source->ended_ns - source->stopped_ns) / NS_PER_MS;
	source->status.destination_rss_bytes = resident;
	return 0;
}

/* How long the guest may stand still for a link that got slow. */
static unsigned int longest_stop_ms(const struct migration_source *source)
{
	uint64_t ms = STILL_MOST_MS + 10 * source->options.downtime_ms;

	if (source->options.verify)
		ms += source->status.ram_bytes / HASHED_PER_MS;
	return ms < UINT32_MAX ? ms : UINT32_MAX;
}

static int hand_over(struct migration_source *source, struct error *err)
{
	struct stream_loaded loaded;

	/* What the destination has not taken yet would be time that the guest
	 * stands still. */
	channel_settle(&source->channel, SETTLE_MS);
	channel_set_deadline(&source->channel, longest_stop_ms(source));
	set_state(source, MIGRATION_STOPPING);
	source->stopped_ns = migration_now_ns();
	if (source->ops->stop(source->guest, err) < 0)
		return -1;
	source->stopped = true;
	if (send_rest(source, err) < 0 ||
	    expect(source, STREAM_LOADED, &loaded, sizeof(loaded), err) < 0)
		return -1;
	pthread_mutex_lock(&source->lock);
	source->status.verified_pages = le64_get(loaded.verified_pages);
	pthread_mutex_unlock(&source->lock);
	return commit(source, err);
}

/* ---------------------------------------------------------------- run --- */

/* The channel appears whole: another thread may come to break it. */
static int connect_to(struct migration_source *source, const char *uri,
		      struct error *err)
{
	int fd = channel_connect(uri, err);

	if (fd < 0)
		return -1;
	scoped_lock(&source->lock);
	channel_open(&source->channel, fd);
	return 0;
}

/* The log is armed, and the guest begins to report, while the destination makes
 * its machine. */
static int set_up(struct migration_source *source, struct error *err)
{
	if (introduce(source, err) < 0 || source_arm(source, err) < 0)
		return -1;
	source_ask_report(source);
	return expect(source, STREAM_READY, NULL, 0, err);
}

static int move(struct migration_source *source, const char *uri,
		struct error *err)
{
	if (connect_to(source, uri, err) < 0)
		return -1;
	source->channel.bandwidth = source->options.bandwidth;
	/* A huge page that is discarded while it is lent comes back to its pool
	 * late: where the guest takes it back at once, too late. */
	source->channel.no_lending |= source->memory->backing ==
				      BACKING_HUGETLB;
	if (atomic_load(&source->cancel))
		return error_set(err, "cancelled");
	if (set_up(source, err) < 0)
		return -1;
	pthread_mutex_lock(&source->lock);
	source->status.setup_ms =
		(migration_now_ns() - source->started_ns) / NS_PER_MS;
	pthread_mutex_unlock(&source->lock);
	set_state(source, MIGRATION_ACTIVE);
	if (source_await_report(source, err) < 0 ||
	    source_work_in_report(source, err) < 0 ||
	    iterate(source, err) < 0)
		return -1;
	return hand_over(source, err);
}

static uint64_t absent_pages(const struct migration_source *source)
{
	return (source->memory->size >> GUEST_PAGE_SHIFT) -
	       page_set_count(&source->populated);
}

static void finish(struct migration_source *source, int rc,
		   const struct error *err)
{
	struct migration_status *status = &source->status;

	scoped_lock(&source->lock);
	if (!source->ended_ns)
		source->ended_ns = migration_now_ns();
	status->total_ms = (source->ended_ns - source->started_ns) / NS_PER_MS;
	status->bytes_sent = source->channel.sent;
	status->pages_left = 0;
	status->pages_hinted = page_set_count(&source->left_out);
	status->pages_absent = absent_pages(source);
	if (rc == 0) {
		status->state = MIGRATION_COMPLETED;
		return;
	}
	memcpy(status->error, err->message, sizeof(status->error));
	if (source->committed)
		status->state = MIGRATION_UNKNOWN;
	else if (atomic_load(&source->cancel))
		status->state = MIGRATION_CANCELLED;
	else
		status->state = MIGRATION_FAILED;
}

/* A destination that refuses closes behind its reason: a write that failed then
 * says less than what waits to be read. */
static void look_for_refusal(struct migration_source *source,
			     struct error *err)
{
	struct error why = { "" };
	uint64_t length;
	uint32_t type;

	if (source->channel.fd < 0 || atomic_load(&source->cancel))
		return;
	channel_set_patience(&source->channel, REFUSAL_MS);
	channel_set_deadline(&source->channel, 0);
	if (channel_read_record(&source->channel, &type, &length, &why) < 0 ||
	    type != STREAM_REFUSED)
		return;
	read_refusal(source, length, err);
}

void migration_source_run(struct migration_source *source, const char *uri)
{
	struct free_page_progress progress;
	struct error err = { "" };
	int rc;

	pthread_mutex_lock(&source->lock);
	source->started_ns = migration_now_ns();
	pthread_mutex_unlock(&source->lock);
	set_state(source, MIGRATION_SETUP);
	rc = move(source, uri, &err);
	if (!source->committed) {
		/* The guest lives on here, with all its memory. */
		if (source->free_pages && source->options.hinting) {
			source->free_pages->ops->drain(source->free_pages,
						       &progress);
			source->free_pages->ops->done(source->free_pages);
		}
		if (source->stopped)
			source->ops->go_on(source->guest);
		source->dirty_log->ops->disarm(source->dirty_log);
		if (rc < 0)
			look_for_refusal(source, &err);
	}
	channel_break(&source->channel);
	finish(source, rc, &err);
}

void migration_source_cancel(struct migration_source *source)
{
	scoped_lock(&source->lock);
	if (atomic_load(&source->committed))
		return;
	atomic_store(&source->cancel, true);
	if (source->channel.fd >= 0)
		channel_break(&source->channel);
}

void migration_source_status(struct migration_source *source,
			     struct migration_status *status)
{
	scoped_lock(&source->lock);
	*status = source->status;
	if (status->state < MIGRATION_COMPLETED && source->started_ns)
		status->total_ms = (migration_now_ns() - source->started_ns) /
				   NS_PER_MS;
}
