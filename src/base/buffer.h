/* SPDX-License-Identifier: MIT */
/*
 * A growing byte buffer to write records into, and a bounded reader of what a
 * peer sent. Numbers are little-endian and unaligned.
 *
 * Both remember a failure (no memory; read past the end) instead of returning
 * it at each call: check `failed` once, before what was read is used.
 */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
	uint8_t *data; /* owned */
	size_t used, room;
	bool failed;
};

struct buffer_reader {
	const uint8_t *data; /* not owned */
	size_t left;
	bool failed;
};

void buffer_free(struct buffer *buffer);
void buffer_put(struct buffer *buffer, const void *from, size_t length);
void buffer_put_u16(struct buffer *buffer, uint16_t value);
void buffer_put_u32(struct buffer *buffer, uint32_t value);
void buffer_put_u64(struct buffer *buffer, uint64_t value);
/* u32 length, then the bytes. */
void buffer_put_string(struct buffer *buffer, const char *string);

/* A read past the end sets `failed` and gives zeroes. */
void buffer_get(struct buffer_reader *reader, void *to, size_t length);
uint16_t buffer_get_u16(struct buffer_reader *reader);
uint32_t buffer_get_u32(struct buffer_reader *reader);
uint64_t buffer_get_u64(struct buffer_reader *reader);
/* Pointer to @length bytes of the reader's own, or NULL past the end. */
const void *buffer_get_span(struct buffer_reader *reader, size_t length);
/* A string with no zero byte inside, at most @size - 1 bytes. */
void buffer_get_string(struct buffer_reader *reader, char *to, size_t size);

#endif
