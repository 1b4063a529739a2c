// SPDX-License-Identifier: MIT
/* A growing byte buffer, and a bounded reader of what a peer sent. */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/endian.h"

void buffer_free(struct buffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}

void buffer_put(struct buffer *buffer, const void *from, size_t length)
{
	size_t room = buffer->room ? buffer->room : 256;
	uint8_t *data;

	if (buffer->failed || !length)
		return;
	while (room - buffer->used < length)
		room *= 2;
	if (room != buffer->room) {
		data = realloc(buffer->data, room);
		if (!data) {
			buffer->failed = true;
			return;
		}
		buffer->data = data;
		buffer->room = room;
	}
	memcpy(buffer->data + buffer->used, from, length);
	buffer->used += length;
}

void buffer_put_u16(struct buffer *buffer, uint16_t value)
{
	__le16 v = le16_make(value);

	buffer_put(buffer, &v, sizeof(v));
}

void buffer_put_u32(struct buffer *buffer, uint32_t value)
{
	__le32 v = le32_make(value);

	buffer_put(buffer, &v, sizeof(v));
}

void buffer_put_u64(struct buffer *buffer, uint64_t value)
{
	__le64 v = le64_make(value);

	buffer_put(buffer, &v, sizeof(v));
}

void buffer_put_string(struct buffer *buffer, const char *string)
{
	size_t length = strlen(string);

	buffer_put_u32(buffer, length);
	buffer_put(buffer, string, length);
}

const void *buffer_get_span(struct buffer_reader *reader, size_t length)
{
	const uint8_t *span = reader->data;

	if (reader->failed || length > reader->left) {
		reader->failed = true;
		return NULL;
	}
	reader->data += length;
	reader->left -= length;
	return span;
}

void buffer_get(struct buffer_reader *reader, void *to, size_t length)
{
	const void *span = buffer_get_span(reader, length);

	if (span)
		memcpy(to, span, length);
	else
		memset(to, 0, length);
}

uint16_t buffer_get_u16(struct buffer_reader *reader)
{
	__le16 v;

	buffer_get(reader, &v, sizeof(v));
	return le16_get(v);
}

uint32_t buffer_get_u32(struct buffer_reader *reader)
{
	__le32 v;

	buffer_get(reader, &v, sizeof(v));
	return le32_get(v);
}

uint64_t buffer_get_u64(struct buffer_reader *reader)
{
	__le64 v;

	buffer_get(reader, &v, sizeof(v));
	return le64_get(v);
}

void buffer_get_string(struct buffer_reader *reader, char *to, size_t size)
{
	uint32_t length = buffer_get_u32(reader);
	const char *span = buffer_get_span(reader, length);

	to[0] = '\0';
	if (!span || length >= size || memchr(span, '\0', length)) {
		reader->failed = true;
		return;
	}
	memcpy(to, span, length);
	to[length] = '\0';
}
