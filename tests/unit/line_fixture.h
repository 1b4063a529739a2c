/* SPDX-License-Identifier: MIT */
/*
 * A line between the two ends of a migration that records, cuts and damages
 * what passes, and what a stream of the fixture's guest holds.
 */
#ifndef LINE_FIXTURE_H
#define LINE_FIXTURE_H

#include "vm_fixture.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/endian.h"
#include "migration/source.h"

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

/* ------------------------------------------------------------ streams --- */

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
