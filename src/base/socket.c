// SPDX-License-Identifier: MIT
/* Sockets by address: Unix paths and TCP hosts. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/socket.h"

#define CONNECT_SECONDS 10

static int unix_address(const char *path, struct sockaddr_un *address,
			struct error *err)
{
	size_t length = strlen(path);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (!length || length >= sizeof(address->sun_path))
		return error_set(err, "socket path '%s' is %s (1 to %zu bytes)",
				 path, length ? "too long" : "empty",
				 sizeof(address->sun_path) - 1);
	memcpy(address->sun_path, path, length);
	return 0;
}

/* A peer that does not answer is given up before a person does: also one that
 * listens and accepts nobody.
 * Return: 0, or an errno */
static int connect_soon(int fd, const void *address, socklen_t length)
{
	struct timeval limit = { .tv_sec = CONNECT_SECONDS };
	int errnum = 0;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, address, length) < 0)
		errnum = errno == EINPROGRESS || errno == EAGAIN ? ETIMEDOUT :
								   errno;
	limit.tv_sec = 0;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return errnum;
}

int socket_connect_unix(const char *path, struct error *err)
{
	struct sockaddr_un address;
	cleanup_fd int fd = -1;
	int errnum;

	if (unix_address(path, &address, err) < 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set_errno(err, errno, "socket");
	errnum = connect_soon(fd, &address, sizeof(address));
	if (errnum)
		return error_set_errno(err, errnum, "cannot connect to %s",
				       path);
	return steal_fd(&fd);
}

/* Does a process have its socket there? Asked with one of another type, which
 * reaches nobody: whoever listens would take a connection for its client. A file
 * that is left over refuses; a socket of another type says so.
 * Return: 0 when it does not, or -1 with @err */
static int check_left_over(const struct sockaddr_un *address, struct error *err)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 &&
	    (connect(fd, (const void *)address, sizeof(*address)) == 0 ||
	     errno == EPROTOTYPE))
		return error_set(err, "%s is in use by another process",
				 address->sun_path);
	if (fd >= 0 && errno == ECONNREFUSED)
		return 0;
	return error_set_errno(err, errno, "cannot tell whether %s is in use",
			       address->sun_path);
}

int socket_listen_unix(const char *path, struct error *err)
{
	struct sockaddr_un address;
	cleanup_fd int fd = -1;
	struct stat info;

	if (unix_address(path, &address, err) < 0)
		return -1;
	if (lstat(path, &info) == 0) {
		if (!S_ISSOCK(info.st_mode))
			return error_set(err, "%s is there and is not a "
					 "socket", path);
		if (check_left_over(&address, err) < 0)
			return -1;
		unlink(path);
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set_errno(err, errno, "socket");
	/* The file takes its mode from the socket: never open to others. */
	if (fchmod(fd, 0600) < 0 ||
	    bind(fd, (void *)&address, sizeof(address)) < 0 ||
	    listen(fd, 16) < 0)
		return error_set_errno(err, errno, "cannot listen on %s",
				       path);
	return steal_fd(&fd);
}

/* Splits "HOST:PORT" and looks it up. */
static struct addrinfo *resolve(const char *address, int flags,
				struct error *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = flags },
			*found = NULL;
	const char *colon = strrchr(address, ':');
	char host[256];
	size_t length;
	int rc;

	length = colon ? (size_t)(colon - address) : 0;
	if (!colon || !colon[1] || length >= sizeof(host)) {
		error_set(err, "'%s' is not HOST:PORT", address);
		return NULL;
	}
	if (length >= 2 && address[0] == '[' && address[length - 1] == ']') {
		address++;
		length -= 2;
	}
	memcpy(host, address, length);
	host[length] = '\0';
	rc = getaddrinfo(length ? host : NULL, colon + 1, &hints, &found);
	if (rc) {
		error_set(err, "%s: %s", address, gai_strerror(rc));
		return NULL;
	}
	return found;
}

static void set_option(int fd, int level, int option)
{
	int on = 1;

	setsockopt(fd, level, option, &on, sizeof(on));
}

int socket_listen_tcp(const char *address, struct error *err)
{
	struct addrinfo *found = resolve(address, AI_PASSIVE, err);
	cleanup_fd int fd = -1;
	int rc;

	if (!found)
		return -1;
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		set_option(fd, SOL_SOCKET, SO_REUSEADDR);
	rc = fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) < 0 ||
	     listen(fd, 1) < 0;
	freeaddrinfo(found);
	if (rc)
		return error_set_errno(err, errno, "cannot listen on tcp:%s",
				       address);
	return steal_fd(&fd);
}

int socket_connect_tcp(const char *address, struct error *err)
{
	struct addrinfo *found = resolve(address, 0, err), *next;
	int fd = -1, errnum = 0;

	if (!found)
		return -1;
	for (next = found; next && fd < 0; next = next->ai_next) {
		fd = socket(next->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0) {
			errnum = errno;
			continue;
		}
		errnum = connect_soon(fd, next->ai_addr, next->ai_addrlen);
		if (!errnum)
			break;
		close(fd);
		fd = -1;
	}
	freeaddrinfo(found);
	if (fd < 0)
		return error_set_errno(err, errnum,
				       "cannot connect to tcp:%s", address);
	set_option(fd, IPPROTO_TCP, TCP_NODELAY);
	return fd;
}
