// SPDX-License-Identifier: MIT
/* One end of a migration's connection. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/socket.h"
#include "migration/channel.h"

#define NS_PER_SECOND 1000000000ull
#define NS_PER_MS 1000000ull
#define PACE_SLICE_NS 5000000 /* 5 ms */
/* A reader takes this in no time that matters. */
#define SETTLED_BYTES (128 << 10)
#define SETTLE_SLICE_NS 100000
/* Less than this is copied sooner than lent. */
#define LEND_MIN (64u << 10)
/* Pages on their way through the pipe; as much as an ordinary user may have. */
#define LEND_PIPE (1 << 20)
#define READ_MOST (256u << 10)
/* Of a Unix socket: what the kernel lets us have of it, which is less. The more
 * is under way, the less often both ends wait for each other. */
#define SEND_BUFFER (4 << 20)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

static int unknown_uri(const char *uri, struct error *err)
{
	return error_set(err, "'%s' is no URI to move a guest by: it can be "
			 "unix:PATH, tcp:HOST:PORT or fd:N", uri);
}

int channel_check_uri(const char *uri, struct error *err)
{
	if (!strncmp(uri, "unix:", 5) || !strncmp(uri, "tcp:", 4) ||
	    !strncmp(uri, "fd:", 3))
		return 0;
	return unknown_uri(uri, err);
}

/* The descriptor of "fd:N". Return: -1 with @err */
static int inherited_fd(const char *number, struct error *err)
{
	socklen_t size = sizeof(int);
	int type = 0;
	char *end;
	long fd = strtol(number, &end, 10);

	if (end == number || *end || fd < 0 || fd > 65535 ||
	    fcntl(fd, F_GETFD) < 0)
		return error_set(err, "fd:%s is not an open descriptor",
				 number);
	/* Whatever else this process has open is not to be closed for it. */
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
	    type != SOCK_STREAM)
		return error_set(err, "fd:%s is not a stream socket", number);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

void channel_set_patience(struct channel *channel, unsigned int ms)
{
	struct timeval patience = { .tv_sec = ms / 1000,
				    .tv_usec = ms % 1000 * 1000 };

	channel->patience_ms = ms;
	setsockopt(channel->fd, SOL_SOCKET, SO_SNDTIMEO, &patience,
		   sizeof(patience));
	setsockopt(channel->fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
		   sizeof(patience));
}

void channel_set_deadline(struct channel *channel, unsigned int ms)
{
	channel->deadline_ns = ms ? now_ns() + ms * NS_PER_MS : 0;
}

void channel_settle(struct channel *channel, unsigned int ms)
{
	const struct timespec slice = { .tv_nsec = SETTLE_SLICE_NS };
	uint64_t until = now_ns() + ms * NS_PER_MS;
	int under_way;

	while (ioctl(channel->fd, SIOCOUTQ, &under_way) == 0 &&
	       under_way > SETTLED_BYTES && now_ns() < until &&
	       !atomic_load(&channel->broken))
		nanosleep(&slice, NULL);
}

void channel_linger(struct channel *channel)
{
	uint64_t until = now_ns() + NS_PER_SECOND;
	char rest[16384];

	shutdown(channel->fd, SHUT_WR);
	channel_set_patience(channel, 1000);
	while (now_ns() < until &&
	       recv(channel->fd, rest, sizeof(rest), 0) > 0)
		;
}

static bool is_unix(int fd)
{
	socklen_t length = sizeof(int);
	int domain = 0;

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 &&
	       domain == AF_UNIX;
}

/* Before Linux 6.5 a Unix socket takes lent pages one by one, and wakes its
 * reader for each: a copy is several times as fast. */
static bool lends_in_bulk(void)
{
	unsigned int major, minor;
	struct utsname name;

	return uname(&name) == 0 &&
	       sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 5));
}

/* The buffers of TCP grow by themselves, unless somebody sets them. */
static void set_up_unix(struct channel *channel)
{
	int size = SEND_BUFFER;

	setsockopt(channel->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	channel->no_lending = !lends_in_bulk();
}

void channel_init(struct channel *channel)
{
	memset(channel, 0, sizeof(*channel));
	channel->fd = channel->pipe[0] = channel->pipe[1] = -1;
}

void channel_open(struct channel *channel, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	channel_init(channel);
	channel->fd = fd;
	if (is_unix(fd))
		set_up_unix(channel);
	if (flags >= 0)
		fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
	channel_set_patience(channel, CHANNEL_PATIENCE_SECONDS * 1000);
}

int channel_connect(const char *uri, struct error *err)
{
	if (!strncmp(uri, "unix:", 5))
		return socket_connect_unix(uri + 5, err);
	if (!strncmp(uri, "tcp:", 4))
		return socket_connect_tcp(uri + 4, err);
	if (!strncmp(uri, "fd:", 3))
		return inherited_fd(uri + 3, err);
	return unknown_uri(uri, err);
}

int channel_listen(const char *uri, bool *connected, struct error *err)
{
	*connected = false;
	if (!strncmp(uri, "unix:", 5))
		return socket_listen_unix(uri + 5, err);
	if (!strncmp(uri, "tcp:", 4))
		return socket_listen_tcp(uri + 4, err);
	if (strncmp(uri, "fd:", 3))
		return unknown_uri(uri, err);
	*connected = true;
	return inherited_fd(uri + 3, err);
}

static void close_pipe(struct channel *channel)
{
	if (channel->pipe[0] >= 0) {
		close(channel->pipe[0]);
		close(channel->pipe[1]);
	}
	channel->pipe[0] = channel->pipe[1] = -1;
}

void channel_close(struct channel *channel)
{
	if (channel->fd < 0)
		return;
	close_pipe(channel);
	close(channel->fd);
	channel->fd = -1;
}

void channel_break(struct channel *channel)
{
	atomic_store(&channel->broken, true);
	shutdown(channel->fd, SHUT_RDWR);
}

static int io_failed(const struct channel *channel, const char *what,
		     ssize_t rc, struct error *err)
{
	if (atomic_load(&channel->broken))
		return error_set(err, "cancelled");
	if (rc == 0 || errno == EPIPE || errno == ECONNRESET)
		return error_set(err, "the other side closed the connection");
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return error_set(err, "the other side made no progress for %g "
				 "seconds", channel->patience_ms / 1000.0);
	return error_set_errno(err, errno, "%s the migration stream", what);
}

/* Some is done and some is left. Return: 0, or -1 with @err when that is too
 * late */
static int check_deadline(const struct channel *channel, struct error *err)
{
	if (!channel->deadline_ns || now_ns() < channel->deadline_ns)
		return 0;
	return error_set(err, "the other side is too slow");
}

/* Sleeps as long as what was sent is ahead of the bandwidth; in slices, so
 * that channel_break() is not kept waiting. */
static void pace(struct channel *channel, uint64_t bytes)
{
	const struct timespec slice = { .tv_nsec = PACE_SLICE_NS };
	uint64_t now = now_ns(), due;

	if (!channel->bandwidth)
		return;
	if (!channel->paced_since_ns ||
	    now - channel->paced_since_ns > NS_PER_SECOND) {
		channel->paced_since_ns = now;
		channel->paced_bytes = 0;
	}
	channel->paced_bytes += bytes;
	due = channel->paced_since_ns +
	      (uint64_t)((double)channel->paced_bytes * NS_PER_SECOND /
			 channel->bandwidth);
	for (; now < due && !atomic_load(&channel->broken); now = now_ns())
		nanosleep(&slice, NULL);
}

/* Drops @done bytes from the front. Return: parts that are left */
static int advance(struct iovec **part, int count, size_t done)
{
	while (count && done >= (*part)->iov_len) {
		done -= (*part)->iov_len;
		++*part;
		count--;
	}
	if (count) {
		(*part)->iov_base = (char *)(*part)->iov_base + done;
		(*part)->iov_len -= done;
	}
	return count;
}

/* All of @parts, with @flags beside MSG_NOSIGNAL. Return: 0, or -1 with @err */
static int write_parts(struct channel *channel, const struct iovec *parts,
		       int count, int flags, struct error *err)
{
	struct iovec copy[CHANNEL_PARTS_MAX], *next = copy;

	if (count > CHANNEL_PARTS_MAX)
		return error_set(err, "a write of %d parts", count);
	memcpy(copy, parts, count * sizeof(copy[0]));
	count = advance(&next, count, 0);
	while (count) {
		struct msghdr message = { .msg_iov = next,
					  .msg_iovlen = count };
		ssize_t rc = sendmsg(channel->fd, &message,
				     MSG_NOSIGNAL | flags);

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0)
			return io_failed(channel, "writing", rc, err);
		channel->sent += rc;
		count = advance(&next, count, rc);
		if (count && check_deadline(channel, err) < 0)
			return -1;
	}
	return 0;
}

int channel_write(struct channel *channel, const struct iovec *parts,
		  int count, struct error *err)
{
	uint64_t before = channel->sent;

	if (check_deadline(channel, err) < 0 ||
	    write_parts(channel, parts, count, 0, err) < 0)
		return -1;
	if (channel->sent > before)
		pace(channel, channel->sent - before);
	return 0;
}

static bool can_lend(struct channel *channel)
{
	if (channel->no_lending || channel->pipe[0] >= 0)
		return !channel->no_lending;
	if (pipe2(channel->pipe, O_CLOEXEC) < 0) {
		channel->pipe[0] = channel->pipe[1] = -1;
		channel->no_lending = true;
		return false;
	}
	fcntl(channel->pipe[1], F_SETPIPE_SZ, LEND_PIPE);
	return true;
}

/* All that the pipe holds to the peer. Return: 0, or -1 with @err */
static int drain_pipe(struct channel *channel, size_t bytes, bool more,
		      struct error *err)
{
	ssize_t rc;

	while (bytes) {
		rc = splice(channel->pipe[0], NULL, channel->fd, NULL, bytes,
			    more ? SPLICE_F_MORE : 0);
		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0)
			return io_failed(channel, "writing", rc, err);
		channel->sent += rc;
		bytes -= rc;
		if (bytes && check_deadline(channel, err) < 0)
			return -1;
	}
	return 0;
}

/*
 * Lend some of what lies at @rest, and take it off. The pipe is empty before
 * and behind.
 * Return: 0, also when this kernel does not lend, or -1 with @err
 */
static int lend(struct channel *channel, struct iovec *rest, struct error *err)
{
	ssize_t filled = vmsplice(channel->pipe[1], rest, 1,
				  SPLICE_F_NONBLOCK);

	if (filled <= 0) {
		channel->no_lending = true;
		return 0;
	}
	rest->iov_base = (char *)rest->iov_base + filled;
	rest->iov_len -= filled;
	return drain_pipe(channel, filled, rest->iov_len > 0, err);
}

int channel_write_pages(struct channel *channel, const struct iovec *parts,
			int count, const void *pages, size_t bytes,
			struct error *err)
{
	uint64_t before = channel->sent;
	struct iovec rest = { (void *)pages, bytes };

	if (check_deadline(channel, err) < 0 ||
	    write_parts(channel, parts, count, MSG_MORE, err) < 0)
		return -1;
	while (rest.iov_len >= LEND_MIN && can_lend(channel))
		if (lend(channel, &rest, err) < 0)
			return -1;
	if (write_parts(channel, &rest, 1, 0, err) < 0)
		return -1;
	pace(channel, channel->sent - before);
	return 0;
}

/* What was read ahead, first. Return: bytes of @length that are done */
static size_t take_ahead(struct channel *channel, void *to, size_t length)
{
	size_t some = channel->ahead_end - channel->ahead_at;

	if (some > length)
		some = length;
	if (!some)
		return 0; /* a record without payload has no room for one */
	memcpy(to, channel->ahead + channel->ahead_at, some);
	channel->ahead_at += some;
	return some;
}

/*
 * A long read takes along the few bytes behind, if they are there: one system
 * call for each PAGES record instead of three. It is done in pieces: the kernel
 * of a host may copy as long as bytes come, and run nobody else on that CPU.
 */
int channel_read(struct channel *channel, void *to, size_t length,
		 struct error *err)
{
	size_t done = take_ahead(channel, to, length);

	while (done < length) {
		size_t some = length - done < READ_MOST ? length - done :
							  READ_MOST;
		bool last = some == length - done;
		struct iovec parts[2] = {
			{ (char *)to + done, some },
			{ channel->ahead, CHANNEL_AHEAD },
		};
		struct msghdr message = {
			.msg_iov = parts,
			.msg_iovlen = last && length > CHANNEL_AHEAD ? 2 : 1,
		};
		ssize_t rc = recvmsg(channel->fd, &message, 0);

		if (rc < 0 && errno == EINTR)
			continue;
		if (rc <= 0)
			return io_failed(channel, "reading", rc, err);
		done += rc;
		if (done < length && check_deadline(channel, err) < 0)
			return -1;
		if (done <= length)
			continue;
		channel->ahead_at = 0;
		channel->ahead_end = done - length;
	}
	channel->received += length;
	return 0;
}
