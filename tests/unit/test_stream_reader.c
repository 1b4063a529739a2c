// SPDX-License-Identifier: MIT
/*
 * What the source sends, read by tests/stream.py: a second reader of
 * docs/spec/stream.md that shares no code with it. And that reader itself:
 * streams that are damaged on purpose must not pass.
 *
 * STREAM_PY names the reader and PYTHON what runs it; meson sets both.
 */
#include "migration_fixture.h"

#include <sys/stat.h>

#define FILES_MAX 256
#define OUTPUT_MAX (64 * 1024)

static char directory[] = "/tmp/aerostat-stream-XXXXXX";
static unsigned int files;

static int setup(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static void file_path(char *path, size_t size, unsigned int n)
{
	snprintf(path, size, "%s/%03u", directory, n);
}

static void forget_files(void)
{
	char path[64];

	while (files) {
		file_path(path, sizeof(path), --files);
		unlink(path);
	}
}

static int teardown(void **state)
{
	forget_files();
	return rmdir(directory);
}

static void put_file(const void *bytes, size_t count)
{
	char path[64];
	FILE *file;

	assert_true(files < FILES_MAX);
	file_path(path, sizeof(path), files++);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, count, file), count);
	assert_int_equal(fclose(file), 0);
}

/* Run the reader over all files. Return: its exit code; @output is kept */
static int reader(char *output)
{
	const char *script = getenv("STREAM_PY"), *python = getenv("PYTHON");
	char command[512];
	size_t got;
	FILE *pipe;
	int status;

	if (!script)
		fail_msg("STREAM_PY must be the path of tests/stream.py");
	snprintf(command, sizeof(command), "%s %s %s/*",
		 python ? python : "python3", script, directory);
	/* Its output must not be taken for TAP. */
	fflush(stdout);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	got = fread(output, 1, OUTPUT_MAX - 1, pipe);
	output[got] = '\0';
	status = pclose(pipe);
	forget_files();
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* --------------------------------------------------------------- moves --- */

static void script_rich(struct world *w, enum moment moment, unsigned int nth)
{
	uint64_t page;

	if (moment == AT_WAIT) {
		for (page = 20; page < 30; page++)
			guest_hint(w, page);
		w->progress.state = FREE_PAGE_COMPLETE;
	}
	if (moment == AT_SYNC && nth == 0)
		guest_write(w, 25, 1234);
	if (moment == AT_SYNC && nth == 1) {
		w->source.options.downtime_ms = 0;
		guest_write(w, 3, 0);
		guest_write(w, 4, 99);
		guest_discard(w, 5);
	}
	if (moment == AT_SYNC && nth == 2) {
		w->source.options.downtime_ms = 10000;
		guest_write(w, 3, 77);
		guest_write(w, HIGH_FIRST, 0);
	}
}

static struct buffer record_rich(bool verify)
{
	struct world *w = world_new(script_rich);
	struct buffer stream;
	unsigned int i;

	w->source.options.hinting = true;
	w->source.options.verify = verify;
	w->all_states = true;
	for (i = 0; i < 60; i++)
		guest_write(w, i, i % 7 ? i : 0);
	for (i = 100; i < 140; i++)
		guest_write(w, i, i);
	guest_write(w, LOW_PAGES - 1, 5);
	guest_write(w, HIGH_FIRST, 6);
	world_move(w);
	check_memory(w);
	stream = w->line.recorded;
	memset(&w->line.recorded, 0, sizeof(w->line.recorded));
	world_delete(w);
	return stream;
}

static void test_recorded_streams_are_sound(void **state)
{
	char *output = zeroed(OUTPUT_MAX), wanted[64];
	struct buffer stream;
	struct tally t;
	int verify, rc;

	for (verify = 0; verify < 2; verify++) {
		stream = record_rich(verify);
		t = tally(&stream);
		put_file(stream.data, stream.used);
		rc = reader(output);
		if (rc)
			print_error("%s", output);
		assert_int_equal(rc, 0);
		snprintf(wanted, sizeof(wanted), "%8llu sent",
			 (unsigned long long)t.pages);
		assert_non_null(strstr(output, wanted));
		snprintf(wanted, sizeof(wanted), "%llu zeroed, %llu verified",
			 (unsigned long long)t.zero_pages,
			 (unsigned long long)t.verified_pages);
		assert_non_null(strstr(output, wanted));
		snprintf(wanted, sizeof(wanted), "total      %8zu bytes",
			 stream.used);
		assert_non_null(strstr(output, wanted));
		assert_true(t.zero_pages >= 3);
		assert_int_equal(t.announced_runs, 1);
		buffer_free(&stream);
	}
	free(output);
}

/* Moves of guests that do as they like. */
static void script_any(struct world *w, enum moment moment, unsigned int nth)
{
	struct rng *rng = w->own;
	unsigned int i;

	if (moment == AT_SYNC)
		w->source.options.downtime_ms = nth < 4 ? 0 : 10000;
	if (w->stopped && moment != AT_SAVE)
		return;
	for (i = rng_below(rng, 10); i; i--) {
		uint64_t page = ram_page(rng_below(rng, 200) +
					 LOW_PAGES - 100);

		if (rng_chance(rng, 1, 4))
			guest_discard(w, page);
		else
			guest_write(w, page, rng_chance(rng, 1, 3) ?
						     0 : rng_next(rng) | 1);
	}
}

static void test_random_streams_are_sound(void **state)
{
	struct rng rng = rng_start("random streams");
	char *output = zeroed(OUTPUT_MAX);
	unsigned int i;
	int rc;

	for (i = 0; i < 12; i++) {
		struct world *w = world_new(script_any);

		w->own = &rng;
		w->all_states = true;
		w->source.options.verify = i % 2;
		world_move(w);
		put_file(w->line.recorded.data, w->line.recorded.used);
		world_delete(w);
	}
	rc = reader(output);
	if (rc)
		print_error("%s", output);
	assert_int_equal(rc, 0);
	free(output);
}

/* ------------------------------------------------------------- damaged --- */

/* Where the nth record of @type begins. */
static size_t find_record(const struct buffer *stream, uint32_t type,
			  unsigned int nth)
{
	size_t at = 24;

	while (at < stream->used) {
		if (le32_load(stream->data + at) == type && !nth--)
			return at;
		at += 16 + le64_load(stream->data + at + 8);
	}
	fail_msg("no record %#x", type);
	return 0;
}

static size_t record_end(const struct buffer *stream, size_t at)
{
	return at + 16 + le64_load(stream->data + at + 8);
}

/* The stream with [from, to) replaced. */
static void put_spliced(const struct buffer *stream, size_t from, size_t to,
			const void *bytes, size_t count)
{
	struct buffer copy = { 0 };

	buffer_put(&copy, stream->data, from);
	buffer_put(&copy, bytes, count);
	buffer_put(&copy, stream->data + to, stream->used - to);
	put_file(copy.data, copy.used);
	buffer_free(&copy);
}

static void put_with_u32(const struct buffer *stream, size_t at,
			 uint32_t value)
{
	uint8_t bytes[4];

	le32_store(bytes, value);
	put_spliced(stream, at, at + 4, bytes, 4);
}

static void put_without(const struct buffer *stream, uint32_t type,
			unsigned int nth)
{
	size_t at = find_record(stream, type, nth);

	put_spliced(stream, at, record_end(stream, at), NULL, 0);
}

static void put_twice(const struct buffer *stream, uint32_t type,
		      unsigned int nth)
{
	size_t at = find_record(stream, type, nth);

	put_spliced(stream, at, at, stream->data + at,
		    record_end(stream, at) - at);
}

/* A record copied to the front of another. */
static void put_moved(const struct buffer *stream, uint32_t type,
		      unsigned int nth, uint32_t before)
{
	size_t at = find_record(stream, type, nth);
	size_t to = find_record(stream, before, 0);

	put_spliced(stream, to, to, stream->data + at,
		    record_end(stream, at) - at);
}

static void put_numbers(const struct buffer *stream)
{
	size_t pages = find_record(stream, STREAM_PAGES, 0);
	size_t zero = find_record(stream, STREAM_ZERO, 0);
	size_t verify = find_record(stream, STREAM_VERIFY, 0);
	size_t state = find_record(stream, STREAM_STATE, 0);
	size_t end = find_record(stream, STREAM_END, 0);
	size_t announce = find_record(stream, STREAM_ANNOUNCE, 0);

	put_with_u32(stream, 0, 0x4f524542);	     /* magic */
	put_with_u32(stream, 12, 2);		     /* oldest */
	put_with_u32(stream, 16, 0);		     /* not announced */
	put_with_u32(stream, 16, 3);		     /* unknown flag */
	put_with_u32(stream, 24, 0x7001);	     /* type of CONFIG */
	put_with_u32(stream, pages, 0x12);	     /* unknown type */
	put_with_u32(stream, pages + 8, 16);	     /* no page */
	put_with_u32(stream, pages + 16, FRAMES);    /* not RAM */
	put_with_u32(stream, pages + 20, 1 << 20);   /* would wrap */
	put_with_u32(stream, pages + 24, 0);	     /* count */
	put_with_u32(stream, pages + 24, 1025);
	put_with_u32(stream, pages + 40, 0x01020304); /* content */
	put_with_u32(stream, zero + 16, 300);	     /* never came */
	put_with_u32(stream, zero + 8, 24);	     /* length */
	put_with_u32(stream, verify + 32, 0);	     /* hash */
	put_with_u32(stream, verify + 24, 0);	     /* count */
	put_with_u32(stream, state + 16, 7);	     /* kind */
	put_with_u32(stream, state + 20, 1);	     /* instance */
	put_with_u32(stream, announce + 16, 1);	     /* does not come */
	put_with_u32(stream, announce + 16, FRAMES); /* not RAM */
	put_with_u32(stream, announce + 24, 1025);   /* count */
	put_with_u32(stream, announce + 8, 8);	     /* length */
	put_with_u32(stream, end + 16, 2);	     /* run */
	put_with_u32(stream, end + 8, 4);
}

static void put_records(const struct buffer *stream)
{
	static const uint8_t waiting[17] = { 0x01, 0, 0, 0x80, [8] = 1 };
	size_t commit = find_record(stream, STREAM_COMMIT, 0);
	size_t pages = find_record(stream, STREAM_PAGES, 0);
	unsigned int nth;

	put_without(stream, STREAM_CONFIG, 0);
	put_without(stream, STREAM_CPUID, 0);
	put_without(stream, STREAM_PAGES, 0); /* a hash knows */
	put_without(stream, STREAM_END, 0);
	put_without(stream, STREAM_COMMIT, 0);
	for (nth = 0; nth < 5; nth++) {
		put_without(stream, STREAM_STATE, nth);
		put_twice(stream, STREAM_STATE, nth);
	}
	put_twice(stream, STREAM_CONFIG, 0);
	put_twice(stream, STREAM_CPUID, 0);
	put_twice(stream, STREAM_ZERO, 0); /* zero already */
	put_twice(stream, STREAM_ANNOUNCE, 0); /* came already */
	put_twice(stream, STREAM_END, 0);
	put_twice(stream, STREAM_COMMIT, 0);
	put_moved(stream, STREAM_PAGES, 0, STREAM_END);
	put_moved(stream, STREAM_PAGES, 0, STREAM_STATE);
	put_moved(stream, STREAM_PAGES, 0, STREAM_CPUID);
	put_moved(stream, STREAM_STATE, 0, STREAM_VERIFY);
	put_moved(stream, STREAM_VERIFY, 0, STREAM_END);
	put_moved(stream, STREAM_STATE, 4, STREAM_STATE); /* CLOCK first */
	put_moved(stream, STREAM_ANNOUNCE, 0, STREAM_CPUID);
	put_moved(stream, STREAM_END, 0, STREAM_PAGES);
	put_spliced(stream, commit, commit, waiting, 16);
	put_spliced(stream, pages, pages, waiting, 17); /* not empty */
	put_spliced(stream, stream->used, stream->used, "x", 1);
}

static void put_cut(const struct buffer *stream)
{
	unsigned int i;

	put_file(stream->data, 0);
	put_file(stream->data, 23);
	put_file(stream->data, 24);
	put_file(stream->data, stream->used - 1);
	put_file(stream->data, stream->used - 17);
	for (i = 1; i < 40; i++)
		put_file(stream->data, stream->used * i / 40);
}

static void test_damaged_streams_are_not(void **state)
{
	char *output = zeroed(OUTPUT_MAX), path[80];
	struct buffer stream = record_rich(true);
	unsigned int i, count;
	bool all = true;
	int rc;

	put_numbers(&stream);
	put_records(&stream);
	put_cut(&stream);
	count = files;
	rc = reader(output);
	assert_int_equal(rc, 1);
	for (i = 0; i < count; i++) {
		file_path(path, sizeof(path), i);
		strcat(path, ": fault");
		if (strstr(output, path))
			continue;
		print_error("damage %u was not found\n", i);
		all = false;
	}
	assert_true(all);
	/* A fault is told, not a Python traceback; one line each. */
	for (i = 0, rc = 0; output[i]; i++)
		rc += output[i] == '\n';
	assert_int_equal(rc, count);
	buffer_free(&stream);
	free(output);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recorded_streams_are_sound),
		cmocka_unit_test(test_random_streams_are_sound),
		cmocka_unit_test(test_damaged_streams_are_not),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
