// SPDX-License-Identifier: MIT
/*
 * The destination of a migration.
 *
 * Memory that is not announced is never touched, so that what is free or absent
 * at the source costs nothing here. Huge pages are let in only where a record
 * covers them whole.
 */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "memory/backing.h"
#include "migration/ahead.h"
#include "migration/destination.h"

/* How far the stream has come; it never goes back (spec section 1, step 4). */
enum stream_step {
	STEP_MEMORY,
	STEP_VERIFY,
	STEP_STATE,
};

struct destination {
	struct channel *channel;
	const struct migration_host_ops *ops;
	void *host;
	struct guest_memory *memory;
	bool verify;
	enum stream_step step;
	unsigned int states;
	uint64_t verified_pages;
	struct page_set present; /* of the run at hand; not there until used */
	XXH3_state_t *hash;	 /* owned; NULL until something is verified */
	struct ahead ahead;
};

static int bad_record(uint32_t type, const char *what, struct error *err)
{
	return error_set(err, "the stream is damaged: record %#x %s", type,
			 what);
}

/* Return: 0, or -1 with @err when the record comes too late */
static int go_to_step(struct destination *d, enum stream_step step,
		      uint32_t type, struct error *err)
{
	if (d->step > step)
		return bad_record(type, "is out of place", err);
	d->step = step;
	return 0;
}

static int read_header(struct destination *d, struct error *err)
{
	struct stream_header header;

	if (channel_read(d->channel, &header, sizeof(header), err) < 0)
		return error_prefix(err, "no header came");
	if (memcmp(header.magic, STREAM_MAGIC, sizeof(header.magic)))
		return error_set(err, "this is not an aerostat migration "
				 "stream");
	if (le32_get(header.oldest) > STREAM_VERSION)
		return error_set(err, "the stream is of version %u and needs "
				 "a reader of version %u; this is version %u: "
				 "update aerostat here",
				 le32_get(header.version),
				 le32_get(header.oldest), STREAM_VERSION);
	d->verify = le32_get(header.flags) & STREAM_FLAG_VERIFY;
	return 0;
}

/* A record of @type, at most @max bytes, into fresh memory at *@data. */
static int read_whole(struct destination *d, uint32_t type, uint64_t max,
		      uint8_t **data, uint64_t *length, struct error *err)
{
	uint32_t got;

	if (channel_read_record(d->channel, &got, length, err) < 0)
		return -1;
	if (got != type || *length > max)
		return bad_record(got, "is out of place or too long", err);
	*data = malloc(*length + 1);
	if (!*data)
		return error_set(err, "no memory for a record");
	return channel_read(d->channel, *data, *length, err);
}

static int create(struct destination *d, struct error *err)
{
	cleanup_free uint8_t *config = NULL, *cpuid = NULL;
	struct buffer_reader config_reader = { 0 }, cpuid_reader = { 0 };
	uint64_t length;

	if (read_whole(d, STREAM_CONFIG, STREAM_CONFIG_MAX, &config, &length,
		       err) < 0)
		return -1;
	config_reader.data = config;
	config_reader.left = length;
	if (read_whole(d, STREAM_CPUID, STREAM_CONFIG_MAX, &cpuid, &length,
		       err) < 0)
		return -1;
	cpuid_reader.data = cpuid;
	cpuid_reader.left = length;
	d->memory = d->ops->create(d->host, &config_reader, &cpuid_reader, err);
	if (!d->memory)
		return -1;
	/* A huge page of which one part came would be resident whole. (Of
	 * hugetlb it is: there are no smaller pages.) */
	backing_set_huge(d->memory, (struct page_run){ 0, d->memory->frames },
			 false);
	return 0;
}

/* ------------------------------------------------------------- memory --- */

/* Where a run that the peer named lies. Return: NULL when it is not RAM */
static void *run_span(const struct destination *d, const struct stream_run *run,
		      struct page_run *pages)
{
	uint64_t address, bytes;

	pages->first = le64_get(run->first);
	pages->count = le64_get(run->count);
	if (!checked_mul(pages->first, GUEST_PAGE_SIZE, &address) ||
	    !checked_mul(pages->count, GUEST_PAGE_SIZE, &bytes))
		return NULL;
	return guest_memory_span(d->memory, (struct gpa){ address }, bytes);
}

static int read_pages(struct destination *d, uint64_t length, struct error *err)
{
	struct stream_run wire;
	struct page_run run;
	void *to;

	if (go_to_step(d, STEP_MEMORY, STREAM_PAGES, err) < 0)
		return -1;
	if (length < sizeof(wire))
		return bad_record(STREAM_PAGES, "is cut short", err);
	if (channel_read(d->channel, &wire, sizeof(wire), err) < 0)
		return -1;
	to = run_span(d, &wire, &run);
	if (!to || run.count > STREAM_PAGES_MAX ||
	    length != sizeof(wire) + (run.count << GUEST_PAGE_SHIFT))
		return bad_record(STREAM_PAGES, "names pages that are not RAM "
				  "or does not hold them", err);
	if (!ahead_arrives(&d->ahead, run))
		backing_allow_huge(d->memory, run);
	return channel_read(d->channel, to, run.count << GUEST_PAGE_SHIFT,
			    err);
}

static int read_announce(struct destination *d, uint64_t length,
			 struct error *err)
{
	struct stream_run wire;
	struct page_run run;
	uint64_t i;

	if (go_to_step(d, STEP_MEMORY, STREAM_ANNOUNCE, err) < 0)
		return -1;
	if (!length || length % sizeof(wire) ||
	    length / sizeof(wire) > STREAM_RUNS_MAX)
		return bad_record(STREAM_ANNOUNCE, "has a bad length", err);
	for (i = 0; i < length / sizeof(wire); i++) {
		if (channel_read(d->channel, &wire, sizeof(wire), err) < 0)
			return -1;
		if (!run_span(d, &wire, &run) || run.count > STREAM_PAGES_MAX)
			return bad_record(STREAM_ANNOUNCE, "names pages that "
					  "are not RAM, or too many", err);
		ahead_announce(&d->ahead, d->memory, run);
	}
	return 0;
}

/* Which pages of a run exist, into d->present. Return: 0, or -1 with @err */
static int look_at(struct destination *d, struct page_run run,
		   struct error *err)
{
	if (!d->present.pages &&
	    page_set_create(&d->present, d->memory->frames, err) < 0)
		return -1;
	page_set_clear(&d->present);
	return backing_populated(d->memory, run, &d->present, err);
}

/* Pages that were not discarded are cleared by hand, but what does not exist
 * is zero already and is left so. */
static int clear_pages(struct destination *d, struct page_run run,
		       struct error *err)
{
	struct page_run part = { run.first, 0 };
	struct gpa start;

	if (!run.count)
		return 0;
	if (look_at(d, run, err) < 0)
		return -1;
	while (page_set_next_run(&d->present, part.first + part.count,
				 UINT64_MAX, &part)) {
		start.value = part.first << GUEST_PAGE_SHIFT;
		memset(guest_memory_span(d->memory, start,
					 part.count << GUEST_PAGE_SHIFT),
		       0, part.count << GUEST_PAGE_SHIFT);
	}
	return 0;
}

/* Pages that came before and read as zero now: never their old content (R8,
 * R9, R26), be the host's pages larger than the run or its discard a failure.
 * Return: 0, or -1 with @err */
static int zero_run(struct destination *d, struct page_run run,
		    struct error *err)
{
	struct page_run gone, behind;

	/* Of one that fails a part may be gone: all of it is looked at. */
	backing_discard(d->memory, run, &gone);
	behind.first = gone.first + gone.count;
	behind.count = run.first + run.count - behind.first;
	run.count = gone.first - run.first;
	if (clear_pages(d, run, err) < 0)
		return -1;
	return clear_pages(d, behind, err);
}

static int read_zero(struct destination *d, uint64_t length, struct error *err)
{
	struct stream_run wire;
	struct page_run run;
	uint64_t i;

	if (go_to_step(d, STEP_MEMORY, STREAM_ZERO, err) < 0)
		return -1;
	if (!length || length % sizeof(wire) ||
	    length / sizeof(wire) > STREAM_RUNS_MAX)
		return bad_record(STREAM_ZERO, "has a bad length", err);
	for (i = 0; i < length / sizeof(wire); i++) {
		if (channel_read(d->channel, &wire, sizeof(wire), err) < 0)
			return -1;
		if (!run_span(d, &wire, &run))
			return bad_record(STREAM_ZERO, "names pages that are "
					  "not RAM", err);
		if (zero_run(d, run, err) < 0)
			return -1;
	}
	return 0;
}

/* Hash of a run's content. Pages that do not exist read as zero, and are not
 * read: that would map the zero page, which later costs the guest its huge
 * pages, or where memory is a file fill the hole.
 * Return: 0, or -1 with @err */
static int hash_run(struct destination *d, struct page_run run,
		    const uint8_t *at, uint64_t *hash, struct error *err)
{
	static const uint8_t zero[GUEST_PAGE_SIZE];
	uint64_t i;

	if (!d->hash) {
		d->hash = XXH3_createState();
		if (!d->hash)
			return error_set(err, "no memory to verify");
	}
	if (look_at(d, run, err) < 0)
		return -1;
	XXH3_64bits_reset(d->hash);
	for (i = 0; i < run.count; i++)
		XXH3_64bits_update(d->hash,
				   page_set_contains(&d->present,
						     run.first + i) ?
					   at + (i << GUEST_PAGE_SHIFT) : zero,
				   GUEST_PAGE_SIZE);
	*hash = XXH3_64bits_digest(d->hash);
	return 0;
}

static int verify_run(struct destination *d, const struct stream_hash *wire,
		      struct error *err)
{
	struct page_run run;
	const void *at = run_span(d, &wire->run, &run);
	uint64_t hash = 0;

	if (!at)
		return bad_record(STREAM_VERIFY, "names pages that are not "
				  "RAM", err);
	if (hash_run(d, run, at, &hash, err) < 0)
		return -1;
	if (hash != le64_get(wire->hash))
		return error_set(err, "verification failed: memory differs in "
				 "pages %#llx to %#llx",
				 (unsigned long long)run.first,
				 (unsigned long long)(run.first + run.count -
						      1));
	d->verified_pages += run.count;
	return 0;
}

static int read_verify(struct destination *d, uint64_t length,
		       struct error *err)
{
	struct stream_hash wire;
	uint64_t i;

	if (go_to_step(d, STEP_VERIFY, STREAM_VERIFY, err) < 0)
		return -1;
	if (!d->verify || !length || length % sizeof(wire) ||
	    length / sizeof(wire) > STREAM_RUNS_MAX)
		return bad_record(STREAM_VERIFY, "is out of place or has a "
				  "bad length", err);
	for (i = 0; i < length / sizeof(wire); i++) {
		if (channel_read(d->channel, &wire, sizeof(wire), err) < 0 ||
		    verify_run(d, &wire, err) < 0)
			return -1;
	}
	return 0;
}

/* -------------------------------------------------------------- state --- */

static int read_state(struct destination *d, uint64_t length,
		      struct error *err)
{
	cleanup_free uint8_t *data = NULL;
	struct buffer_reader reader;
	uint32_t kind, instance;

	if (go_to_step(d, STEP_STATE, STREAM_STATE, err) < 0)
		return -1;
	if (length < 8 || length > STREAM_STATE_MAX ||
	    d->states++ >= STREAM_STATES_MAX)
		return bad_record(STREAM_STATE, "has a bad length or comes "
				  "too often", err);
	data = malloc(length);
	if (!data)
		return error_set(err, "no memory for a record");
	if (channel_read(d->channel, data, length, err) < 0)
		return -1;
	reader = (struct buffer_reader){ data, length, false };
	kind = buffer_get_u32(&reader);
	instance = buffer_get_u32(&reader);
	return d->ops->load_state(d->host, kind, instance, &reader, err);
}

static int read_waiting(struct destination *d, uint64_t length,
			struct error *err)
{
	if (go_to_step(d, STEP_MEMORY, STREAM_WAITING, err) < 0)
		return -1;
	return length ? bad_record(STREAM_WAITING, "is not empty", err) : 0;
}

static int read_end(struct destination *d, uint64_t length, bool *run,
		    struct error *err)
{
	struct stream_end end;

	if (length != sizeof(end))
		return bad_record(STREAM_END, "has a bad length", err);
	if (channel_read(d->channel, &end, sizeof(end), err) < 0)
		return -1;
	*run = le32_get(end.run);
	return 0;
}

/* Everything up to END. */
static int receive(struct destination *d, bool *run, struct error *err)
{
	uint64_t length;
	uint32_t type;
	int rc;

	for (;;) {
		if (channel_read_record(d->channel, &type, &length, err) < 0)
			return -1;
		switch (type) {
		case STREAM_PAGES:
			rc = read_pages(d, length, err);
			break;
		case STREAM_ZERO:
			rc = read_zero(d, length, err);
			break;
		case STREAM_ANNOUNCE:
			rc = read_announce(d, length, err);
			break;
		case STREAM_STATE:
			rc = read_state(d, length, err);
			break;
		case STREAM_VERIFY:
			rc = read_verify(d, length, err);
			break;
		case STREAM_WAITING:
			rc = read_waiting(d, length, err);
			break;
		case STREAM_END:
			return read_end(d, length, run, err);
		default:
			rc = channel_skip_record(d->channel, type, length, err);
			break;
		}
		if (rc < 0)
			return -1;
	}
}

static int receive_all(struct destination *d, bool *run, struct error *err)
{
	int rc;

	ahead_init(&d->ahead);
	rc = receive(d, run, err);
	ahead_stop(&d->ahead);
	return rc;
}

/* ---------------------------------------------------------- hand-over --- */

static int await_commit(struct destination *d, struct error *err)
{
	uint64_t length;
	uint32_t type;

	if (channel_read_record(d->channel, &type, &length, err) < 0)
		return error_prefix(err, "the source did not commit");
	if (type != STREAM_COMMIT || length)
		return bad_record(type, "came instead of COMMIT", err);
	return 0;
}

/* Tell the source why, as far as it still listens. */
static void refuse(struct destination *d, const struct error *why)
{
	channel_write_record(d->channel, STREAM_REFUSED, why->message,
			     strlen(why->message), NULL);
	channel_linger(d->channel);
}

static int load(struct destination *d, bool *run, struct error *err)
{
	struct stream_loaded loaded = { 0 };

	if (read_header(d, err) < 0 || create(d, err) < 0 ||
	    channel_write_record(d->channel, STREAM_READY, NULL, 0, err) < 0 ||
	    receive_all(d, run, err) < 0 || d->ops->loaded(d->host, err) < 0) {
		refuse(d, err);
		return -1;
	}
	loaded.verified_pages = le64_make(d->verified_pages);
	return channel_write_record(d->channel, STREAM_LOADED, &loaded,
				    sizeof(loaded), err);
}

int migration_destination_run(struct channel *channel,
			      const struct migration_host_ops *ops, void *host,
			      struct error *err)
{
	struct destination d = { .channel = channel, .ops = ops,
				 .host = host };
	struct stream_resident resident;
	struct stream_running running;
	bool run = false;
	int rc = load(&d, &run, err);

	XXH3_freeState(d.hash);
	page_set_free(&d.present);
	if (rc < 0 || await_commit(&d, err) < 0)
		return -1;
	ops->arrive(host, run);
	running.bytes_received = le64_make(channel->received);
	/* It runs here now, whether the source hears of it or not. */
	channel_write_record(channel, STREAM_RUNNING, &running,
			     sizeof(running), NULL);
	backing_set_huge(d.memory, (struct page_run){ 0, d.memory->frames },
			 true);
	/* To count takes a look at every page: not while the guest waits. */
	resident.bytes = le64_make(backing_resident(d.memory));
	channel_write_record(channel, STREAM_RESIDENT, &resident,
			     sizeof(resident), NULL);
	return 0;
}
