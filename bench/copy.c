// SPDX-License-Identifier: MIT
/*
 * The limit a move on one host is measured by: so many bytes through a Unix
 * socket, from memory that is there into memory that is not, in large writes and
 * straight into place, with nothing else to do.
 *
 *   copy huge|small MIB	prints "BYTES NANOSECONDS"
 *   copy touch MIB		only makes the host bring so much memory about
 *
 * huge: the receiver's memory may be huge pages, as where a run of pages arrives
 * that covers them; small: 4 KiB each, as where it does not.
 */
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1ul << 20)
#define HUGE_PAGE (2 * MIB)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* Memory without pages, aligned to huge ones. */
static uint8_t *fresh(size_t bytes, int advice)
{
	uint8_t *room = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			     0);
	uint8_t *at;

	if (room == MAP_FAILED)
		err(1, "%zu MiB", bytes / MIB);
	at = (uint8_t *)(((uintptr_t)room + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
	madvise(at, bytes, advice);
	return at;
}

static void receive(int fd, size_t bytes, int advice)
{
	uint8_t *to = fresh(bytes, advice);
	size_t done = 0;

	if (write(fd, "r", 1) != 1)
		err(1, "ready");
	while (done < bytes) {
		size_t some = MIB - done % MIB;
		ssize_t got = recv(fd, to + done, some, 0);

		if (got <= 0)
			err(1, "receiving");
		done += got;
	}
	if (write(fd, "d", 1) != 1)
		err(1, "done");
}

static void await(int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		errx(1, "the receiver has gone");
}

static uint64_t send_all(int fd, const uint8_t *from, size_t bytes)
{
	uint64_t started;
	size_t done = 0;

	await(fd);
	started = now_ns();
	while (done < bytes) {
		ssize_t sent = send(fd, from + done, MIB - done % MIB,
				    MSG_NOSIGNAL);

		if (sent <= 0)
			err(1, "sending");
		done += sent;
	}
	await(fd);
	return now_ns() - started;
}

static void measure(size_t bytes, int advice)
{
	uint8_t *from = fresh(bytes, MADV_HUGEPAGE);
	int ends[2];
	pid_t child;

	memset(from, 0x5a, bytes);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		err(1, "socketpair");
	child = fork();
	if (child < 0)
		err(1, "fork");
	if (!child) {
		close(ends[0]);
		receive(ends[1], bytes, advice);
		_exit(0);
	}
	close(ends[1]);
	printf("%zu %llu\n", bytes,
	       (unsigned long long)send_all(ends[0], from, bytes));
	waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
	size_t bytes = argc == 3 ? strtoul(argv[2], NULL, 10) * MIB : 0;

	if (!bytes)
		errx(2, "usage: copy huge|small|touch MIB");
	if (!strcmp(argv[1], "touch"))
		memset(fresh(bytes, MADV_HUGEPAGE), 1, bytes);
	else if (!strcmp(argv[1], "huge"))
		measure(bytes, MADV_HUGEPAGE);
	else if (!strcmp(argv[1], "small"))
		measure(bytes, MADV_NOHUGEPAGE);
	else
		errx(2, "%s: it can be huge, small or touch", argv[1]);
	return 0;
}
