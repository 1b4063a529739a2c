// SPDX-License-Identifier: MIT
/*
 * The connection of a migration as two pipes in memory, which take a part at a
 * time, stall and break: channel.h without a kernel. Descriptor 0 is the
 * source's end, 1 the destination's.
 */
#include "sim.h"

#include "base/endian.h"

#define NS_PER_MS 1000000ull

void link_reset(struct link *link, unsigned int room)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		link->pipe[i].head = link->pipe[i].used = 0;
		link->pipe[i].loans = link->pipe[i].got = 0;
		link->pipe[i].room = room;
		link->pipe[i].ended = link->pipe[i].deaf = false;
	}
	link->stalled_until = 0;
	link->commit_sent = false;
	link->disturbed = false;
}

/* What was under way is gone. */
void link_cut(struct link *link)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		link->pipe[i].used = link->pipe[i].loans = 0;
		link->pipe[i].ended = link->pipe[i].deaf = true;
	}
}

static struct pipe *pipe_from(int fd)
{
	return &world.link.pipe[fd];
}

static struct pipe *pipe_to(int fd)
{
	return &world.link.pipe[!fd];
}

static bool can_write(void *of)
{
	const struct pipe *pipe = of;

	return pipe->deaf || pipe->ended ||
	       (pipe->used < pipe->room &&
		world.now >= world.link.stalled_until);
}

static bool can_read(void *of)
{
	const struct pipe *pipe = of;

	return (pipe->used && world.now >= world.link.stalled_until) ||
	       (!pipe->used && pipe->ended);
}

static bool wait_for(bool (*ready)(void *of), struct pipe *pipe,
		     const struct channel *channel)
{
	uint64_t until;

	if (ready(pipe))
		return true;
	until = world.now + world.link.patience_ms[channel->fd] * NS_PER_MS;
	if (channel->deadline_ns && until > channel->deadline_ns)
		until = channel->deadline_ns;
	return coroutine_wait(ready, pipe, until);
}

void channel_set_patience(struct channel *channel, unsigned int ms)
{
	world.link.patience_ms[channel->fd] = ms;
}

void channel_set_deadline(struct channel *channel, unsigned int ms)
{
	channel->deadline_ns = ms ? world.now + ms * NS_PER_MS : 0;
}

void channel_init(struct channel *channel)
{
	memset(channel, 0, sizeof(*channel));
	channel->fd = -1;
}

void channel_open(struct channel *channel, int fd)
{
	channel_init(channel);
	channel->fd = fd;
	channel_set_patience(channel, CHANNEL_PATIENCE_SECONDS * 1000);
}

int channel_connect(const char *uri, struct error *err)
{
	edge();
	if (chance(64))
		return error_set(err, "nobody listens");
	move_connected();
	return 0;
}

void channel_close(struct channel *channel)
{
	if (channel->fd < 0)
		return;
	pipe_from(channel->fd)->ended = true;
	pipe_to(channel->fd)->deaf = true;
	/* Closed over what was not read: the peer may lose what it was sent. */
	if (pipe_to(channel->fd)->used && chance(2))
		link_cut(&world.link);
	channel->fd = -1;
}

void channel_break(struct channel *channel)
{
	atomic_store(&channel->broken, true);
	if (channel->fd < 0)
		return;
	/* Not when it is over, nor by a cancel that comes too late. */
	world.link.disturbed |= !world.source.committed;
	pipe_from(channel->fd)->ended = true;
	pipe_to(channel->fd)->ended = pipe_to(channel->fd)->deaf = true;
}

static int io_failed(const struct channel *channel, bool late,
		     struct error *err)
{
	if (atomic_load(&channel->broken))
		return error_set(err, "cancelled");
	if (late)
		return error_set(err, "no progress");
	return error_set(err, "the other side closed the connection");
}

static unsigned int part_of(uint64_t left, unsigned int room)
{
	unsigned int part = left < room ? left : room;

	/* Now and then less than there is room for. */
	if (part > 1 && chance(8))
		part = 1 + draw(part);
	return part;
}

static void pipe_put(struct pipe *pipe, const uint8_t *from, unsigned int count)
{
	unsigned int tail = (pipe->head + pipe->used) % PIPE_BYTES;
	unsigned int first = PIPE_BYTES - tail;

	if (first > count)
		first = count;
	memcpy(pipe->bytes + tail, from, first);
	memcpy(pipe->bytes, from + first, count - first);
	pipe->used += count;
}

/* The reader gets what is lent as the guest has written it by now. */
static void read_loan(const struct pipe *pipe, const struct loan *loan,
		      uint8_t *to, unsigned int count)
{
	uint64_t start = loan->start > pipe->got ? loan->start : pipe->got;
	uint64_t end = pipe->got + count;

	if (end > loan->end)
		end = loan->end;
	if (start < end)
		memcpy(to + (start - pipe->got),
		       loan->from + (start - loan->start), end - start);
}

static void read_loans(struct pipe *pipe, uint8_t *to, unsigned int count)
{
	bool late = chance(2);
	unsigned int i, kept = 0;

	for (i = 0; i < pipe->loans; i++) {
		if (late)
			read_loan(pipe, &pipe->loan[i], to, count);
		if (pipe->loan[i].end > pipe->got + count)
			pipe->loan[kept++] = pipe->loan[i];
	}
	pipe->loans = kept;
}

static void pipe_get(struct pipe *pipe, uint8_t *to, unsigned int count)
{
	unsigned int first = PIPE_BYTES - pipe->head;

	if (first > count)
		first = count;
	memcpy(to, pipe->bytes + pipe->head, first);
	memcpy(to + first, pipe->bytes, count - first);
	if (pipe->loans)
		read_loans(pipe, to, count);
	pipe->head = (pipe->head + count) % PIPE_BYTES;
	pipe->used -= count;
	pipe->got += count;
}

static int write_part(struct channel *channel, const uint8_t *from,
		      uint64_t length, struct error *err)
{
	struct pipe *pipe = pipe_from(channel->fd);
	unsigned int count;

	for (; length; length -= count, from += count) {
		if (!wait_for(can_write, pipe, channel))
			return io_failed(channel, true, err);
		if (pipe->deaf || pipe->ended)
			return io_failed(channel, false, err);
		count = part_of(length, pipe->room - pipe->used);
		pipe_put(pipe, from, count);
		channel->sent += count;
		if (length > count)
			edge();
	}
	return 0;
}

static bool is_commit(const struct channel *channel, const struct iovec *parts)
{
	const struct stream_record *record = parts->iov_base;

	return channel->fd == 0 && parts->iov_len == sizeof(*record) &&
	       le32_get(record->type) == STREAM_COMMIT;
}

int channel_write(struct channel *channel, const struct iovec *parts,
		  int count, struct error *err)
{
	int i;

	edge();
	for (i = 0; i < count; i++)
		if (write_part(channel, parts[i].iov_base, parts[i].iov_len,
			       err) < 0)
			return -1;
	if (is_commit(channel, parts)) {
		trace("link: COMMIT is on its way");
		world.link.commit_sent = true;
	}
	edge();
	return 0;
}

int channel_write_pages(struct channel *channel, const struct iovec *parts,
			int count, const void *pages, size_t bytes,
			struct error *err)
{
	struct pipe *pipe = pipe_from(channel->fd);
	struct iovec rest = { (void *)pages, bytes };
	uint64_t start;

	if (channel_write(channel, parts, count, err) < 0)
		return -1;
	if (pipe->loans < LOANS_MAX && chance(2)) {
		start = pipe->got + pipe->used;
		pipe->loan[pipe->loans++] =
			(struct loan){ pages, start, start + bytes };
	}
	return channel_write(channel, &rest, 1, err);
}

int channel_read(struct channel *channel, void *to, size_t length,
		 struct error *err)
{
	struct pipe *pipe = pipe_to(channel->fd);
	uint8_t *at = to;
	unsigned int count;

	for (; length; length -= count, at += count) {
		edge();
		if (!wait_for(can_read, pipe, channel))
			return io_failed(channel, true, err);
		if (!pipe->used)
			return io_failed(channel, false, err);
		count = part_of(length, pipe->used);
		pipe_get(pipe, at, count);
		channel->received += count;
		backing_touched(at, count);
	}
	return 0;
}

static bool is_settled(void *of)
{
	const struct pipe *pipe = of;

	return !pipe->used || pipe->ended || pipe->deaf;
}

void channel_settle(struct channel *channel, unsigned int ms)
{
	coroutine_wait(is_settled, pipe_from(channel->fd),
		       world.now + ms * NS_PER_MS);
}

static bool has_ended(void *of)
{
	struct pipe *pipe = of;

	pipe->used = pipe->loans = 0;
	return pipe->ended;
}

void channel_linger(struct channel *channel)
{
	pipe_from(channel->fd)->ended = true;
	coroutine_wait(has_ended, pipe_to(channel->fd),
		       world.now + 1000 * NS_PER_MS);
}
