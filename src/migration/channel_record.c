// SPDX-License-Identifier: MIT
/* Records on a migration's connection: docs/spec/stream.md, section 3. */
#include "base/endian.h"
#include "migration/channel.h"

#define SKIP_MOST (1u << 20) /* of an unknown optional record */

int channel_write_record(struct channel *channel, uint32_t type,
			 const void *payload, uint64_t length,
			 struct error *err)
{
	struct stream_record record = { .type = le32_make(type),
					.length = le64_make(length) };
	struct iovec parts[2] = {
		{ &record, sizeof(record) },
		{ (void *)payload, length },
	};

	return channel_write(channel, parts, length ? 2 : 1, err);
}

int channel_read_record(struct channel *channel, uint32_t *type,
			uint64_t *length, struct error *err)
{
	struct stream_record record;

	if (channel_read(channel, &record, sizeof(record), err) < 0)
		return -1;
	*type = le32_get(record.type);
	*length = le64_get(record.length);
	return 0;
}

int channel_skip_record(struct channel *channel, uint32_t type, uint64_t length,
			struct error *err)
{
	uint8_t rest[4096];
	uint64_t some;

	if (!(type & STREAM_TYPE_OPTIONAL) || length > SKIP_MOST)
		return error_set(err, "the stream is damaged: record %#x is of "
				 "no known type", type);
	for (; length; length -= some) {
		some = length < sizeof(rest) ? length : sizeof(rest);
		if (channel_read(channel, rest, some, err) < 0)
			return -1;
	}
	return 0;
}
