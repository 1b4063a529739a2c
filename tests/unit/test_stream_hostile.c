// SPDX-License-Identifier: MIT
/*
 * Sources that do not keep to docs/spec/stream.md: whatever a destination is
 * sent ends with one line that says why, and nothing runs.
 */
#include "migration_fixture.h"

#include <xxhash.h>

/* ------------------------------------------------------- made streams --- */

static struct buffer stream;

static void put_header(uint32_t version, uint32_t oldest, uint32_t flags)
{
	buffer_put(&stream, "AEROSTAT", 8);
	buffer_put_u32(&stream, version);
	buffer_put_u32(&stream, oldest);
	buffer_put_u32(&stream, flags);
	buffer_put_u32(&stream, 0xdeadbeef); /* reserved: not looked at */
}

static void put_record(uint32_t type, uint64_t length)
{
	buffer_put_u32(&stream, type);
	buffer_put_u32(&stream, 0xdeadbeef);
	buffer_put_u64(&stream, length);
}

static void put_run(uint64_t first, uint64_t count)
{
	buffer_put_u64(&stream, first);
	buffer_put_u64(&stream, count);
}

static void put_zeroes(uint64_t count)
{
	while (count--)
		buffer_put(&stream, "\0", 1);
}

static void put_pages(uint64_t first, uint64_t count)
{
	put_record(STREAM_PAGES, 16 + count * 4096);
	put_run(first, count);
	for (count *= 4096; count--;)
		buffer_put(&stream, "\xaa", 1);
}

static void put_start(void)
{
	struct buffer part = { 0 };

	put_header(1, 1, 0);
	put_config(&part);
	put_record(STREAM_CONFIG, part.used);
	buffer_put(&stream, part.data, part.used);
	buffer_free(&part);
	put_cpuid(&part);
	put_record(STREAM_CPUID, part.used);
	buffer_put(&stream, part.data, part.used);
	buffer_free(&part);
}

static void put_one_state(void)
{
	put_record(STREAM_STATE, 16);
	put_zeroes(16);
}

static void put_end(void)
{
	put_record(STREAM_END, 8);
	put_run(1, 0);
	stream.used -= 8;
}

static void put_finish(void)
{
	put_one_state();
	put_end();
	put_record(STREAM_COMMIT, 0);
}

/* ------------------------------------------------------ a destination --- */

static struct world *world;

static void forget(void)
{
	struct page_run low = { 0, LOW_PAGES }, gone;
	struct page_run high = { HIGH_FIRST, HIGH_PAGES };

	buffer_free(&stream);
	assert_int_equal(backing_discard(&world->there.memory, low, &gone), 0);
	assert_int_equal(backing_discard(&world->there.memory, high, &gone), 0);
	world->created = world->loads = world->loaded = world->arrived = 0;
	world->out_of_order = world->run = false;
	memset(&world->err, 0, sizeof(world->err));
}

static int setup(void **state)
{
	world = world_new(NULL);
	return 0;
}

static int teardown(void **state)
{
	buffer_free(&stream);
	world_delete(world);
	return 0;
}

struct answers {
	uint32_t type[4];
	unsigned int count;
	char refused[1024];
};

static void read_answers(int fd, struct answers *answers)
{
	uint8_t bytes[4096];
	ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	struct buffer_reader r = { bytes, got > 0 ? got : 0, false };

	memset(answers, 0, sizeof(*answers));
	while (r.left) {
		uint32_t type = buffer_get_u32(&r);
		uint64_t length;
		const void *span;

		buffer_get_u32(&r);
		length = buffer_get_u64(&r);
		span = buffer_get_span(&r, length);
		assert_false(r.failed);
		assert_true(answers->count < 4);
		answers->type[answers->count++] = type;
		if (type == STREAM_REFUSED)
			memcpy(answers->refused, span, length);
	}
}

/* Give it the stream, all at once, and hang up. */
static struct answers receive(const void *bytes, size_t count)
{
	struct answers answers;
	struct channel channel;
	int fd[2], room = 1 << 20;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	assert_true(line_send(fd[0], bytes, count));
	shutdown(fd[0], SHUT_WR);
	channel_open(&channel, fd[1]);
	world->rc = migration_destination_run(&channel, &fake_host_ops, world,
					      &world->err);
	channel_close(&channel);
	read_answers(fd[0], &answers);
	close(fd[0]);
	assert_false(world->out_of_order);
	return answers;
}

static void check_refused(const struct answers *answers)
{
	assert_int_equal(world->rc, -1);
	assert_int_equal(world->arrived, 0);
	assert_true(world->err.message[0]);
	assert_null(strchr(world->err.message, '\n'));
	/* Before LOADED the source is told why, in the same words. */
	if (answers->count && answers->type[answers->count - 1] ==
				      STREAM_LOADED)
		return;
	assert_true(answers->count >= 1);
	assert_int_equal(answers->type[answers->count - 1], STREAM_REFUSED);
	assert_string_equal(answers->refused, world->err.message);
}

/* ---------------------------------------------------- what is accepted --- */

static void accept_it(void)
{
	struct answers answers = receive(stream.data, stream.used);

	if (world->rc < 0)
		print_error("%s\n", world->err.message);
	assert_int_equal(world->rc, 0);
	assert_int_equal(world->arrived, 1);
	assert_int_equal(answers.count, 4);
	assert_int_equal(answers.type[0], STREAM_READY);
	assert_int_equal(answers.type[1], STREAM_LOADED);
	assert_int_equal(answers.type[2], STREAM_RUNNING);
	assert_int_equal(answers.type[3], STREAM_RESIDENT);
	forget();
}

static void test_what_is_accepted(void **state)
{
	put_start();
	put_finish();
	accept_it();

	/* The largest records, and unknown optional ones. */
	put_start();
	put_pages(0, 2);
	put_record(0x80001234, 0);
	put_record(0x80000001, 0);
	put_record(STREAM_ANNOUNCE, 48);
	put_run(5, 1);			 /* never comes */
	put_run(HIGH_FIRST + 1000, 16); /* comes as another run */
	put_run(0, 2);			 /* is here */
	put_pages(HIGH_FIRST + 1001, 2);
	put_record(0xffffffff, 5000);
	put_zeroes(5000);
	put_record(STREAM_ZERO, 32);
	put_run(0, 1);
	put_run(HIGH_FIRST, HIGH_PAGES);
	put_pages(FRAMES - 1, 1);
	put_finish();
	accept_it();

	/* A later writer that a reader of version 1 can still read. */
	put_start();
	stream.data[8] = 77;
	put_finish();
	accept_it();

	/* As many states as there may be. */
	put_start();
	while (world->loads++ < STREAM_STATES_MAX)
		put_one_state();
	world->loads = 0;
	put_end();
	put_record(STREAM_COMMIT, 0);
	accept_it();
}

static void test_optional_record_of_a_mebibyte(void **state)
{
	struct answers answers;
	struct world *w = world;
	int fd[2];
	struct channel channel;
	pthread_t thread;

	/* Too much for a socket: by the world's own thread. */
	put_start();
	put_record(0x80001234, 1 << 20);
	put_zeroes(1 << 20);
	put_finish();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	channel_open(&channel, fd[0]);
	w->destination_fd = fd[1];
	assert_int_equal(pthread_create(&thread, NULL, destination_main, w),
			 0);
	assert_true(line_send(fd[0], stream.data, stream.used));
	pthread_join(thread, NULL);
	read_answers(fd[0], &answers);
	channel_close(&channel);
	assert_int_equal(w->rc, 0);
	assert_int_equal(answers.count, 4);
	forget();
}

/* ----------------------------------------------------- what is refused --- */

static void bad_magic(void)
{
	put_start();
	stream.data[7] = 'U';
	put_finish();
}

static void bad_oldest(void)
{
	put_start();
	stream.data[12] = 2;
	put_finish();
}

static void bad_oldest_at_most(void)
{
	put_start();
	memset(stream.data + 12, 0xff, 4);
	put_finish();
}

static void empty(void)
{
}

static void config_too_long(void)
{
	put_header(1, 1, 0);
	put_record(STREAM_CONFIG, STREAM_CONFIG_MAX + 1);
	put_zeroes(STREAM_CONFIG_MAX + 1);
}

static void config_of_all_there_is(void)
{
	put_header(1, 1, 0);
	put_record(STREAM_CONFIG, UINT64_MAX);
}

static void config_empty(void)
{
	put_header(1, 1, 0);
	put_record(STREAM_CONFIG, 0);
	put_record(STREAM_CPUID, 0);
	put_finish();
}

static void cpuid_before_config(void)
{
	put_header(1, 1, 0);
	put_record(STREAM_CPUID, 0);
	put_record(STREAM_CONFIG, 0);
}

static void cpuid_too_long(void)
{
	put_start();
	le64_store(stream.data + stream.used - CPUID_BYTES - 8,
		   STREAM_CONFIG_MAX + 1);
	put_zeroes(STREAM_CONFIG_MAX);
}

static void optional_before_config(void)
{
	put_header(1, 1, 0);
	put_record(0x80000002, 0);
}

static void config_twice(void)
{
	put_start();
	put_record(STREAM_CONFIG, 0);
	put_finish();
}

static void unknown_type(void)
{
	put_start();
	put_record(0x12, 0);
	put_finish();
}

static void type_of_an_answer(void)
{
	put_start();
	put_record(STREAM_READY, 0);
	put_finish();
}

static void optional_too_long(void)
{
	put_start();
	put_record(0x80001234, (1 << 20) + 1);
}

static void optional_of_all_there_is(void)
{
	put_start();
	put_record(0x80001234, UINT64_MAX);
}

static void pages_bad(uint64_t first, uint64_t count, uint64_t length)
{
	put_start();
	put_record(STREAM_PAGES, length);
	put_run(first, count);
	put_zeroes(8192);
	put_finish();
}

static void pages_none(void)
{
	pages_bad(0, 0, 16);
}

static void pages_without_a_run(void)
{
	pages_bad(0, 1, 15);
}

static void pages_of_length_zero(void)
{
	pages_bad(0, 1, 0);
}

static void pages_too_many(void)
{
	pages_bad(0, 1025, 16 + 1025 * 4096);
}

static void pages_cut(void)
{
	pages_bad(0, 2, 16 + 4096);
}

static void pages_too_long(void)
{
	pages_bad(0, 1, 16 + 8192);
}

static void pages_not_whole(void)
{
	pages_bad(0, 1, 16 + 4095);
}

static void pages_in_the_hole(void)
{
	pages_bad(LOW_PAGES, 1, 16 + 4096);
}

static void pages_into_the_hole(void)
{
	pages_bad(LOW_PAGES - 1, 2, 16 + 8192);
}

static void pages_before_the_region(void)
{
	pages_bad(HIGH_FIRST - 1, 2, 16 + 8192);
}

static void pages_behind(void)
{
	pages_bad(FRAMES, 1, 16 + 4096);
}

static void pages_over_the_end(void)
{
	pages_bad(FRAMES - 1, 2, 16 + 8192);
}

/* First frame times 4096 is 0 again. */
static void pages_that_wrap(void)
{
	pages_bad(1ull << 52, 1, 16 + 4096);
}

static void pages_that_wrap_to_the_start(void)
{
	pages_bad(UINT64_MAX, 2, 16 + 8192);
}

static void pages_whose_count_wraps(void)
{
	pages_bad(0, (1ull << 52) + 1, 16 + 4096);
}

/* 16 + count * 4096 is 16 + 4096 in 64 bits. */
static void pages_whose_length_wraps(void)
{
	pages_bad(0, 1ull << 52 | 1, 16 + 4096);
}

static void pages_of_all_there_is(void)
{
	pages_bad(0, 1, UINT64_MAX);
}

static void zero_bad(uint64_t first, uint64_t count)
{
	put_start();
	put_record(STREAM_ZERO, 32);
	put_run(0, 1);
	put_run(first, count);
	put_finish();
}

static void zero_none(void)
{
	zero_bad(0, 0);
}

static void zero_in_the_hole(void)
{
	zero_bad(LOW_PAGES, 1);
}

static void zero_over_the_hole(void)
{
	zero_bad(0, FRAMES);
}

static void zero_that_wraps(void)
{
	zero_bad(UINT64_MAX, 2);
}

static void zero_whose_count_wraps(void)
{
	zero_bad(0, 1ull << 52);
}

static void zero_whose_sum_wraps(void)
{
	zero_bad(HIGH_FIRST, (1ull << 52) - HIGH_FIRST + 1);
}

static void zero_empty(void)
{
	put_start();
	put_record(STREAM_ZERO, 0);
	put_finish();
}

static void zero_not_whole(void)
{
	put_start();
	put_record(STREAM_ZERO, 24);
	put_run(0, 1);
	put_run(0, 1);
	put_finish();
}

static void zero_too_many(void)
{
	unsigned int i;

	put_start();
	put_record(STREAM_ZERO, (STREAM_RUNS_MAX + 1) * 16);
	for (i = 0; i <= STREAM_RUNS_MAX; i++)
		put_run(0, 1);
	put_finish();
}

static void announce_bad(uint64_t first, uint64_t count)
{
	put_start();
	put_record(STREAM_ANNOUNCE, 16);
	put_run(first, count);
	put_finish();
}

static void announce_none(void)
{
	announce_bad(0, 0);
}

static void announce_too_many(void)
{
	announce_bad(0, STREAM_PAGES_MAX + 1);
}

static void announce_over_the_hole(void)
{
	announce_bad(LOW_PAGES - 1, 2);
}

static void announce_whose_count_wraps(void)
{
	announce_bad(0, 1ull << 52 | 1);
}

static void announce_empty(void)
{
	put_start();
	put_record(STREAM_ANNOUNCE, 0);
	put_finish();
}

static void announce_not_whole(void)
{
	put_start();
	put_record(STREAM_ANNOUNCE, 24);
	put_run(LOW_PAGES, 1);
	put_run(0, 1);
	put_finish();
}

static void announce_behind_memory(void)
{
	put_start();
	put_one_state();
	put_record(STREAM_ANNOUNCE, 16);
	put_run(0, 1);
	put_finish();
}

static void state_bad(uint64_t length)
{
	put_start();
	put_record(STREAM_STATE, length);
	put_zeroes(64);
}

static void state_empty(void)
{
	state_bad(0);
}

static void state_short(void)
{
	state_bad(7);
}

static void state_too_long(void)
{
	state_bad(STREAM_STATE_MAX + 1);
}

static void state_of_all_there_is(void)
{
	state_bad(UINT64_MAX);
}

static void state_too_often(void)
{
	unsigned int i;

	put_start();
	for (i = 0; i <= STREAM_STATES_MAX; i++)
		put_one_state();
	put_end();
	put_record(STREAM_COMMIT, 0);
}

static void verify_bad(uint32_t flags, uint64_t length, uint64_t first,
		       uint64_t count)
{
	put_start();
	le32_store(stream.data + 16, flags);
	put_record(STREAM_VERIFY, length);
	put_run(first, count);
	put_zeroes(64);
	put_finish();
}

static void verify_not_announced(void)
{
	verify_bad(0, 24, 0, 1);
}

static void verify_empty(void)
{
	verify_bad(1, 0, 0, 1);
}

static void verify_not_whole(void)
{
	verify_bad(1, 23, 0, 1);
}

static void verify_too_many(void)
{
	verify_bad(1, 24 * (STREAM_RUNS_MAX + 1), 0, 1);
}

static void verify_none(void)
{
	verify_bad(1, 24, 0, 0);
}

static void verify_outside(void)
{
	verify_bad(1, 24, LOW_PAGES - 1, 2);
}

static void verify_that_wraps(void)
{
	verify_bad(1, 24, 1ull << 52, 1);
}

static void verify_differs(void)
{
	verify_bad(1, 24, 0, 1);
}

static void end_short(void)
{
	put_start();
	put_record(STREAM_END, 7);
	put_zeroes(64);
}

static void end_long(void)
{
	put_start();
	put_record(STREAM_END, 9);
	put_zeroes(64);
}

static void end_twice(void)
{
	put_start();
	put_one_state();
	put_end();
	put_end();
	put_record(STREAM_COMMIT, 0);
}

static void commit_before_end(void)
{
	put_start();
	put_record(STREAM_COMMIT, 0);
	put_finish();
}

static void commit_missing(void)
{
	put_start();
	put_one_state();
	put_end();
}

static void commit_not_empty(void)
{
	put_start();
	put_one_state();
	put_end();
	put_record(STREAM_COMMIT, 1);
	put_zeroes(1);
}

static void pages_instead_of_commit(void)
{
	put_start();
	put_one_state();
	put_end();
	put_pages(0, 1);
}

#define CASE(make, says) { #make, make, says }

static const struct {
	const char *name;
	void (*make)(void);
	const char *says; /* in the message */
} refused[] = {
	CASE(bad_magic, "not an aerostat"),
	CASE(bad_oldest, "needs a reader of version 2"),
	CASE(bad_oldest_at_most, "needs a reader of version 4294967295"),
	CASE(empty, "no header"),
	CASE(config_too_long, "0x1 is out of place or too long"),
	CASE(config_of_all_there_is, "0x1 is out of place or too long"),
	CASE(config_empty, "configuration"),
	CASE(cpuid_before_config, "0x2 is out of place"),
	CASE(cpuid_too_long, "0x2 is out of place or too long"),
	CASE(optional_before_config, "0x80000002 is out of place"),
	CASE(config_twice, "0x1 is of no known type"),
	CASE(unknown_type, "0x12 is of no known type"),
	CASE(type_of_an_answer, "0x80 is of no known type"),
	CASE(optional_too_long, "0x80001234"),
	CASE(optional_of_all_there_is, "0x80001234"),
	CASE(pages_none, "0x10"),
	CASE(pages_without_a_run, "0x10 is cut short"),
	CASE(pages_of_length_zero, "0x10 is cut short"),
	CASE(pages_too_many, "0x10"),
	CASE(pages_cut, "0x10"),
	CASE(pages_too_long, "0x10"),
	CASE(pages_not_whole, "0x10"),
	CASE(pages_in_the_hole, "0x10"),
	CASE(pages_into_the_hole, "0x10"),
	CASE(pages_before_the_region, "0x10"),
	CASE(pages_behind, "0x10"),
	CASE(pages_over_the_end, "0x10"),
	CASE(pages_that_wrap, "0x10"),
	CASE(pages_that_wrap_to_the_start, "0x10"),
	CASE(pages_whose_count_wraps, "0x10"),
	CASE(pages_whose_length_wraps, "0x10"),
	CASE(pages_of_all_there_is, "0x10"),
	CASE(zero_none, "0x11"),
	CASE(zero_in_the_hole, "0x11"),
	CASE(zero_over_the_hole, "0x11"),
	CASE(zero_that_wraps, "0x11"),
	CASE(zero_whose_count_wraps, "0x11"),
	CASE(zero_whose_sum_wraps, "0x11"),
	CASE(zero_empty, "0x11 has a bad length"),
	CASE(zero_not_whole, "0x11 has a bad length"),
	CASE(zero_too_many, "0x11 has a bad length"),
	CASE(announce_none, "0x80000002 names pages"),
	CASE(announce_too_many, "0x80000002 names pages"),
	CASE(announce_over_the_hole, "0x80000002 names pages"),
	CASE(announce_whose_count_wraps, "0x80000002 names pages"),
	CASE(announce_empty, "0x80000002 has a bad length"),
	CASE(announce_not_whole, "0x80000002 has a bad length"),
	CASE(announce_behind_memory, "0x80000002 is out of place"),
	CASE(state_empty, "0x20 has a bad length"),
	CASE(state_short, "0x20 has a bad length"),
	CASE(state_too_long, "0x20 has a bad length"),
	CASE(state_of_all_there_is, "0x20 has a bad length"),
	CASE(state_too_often, "0x20 has a bad length or comes too often"),
	CASE(verify_not_announced, "0x30 is out of place"),
	CASE(verify_empty, "0x30"),
	CASE(verify_not_whole, "0x30"),
	CASE(verify_too_many, "0x30"),
	CASE(verify_none, "0x30"),
	CASE(verify_outside, "0x30 names pages that are not RAM"),
	CASE(verify_that_wraps, "0x30 names pages that are not RAM"),
	CASE(verify_differs, "verification failed"),
	CASE(end_short, "0x3f has a bad length"),
	CASE(end_long, "0x3f has a bad length"),
	CASE(end_twice, "0x3f came instead of COMMIT"),
	CASE(commit_before_end, "0x40 is of no known type"),
	CASE(commit_missing, "did not commit"),
	CASE(commit_not_empty, "0x40 came instead of COMMIT"),
	CASE(pages_instead_of_commit, "0x10 came instead of COMMIT"),
};

static void test_what_is_refused(void **state)
{
	struct answers answers;
	struct page_set there;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(refused); i++) {
		forget();
		refused[i].make();
		answers = receive(stream.data, stream.used);
		if (world->rc == 0 ||
		    !strstr(world->err.message, refused[i].says))
			print_error("%s: %s\n", refused[i].name,
				    world->err.message);
		check_refused(&answers);
		assert_non_null(strstr(world->err.message, refused[i].says));
		/* None of these brings memory but the hash of a zero page. */
		there = vm_populated(&world->there);
		assert_true(page_set_count(&there) <= 1);
		page_set_free(&there);
	}
	forget();
}

/* Section 1 gives an order within step 4; section 4 says that a WAITING is
 * empty. */
static void test_what_is_out_of_order(void **state)
{
	struct answers answers;

	put_start();
	put_one_state();
	put_pages(0, 1);
	put_finish();
	answers = receive(stream.data, stream.used);
	check_refused(&answers);
	forget();

	put_start();
	put_record(STREAM_WAITING, 5);
	put_zeroes(5);
	put_finish();
	answers = receive(stream.data, stream.used);
	check_refused(&answers);
	forget();
}

/* ------------------------------------------------- cut and mutilated --- */

static void put_small_stream(void)
{
	uint8_t page[4096];

	put_start();
	le32_store(stream.data + 16, STREAM_FLAG_VERIFY);
	put_pages(7, 1);
	put_record(STREAM_ZERO, 32);
	put_run(8, 1);
	put_run(HIGH_FIRST, 3);
	put_record(STREAM_WAITING, 0);
	put_record(STREAM_VERIFY, 24);
	put_run(7, 1);
	memset(page, 0xaa, sizeof(page));
	buffer_put_u64(&stream, XXH3_64bits(page, sizeof(page)));
	put_finish();
}

static void test_cut_at_every_byte(void **state)
{
	struct answers answers;
	struct buffer whole;
	size_t cut;

	put_small_stream();
	whole = stream;
	memset(&stream, 0, sizeof(stream));
	for (cut = 0; cut <= whole.used; cut++) {
		if (cut > 500 && cut + 300 < whole.used && cut % 7)
			continue;
		forget();
		answers = receive(whole.data, cut);
		if (cut < whole.used)
			check_refused(&answers);
		else
			assert_int_equal(world->rc, 0);
	}
	buffer_free(&whole);
	forget();
}

#define MUTATIONS 3000

static uint64_t interesting(struct rng *rng)
{
	static const uint64_t values[] = {
		0, 1, 7, 8, 15, 16, 17, 4095, 4096, 4097, 1024, 1025,
		0x10, 0x11, 0x20, 0x30, 0x3f, 0x40, 0x80000001, 0x7fffffff,
		0xffffffff, 1ull << 20, (1ull << 20) + 1, 1ull << 52,
		(1ull << 52) + 1, 1ull << 63, UINT64_MAX, FRAMES - 1, FRAMES,
		LOW_PAGES - 1, LOW_PAGES, HIGH_FIRST,
	};

	return values[rng_below(rng, ARRAY_SIZE(values))];
}

static void mutate(struct rng *rng, uint8_t *bytes, size_t *count)
{
	size_t at = rng_below(rng, *count), some;

	/* Not so often in the middle of the page. */
	if (at > 400 && at + 300 < *count && rng_chance(rng, 9, 10))
		at = rng_below(rng, 400);
	switch (rng_below(rng, 5)) {
	case 0:
		bytes[at] ^= 1u << rng_below(rng, 8);
		break;
	case 1:
		if (at + 4 <= *count)
			le32_store(bytes + at, interesting(rng));
		break;
	case 2:
		if (at + 8 <= *count)
			le64_store(bytes + at, interesting(rng));
		break;
	case 3: /* a piece goes */
		some = 1 + rng_below(rng, 64);
		if (at + some < *count) {
			memmove(bytes + at, bytes + at + some,
				*count - at - some);
			*count -= some;
		}
		break;
	default: /* a piece comes twice */
		some = 1 + rng_below(rng, 64);
		if (at + some < *count) {
			memmove(bytes + at + some, bytes + at, *count - at);
			*count += some;
		}
		break;
	}
}

static void test_random_mutations(void **state)
{
	struct rng rng = rng_start("random mutations");
	uint8_t bytes[8192];
	struct buffer valid;
	unsigned int i, n, fine = 0;
	struct answers answers;
	size_t count;

	put_small_stream();
	valid = stream;
	memset(&stream, 0, sizeof(stream));
	assert_true(valid.used < 6000);
	for (i = 0; i < MUTATIONS; i++) {
		memcpy(bytes, valid.data, valid.used);
		count = valid.used;
		for (n = 1 + rng_below(&rng, 4); n; n--)
			mutate(&rng, bytes, &count);
		forget();
		answers = receive(bytes, count);
		if (world->rc < 0)
			check_refused(&answers);
		else
			fine++;
		assert_int_equal(world->arrived, world->rc == 0);
	}
	printf("# %u of %u mutations make no difference\n", fine, MUTATIONS);
	buffer_free(&valid);
	forget();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_accepted),
		cmocka_unit_test(test_optional_record_of_a_mebibyte),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_cut_at_every_byte),
		cmocka_unit_test(test_random_mutations),
		cmocka_unit_test(test_what_is_out_of_order),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
