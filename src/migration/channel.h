/* SPDX-License-Identifier: MIT */
/*
 * One end of a migration's connection: whole reads and writes, counted, given
 * up after a time without progress, and breakable from another thread.
 */
#ifndef MIGRATION_CHANNEL_H
#define MIGRATION_CHANNEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "migration/stream.h"

#define CHANNEL_PATIENCE_SECONDS 30

/* A record's head and a run: what stands between the content of two PAGES. */
#define CHANNEL_AHEAD 32u
#define CHANNEL_PARTS_MAX 128 /* of one write */

struct channel {
	int fd; /* owned */
	uint64_t sent, received; /* bytes; what was read ahead is not yet */
	uint8_t ahead[CHANNEL_AHEAD]; /* came behind the last long read */
	unsigned int ahead_at, ahead_end;
	unsigned int patience_ms;
	uint64_t deadline_ns;	 /* on the monotonic clock, 0: none */
	uint64_t bandwidth;	 /* bytes a second, 0: no limit */
	uint64_t paced_since_ns, paced_bytes;
	int pipe[2]; /* owned; what pages are lent through, -1: not (yet) */
	bool no_lending; /* by this kernel, or as its user says */
	atomic_bool broken; /* by channel_break() */
};

/**
 * channel_connect() / channel_listen() - Open by URI
 * @uri:	"unix:PATH", "tcp:HOST:PORT", "fd:N"
 *
 * channel_listen() gives a listening socket, or for fd: the connection itself,
 * with *@connected set. A connection is for channel_open().
 *
 * Return: the descriptor, or -1 with @err
 */
int channel_connect(const char *uri, struct error *err);
/* Is it of a kind we know? Return: 0, or -1 with @err */
int channel_check_uri(const char *uri, struct error *err);
int channel_listen(const char *uri, bool *connected, struct error *err);
/* Not open yet: to be closed and asked for its fd without harm. */
void channel_init(struct channel *channel);
void channel_open(struct channel *channel, int fd);
void channel_close(struct channel *channel);

/* How long a read or write may go without progress. */
void channel_set_patience(struct channel *channel, unsigned int ms);

/* From now on what is not done within @ms fails, slow progress or not; 0: no such
 * limit. One write or read that is under way then may take its patience more. */
void channel_set_deadline(struct channel *channel, unsigned int ms);

/* Wait until the peer has taken nearly all that was sent, for at most @ms: what
 * is under way is not to be waited for later. */
void channel_settle(struct channel *channel, unsigned int ms);

/* Tell the peer that nothing more comes, and read what it still sends, for at
 * most a second: so that it gets to what it was told last. */
void channel_linger(struct channel *channel);

/* Make every read and write of it fail, now and later. Any thread. */
void channel_break(struct channel *channel);

/* At most CHANNEL_PARTS_MAX parts. Return: 0, or -1 with @err */
int channel_write(struct channel *channel, const struct iovec *parts,
		  int count, struct error *err);
int channel_read(struct channel *channel, void *to, size_t length,
		 struct error *err);

/**
 * channel_write_pages() - Write @parts, and memory that is not copied
 * @pages:	whole pages, which are lent: the peer may read them where they
 *		are until it has answered to something that was sent later
 * @bytes:	a multiple of the page size
 *
 * So whoever writes to them meanwhile must send them again. Where the kernel
 * does not lend, or there is little to lend, they are copied after all.
 *
 * Return: 0, or -1 with @err
 */
int channel_write_pages(struct channel *channel, const struct iovec *parts,
			int count, const void *pages, size_t bytes,
			struct error *err);

/* A record from one piece of memory, and the header of the next record. */
int channel_write_record(struct channel *channel, uint32_t type,
			 const void *payload, uint64_t length,
			 struct error *err);
int channel_read_record(struct channel *channel, uint32_t *type,
			uint64_t *length, struct error *err);

/* Read past the payload of a record of @type that the caller does not know.
 * Return: 0, or -1 with @err, also where it must be known (spec section 3) */
int channel_skip_record(struct channel *channel, uint32_t type, uint64_t length,
			struct error *err);

#endif
