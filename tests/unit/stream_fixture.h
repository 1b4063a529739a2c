/* SPDX-License-Identifier: MIT */
/*
 * Streams made record by record, as no source would make them, and a
 * destination that is given one and looked at.
 */
#ifndef STREAM_FIXTURE_H
#define STREAM_FIXTURE_H

#include "migration_fixture.h"

/* ------------------------------------------------------- made streams --- */

static struct buffer stream;

static inline void put_header(uint32_t version, uint32_t oldest, uint32_t flags)
{
	buffer_put(&stream, "AEROSTAT", 8);
	buffer_put_u32(&stream, version);
	buffer_put_u32(&stream, oldest);
	buffer_put_u32(&stream, flags);
	buffer_put_u32(&stream, 0xdeadbeef); /* reserved: not looked at */
}

static inline void put_record(uint32_t type, uint64_t length)
{
	buffer_put_u32(&stream, type);
	buffer_put_u32(&stream, 0xdeadbeef);
	buffer_put_u64(&stream, length);
}

static inline void put_run(uint64_t first, uint64_t count)
{
	buffer_put_u64(&stream, first);
	buffer_put_u64(&stream, count);
}

static inline void put_zeroes(uint64_t count)
{
	while (count--)
		buffer_put(&stream, "\0", 1);
}

static inline void put_pages(uint64_t first, uint64_t count)
{
	put_record(STREAM_PAGES, 16 + count * 4096);
	put_run(first, count);
	for (count *= 4096; count--;)
		buffer_put(&stream, "\xaa", 1);
}

static inline void put_start(void)
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

static inline void put_one_state(void)
{
	put_record(STREAM_STATE, 16);
	put_zeroes(16);
}

static inline void put_end(void)
{
	put_record(STREAM_END, 8);
	put_run(1, 0);
	stream.used -= 8;
}

static inline void put_finish(void)
{
	put_one_state();
	put_end();
	put_record(STREAM_COMMIT, 0);
}

/* ------------------------------------------------------ a destination --- */

static struct world *world;

static inline void forget(void)
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

static inline int destination_setup(void **state)
{
	world = world_new(NULL);
	return 0;
}

static inline int destination_teardown(void **state)
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

static inline void read_answers(int fd, struct answers *answers)
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
static inline struct answers receive(const void *bytes, size_t count)
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

static inline void check_refused(const struct answers *answers)
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

#endif
