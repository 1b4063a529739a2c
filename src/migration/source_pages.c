// SPDX-License-Identifier: MIT
/*
 * Pages onto the wire, straight from guest memory.
 *
 * Runs of pages with content go as one PAGES record each, up to 4 MiB; zero
 * pages of which the destination has an older version are gathered into ZERO
 * records. A run is announced a batch before it goes, so that the destination
 * can bring the memory about meanwhile; only now is it known not to be zero,
 * which would have cost it the memory for nothing.
 *
 * Within a round no page is in two records, so their order does not matter.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "memory/backing.h"
#include "migration/source_internal.h"
#include "migration/zero.h"

#define RATE_WINDOW_NS 1000000000ull

/* Enough for the destination to be busy with; but what waits longer than so many
 * parts of a second may have been discarded, and to read it would bring it back. */
#define BATCH_PAGES 2048u
#define BATCHES_PER_SECOND 64u
#define BATCH_RUNS 256u
/* To make less than this is done as quickly as it is announced; and so much is
 * gathered into one write, instead of being lent. */
#define SMALL_PAGES 16u
#define LOOK_AHEAD_PAGES 16u
#define LINE_BYTES 64u
#define GATHERED_RUNS (CHANNEL_PARTS_MAX / 2)

struct zero_runs {
	struct stream_run run[STREAM_RUNS_MAX];
	unsigned int count;
};

/* Runs with content that are still to be written. */
struct batch {
	struct page_run run[BATCH_RUNS];
	const uint8_t *host[BATCH_RUNS];
	unsigned int count;
	uint64_t pages;
	struct stream_run announced[BATCH_RUNS];
	unsigned int announcements;
};

/* What one pass gathers, and adds up to tell the status now and then. */
struct pass {
	struct migration_source *source;
	struct zero_runs zeroes;
	struct batch batch[2];
	struct batch *filling, *announced;
	uint64_t batch_pages; /* that fill one */
	uint64_t pages_sent, pages_zero;
	uint64_t window_ns, window_bytes; /* where the rate is measured from */
	uint64_t left;
};

static int flush_zeroes(struct pass *pass, struct error *err)
{
	int rc;

	if (!pass->zeroes.count)
		return 0;
	rc = channel_write_record(&pass->source->channel, STREAM_ZERO,
				  pass->zeroes.run,
				  pass->zeroes.count *
					  sizeof(pass->zeroes.run[0]), err);
	pass->zeroes.count = 0;
	return rc;
}

/* The destination has an older version of these: it must forget it. */
static int add_zero(struct pass *pass, struct page_run run, struct error *err)
{
	pass->zeroes.run[pass->zeroes.count++] = (struct stream_run){
		le64_make(run.first), le64_make(run.count)
	};
	page_set_remove(&pass->source->sent, run);
	if (pass->zeroes.count < STREAM_RUNS_MAX)
		return 0;
	return flush_zeroes(pass, err);
}

static int zero_pages(struct pass *pass, struct page_run run,
		      struct error *err)
{
	uint64_t end = run.first + run.count, at = run.first;
	struct page_run had;

	pass->pages_zero += run.count;
	while (page_set_next_run(&pass->source->sent, at, end - at, &had) &&
	       had.first < end) {
		if (had.first + had.count > end)
			had.count = end - had.first;
		if (add_zero(pass, had, err) < 0)
			return -1;
		at = had.first + had.count;
		if (at == end)
			break;
	}
	return 0;
}

/* What a PAGES record begins with. */
struct pages_head {
	struct stream_record record;
	struct stream_run run;
};

static struct pages_head head_of(struct page_run run)
{
	uint64_t bytes = run.count << GUEST_PAGE_SHIFT;

	return (struct pages_head){
		.record.type = le32_make(STREAM_PAGES),
		.record.length = le64_make(sizeof(struct stream_run) + bytes),
		.run = { le64_make(run.first), le64_make(run.count) },
	};
}

static int write_large(struct pass *pass, struct page_run run,
		       const uint8_t *host, struct error *err)
{
	struct pages_head head = head_of(run);
	struct iovec part = { &head, sizeof(head) };

	pass->pages_sent += run.count;
	return channel_write_pages(&pass->source->channel, &part, 1, host,
				   run.count << GUEST_PAGE_SHIFT, err);
}

/* Write the small runs that follow each other from @first on.
 * Return: how many, or -1 with @err */
static int write_small(struct pass *pass, const struct batch *batch,
		       unsigned int first, struct error *err)
{
	struct pages_head head[GATHERED_RUNS];
	struct iovec part[CHANNEL_PARTS_MAX];
	unsigned int i = first, n;

	for (n = 0; n < GATHERED_RUNS && i < batch->count; n++, i++) {
		if (batch->run[i].count >= SMALL_PAGES)
			break;
		head[n] = head_of(batch->run[i]);
		part[2 * n] = (struct iovec){ &head[n], sizeof(head[n]) };
		part[2 * n + 1] = (struct iovec){
			(void *)batch->host[i],
			batch->run[i].count << GUEST_PAGE_SHIFT
		};
		pass->pages_sent += batch->run[i].count;
	}
	return channel_write(&pass->source->channel, part, 2 * n, err) < 0 ?
		       -1 : (int)n;
}

static int write_batch(struct pass *pass, const struct batch *batch,
		       struct error *err)
{
	unsigned int i = 0;
	int some;

	while (i < batch->count) {
		if (atomic_load(&pass->source->cancel))
			return error_set(err, "cancelled");
		some = 1;
		if (batch->run[i].count < SMALL_PAGES)
			some = write_small(pass, batch, i, err);
		else if (write_large(pass, batch->run[i], batch->host[i],
				     err) < 0)
			some = -1;
		if (some < 0)
			return -1;
		i += some;
	}
	return 0;
}

/* Announce what was gathered, and write what was announced before. */
static int turn(struct pass *pass, struct error *err)
{
	struct batch *next = pass->filling, *now = pass->announced;

	if (next->announcements &&
	    channel_write_record(&pass->source->channel, STREAM_ANNOUNCE,
				 next->announced,
				 next->announcements *
					 sizeof(next->announced[0]), err) < 0)
		return -1;
	if (write_batch(pass, now, err) < 0)
		return -1;
	now->count = now->announcements = now->pages = 0;
	pass->filling = now;
	pass->announced = next;
	return 0;
}

/* What the destination has of an earlier round, it need not make. */
static bool worth_announcing(const struct pass *pass, struct page_run run)
{
	return run.count >= SMALL_PAGES &&
	       !page_set_contains(&pass->source->sent, run.first);
}

static int data_pages(struct pass *pass, struct page_run run,
		      const uint8_t *host, struct error *err)
{
	struct batch *batch = pass->filling;

	if (worth_announcing(pass, run))
		batch->announced[batch->announcements++] = (struct stream_run){
			le64_make(run.first), le64_make(run.count)
		};
	page_set_add(&pass->source->sent, run);
	batch->run[batch->count] = run;
	batch->host[batch->count++] = host;
	batch->pages += run.count;
	if (batch->count == BATCH_RUNS || batch->pages >= pass->batch_pages)
		return turn(pass, err);
	return 0;
}

/* The end of a pass: nothing stays behind. */
static int flush(struct pass *pass, struct error *err)
{
	if (turn(pass, err) < 0 || turn(pass, err) < 0)
		return -1;
	return flush_zeroes(pass, err);
}

/* Return: 0, or the errno: EFAULT when nothing is there */
static int copy_by_kernel(void *to, const void *from, size_t length)
{
	struct iovec local = { to, length }, remote = { (void *)from, length };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) < 0 ?
		       errno : 0;
}

/*
 * Of hugetlb a page that the balloon gives back between two looks may have gone
 * to somebody else, and its place cannot be filled: whoever reads it then is
 * killed (SIGBUS), but for the kernel, which says so.
 */
static bool is_zero_or_gone(const void *page)
{
	static const uint8_t zero[LINE_BYTES];
	_Alignas(LINE_BYTES) uint8_t copy[GUEST_PAGE_SIZE];
	int rc = copy_by_kernel(copy, page, LINE_BYTES);

	if (rc == 0) {
		if (memcmp(copy, zero, LINE_BYTES))
			return false;
		rc = copy_by_kernel(copy, page, sizeof(copy));
	}
	if (rc == 0)
		return page_is_zero(copy);
	/* Where the kernel does not do this at all, it is read as it is. */
	return rc == EFAULT || page_is_zero(page);
}

bool source_page_is_zero(const struct migration_source *source,
			 const void *page)
{
	return source->memory->backing == BACKING_HUGETLB ?
		       is_zero_or_gone(page) : page_is_zero(page);
}

/* The line of a page that is read is in no cache: those of the pages ahead are
 * fetched meanwhile, and wait for memory together. */
static bool look(const struct pass *pass, const uint8_t *page,
		 const uint8_t *end)
{
	const uint64_t ahead = LOOK_AHEAD_PAGES << GUEST_PAGE_SHIFT;

	if ((uint64_t)(end - page) > ahead)
		__builtin_prefetch(page + ahead);
	return source_page_is_zero(pass->source, page);
}

/* Cut a run into its zero and its other parts. */
static int send_present(struct pass *pass, struct page_run run,
			struct error *err)
{
	struct gpa start = { run.first << GUEST_PAGE_SHIFT };
	const uint8_t *host, *end;
	uint64_t done = 0;

	host = guest_memory_span(pass->source->memory, start,
				 run.count << GUEST_PAGE_SHIFT);
	if (!host)
		return error_set(err, "frame %#llx is not RAM",
				 (unsigned long long)run.first);
	end = host + (run.count << GUEST_PAGE_SHIFT);
	while (done < run.count) {
		const uint8_t *at = host + (done << GUEST_PAGE_SHIFT);
		struct page_run part = { run.first + done, 1 };
		bool zero = look(pass, at, end);

		while (done + part.count < run.count &&
		       look(pass, at + (part.count << GUEST_PAGE_SHIFT), end) ==
			       zero)
			part.count++;
		if ((zero ? zero_pages(pass, part, err) :
			    data_pages(pass, part, at, err)) < 0)
			return -1;
		done += part.count;
	}
	return 0;
}

/*
 * Where reading a page that does not exist brings it into being, it is not read
 * to learn that it is zero: the sender would undo what the balloon does. The
 * look comes after the sync that put the run into to_send, so whatever is
 * written behind the look is in the log, and comes back.
 */
static int send_existing(struct pass *pass, struct page_run run,
			 struct error *err)
{
	struct migration_source *source = pass->source;
	struct page_set *there = &source->dirty; /* unused between syncs */
	uint64_t end = run.first + run.count, at = run.first;
	struct page_run part;

	page_set_clear(there);
	if (backing_populated(source->memory, run, there, err) < 0)
		return -1;
	for (; at < end; at = part.first + part.count) {
		if (!page_set_next_run(there, at, UINT64_MAX, &part))
			part = (struct page_run){ end, 0 };
		if (part.first > at &&
		    zero_pages(pass, (struct page_run){ at, part.first - at },
			       err) < 0)
			return -1;
		if (part.count && send_present(pass, part, err) < 0)
			return -1;
	}
	return 0;
}

static int send_run(struct pass *pass, struct page_run run, struct error *err)
{
	if (backing_read_populates(pass->source->memory))
		return send_existing(pass, run, err);
	return send_present(pass, run, err);
}

/* A run that does not cross the border of a memory region. */
static void clip_to_region(const struct guest_memory *memory,
			   struct page_run *run)
{
	struct gpa start = { run->first << GUEST_PAGE_SHIFT };
	uint64_t length = run->count << GUEST_PAGE_SHIFT;

	if (guest_memory_clip(memory, &start, &length) &&
	    start.value >> GUEST_PAGE_SHIFT == run->first)
		run->count = length >> GUEST_PAGE_SHIFT;
}

static void tell(struct pass *pass, uint64_t now)
{
	struct migration_source *source = pass->source;
	struct migration_status *status = &source->status;
	uint64_t bytes = source->channel.sent - pass->window_bytes;
	uint64_t ns = now - pass->window_ns;

	scoped_lock(&source->lock);
	status->pages_sent += pass->pages_sent;
	status->pages_zero += pass->pages_zero;
	status->pages_left = pass->left;
	status->bytes_sent = source->channel.sent;
	pass->pages_sent = pass->pages_zero = 0;
	if (ns < RATE_WINDOW_NS / 4)
		return;
	status->bytes_per_second = (double)bytes * 1e9 / ns;
	if (ns < RATE_WINDOW_NS)
		return;
	pass->window_ns = now;
	pass->window_bytes = source->channel.sent;
}

/* A record takes at most a second at the given bandwidth. */
static uint64_t longest_run(const struct migration_source *source)
{
	uint64_t pages = source->options.bandwidth >> GUEST_PAGE_SHIFT;

	if (!source->options.bandwidth || pages > STREAM_PAGES_MAX)
		return STREAM_PAGES_MAX;
	return pages ? pages : 1;
}

static uint64_t batch_pages(const struct migration_source *source)
{
	uint64_t pages = source->options.bandwidth / BATCHES_PER_SECOND >>
			 GUEST_PAGE_SHIFT;

	if (!source->options.bandwidth || pages > BATCH_PAGES)
		return BATCH_PAGES;
	return pages ? pages : 1;
}

static int send_all(struct pass *pass, struct error *err)
{
	struct migration_source *source = pass->source;
	uint64_t from = 0, longest = longest_run(source);
	struct page_run run;
	uint64_t now;

	while (page_set_next_run_without(&source->to_send, &source->hinted,
					 from, longest, &run)) {
		if (atomic_load(&source->cancel))
			return error_set(err, "cancelled");
		clip_to_region(source->memory, &run);
		page_set_remove(&source->to_send, run);
		if (send_run(pass, run, err) < 0)
			return -1;
		from = run.first + run.count;
		source->pages_done += run.count;
		pass->left -= run.count;
		now = migration_now_ns();
		tell(pass, now);
		/* Pages that are zero say nothing, however many. */
		if (source_keep_alive(source, now, err) < 0)
			return -1;
	}
	return flush(pass, err);
}

/* Pages that were sent and exist no more: the balloon took them since. */
static int send_absent(struct pass *pass, struct error *err)
{
	struct migration_source *source = pass->source;
	struct page_run run;
	uint64_t from = 0;

	while (page_set_next_run_without(&source->sent, &source->populated,
					 from, STREAM_PAGES_MAX, &run)) {
		clip_to_region(source->memory, &run);
		if (add_zero(pass, run, err) < 0)
			return -1;
		from = run.first + run.count;
	}
	return flush_zeroes(pass, err);
}

int source_send_pages(struct migration_source *source, bool last,
		      struct error *err)
{
	struct pass pass = {
		.source = source,
		.window_ns = migration_now_ns(),
		.window_bytes = source->channel.sent,
		.left = page_set_count(&source->to_send),
	};
	int rc;

	pass.batch_pages = batch_pages(source);
	pass.filling = &pass.batch[0];
	pass.announced = &pass.batch[1];
	rc = send_all(&pass, err);
	if (rc == 0 && last)
		rc = send_absent(&pass, err);
	tell(&pass, migration_now_ns());
	return rc;
}

/* --------------------------------------------------------- verification --- */

struct hashes {
	struct stream_hash hash[STREAM_RUNS_MAX];
	unsigned int count;
};

static int flush_hashes(struct migration_source *source, struct hashes *hashes,
			struct error *err)
{
	int rc;

	if (!hashes->count)
		return 0;
	rc = channel_write_record(&source->channel, STREAM_VERIFY,
				  hashes->hash,
				  hashes->count * sizeof(hashes->hash[0]), err);
	hashes->count = 0;
	return rc;
}

int source_send_hashes(struct migration_source *source, struct error *err)
{
	struct hashes hashes;
	struct page_run run;
	uint64_t from = 0;

	hashes.count = 0;
	while (page_set_next_run_without(&source->populated, &source->left_out,
					 from, STREAM_PAGES_MAX, &run)) {
		struct gpa start = { run.first << GUEST_PAGE_SHIFT };
		const void *host;

		clip_to_region(source->memory, &run);
		host = guest_memory_span(source->memory, start,
					 run.count << GUEST_PAGE_SHIFT);
		hashes.hash[hashes.count++] = (struct stream_hash){
			{ le64_make(run.first), le64_make(run.count) },
			le64_make(XXH3_64bits(host, run.count
							    << GUEST_PAGE_SHIFT)),
		};
		if ((hashes.count == STREAM_RUNS_MAX ||
		     source_is_silent(source, migration_now_ns())) &&
		    flush_hashes(source, &hashes, err) < 0)
			return -1;
		from = run.first + run.count;
	}
	return flush_hashes(source, &hashes, err);
}
