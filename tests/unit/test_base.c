// SPDX-License-Identifier: MIT
/* The ground floor: buffers, checked sums, errors, sockets by address. */
#include "unit.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "base/error.h"
#include "base/socket.h"

/* ------------------------------------------------------------- buffers --- */

static void test_buffer_holds_what_was_put(void **state)
{
	struct buffer b = { 0 };
	struct buffer_reader r;
	char text[8], byte;

	buffer_put(&b, "x", 1);
	buffer_put_u16(&b, 0x1122);
	buffer_put_u32(&b, 0x33445566);
	buffer_put_u64(&b, 0x778899aabbccddee);
	buffer_put_string(&b, "text");
	buffer_put_string(&b, "");
	buffer_put(&b, NULL, 0);
	assert_false(b.failed);
	assert_int_equal(b.used, 1 + 2 + 4 + 8 + 8 + 4);
	/* Little-endian, unaligned. */
	assert_memory_equal(b.data, "x\x22\x11\x66\x55\x44\x33\xee\xdd", 9);

	r = (struct buffer_reader){ b.data, b.used, false };
	buffer_get(&r, &byte, 1);
	assert_int_equal(byte, 'x');
	assert_int_equal(buffer_get_u16(&r), 0x1122);
	assert_int_equal(buffer_get_u32(&r), 0x33445566);
	assert_int_equal(buffer_get_u64(&r), 0x778899aabbccddee);
	buffer_get_string(&r, text, sizeof(text));
	assert_string_equal(text, "text");
	buffer_get_string(&r, text, sizeof(text));
	assert_string_equal(text, "");
	assert_false(r.failed);
	assert_int_equal(r.left, 0);
	buffer_free(&b);
	assert_null(b.data);
	assert_int_equal(b.used, 0);
}

static void test_buffer_grows(void **state)
{
	static uint8_t bytes[100000];
	struct rng rng = rng_start("a buffer that grows");
	struct buffer b = { 0 };
	size_t used = 0, some, i;

	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = rng_next(&rng);
	while (used < sizeof(bytes)) {
		some = rng_below(&rng, 2000);
		if (some > sizeof(bytes) - used)
			some = sizeof(bytes) - used;
		buffer_put(&b, bytes + used, some);
		used += some;
		assert_int_equal(b.used, used);
		assert_true(b.room >= b.used);
	}
	assert_memory_equal(b.data, bytes, used);
	buffer_free(&b);
}

static void test_failed_buffer_stays_as_it_is(void **state)
{
	struct buffer b = { 0 };

	buffer_put_u32(&b, 1);
	b.failed = true;
	buffer_put_u32(&b, 2);
	assert_int_equal(b.used, 4);
	buffer_free(&b);
	assert_false(b.failed);
}

static void test_reading_past_the_end(void **state)
{
	static const uint8_t bytes[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	struct buffer_reader r = { bytes, 7, false };
	uint8_t to[8];

	memset(to, 0xff, sizeof(to));
	buffer_get(&r, to, 8);
	assert_true(r.failed);
	assert_memory_equal(to, "\0\0\0\0\0\0\0\0", 8);
	/* And from then on, whatever is left. */
	assert_int_equal(buffer_get_u16(&r), 0);
	assert_null(buffer_get_span(&r, 0));

	r = (struct buffer_reader){ bytes, 7, false };
	assert_int_equal(buffer_get_u64(&r), 0);
	assert_true(r.failed);
	r = (struct buffer_reader){ bytes, 3, false };
	assert_int_equal(buffer_get_u32(&r), 0);
	r = (struct buffer_reader){ bytes, 1, false };
	assert_int_equal(buffer_get_u16(&r), 0);
	r = (struct buffer_reader){ bytes, 8, false };
	assert_null(buffer_get_span(&r, SIZE_MAX));
	r = (struct buffer_reader){ bytes, 8, false };
	assert_ptr_equal(buffer_get_span(&r, 8), bytes);
	assert_false(r.failed);
}

static void test_strings_that_cannot_be(void **state)
{
	static const struct {
		uint8_t bytes[12];
		size_t count;
	} table[] = {
		{ { 0 }, 0 },			      /* nothing */
		{ { 1, 0, 0 }, 3 },		      /* no length */
		{ { 4, 0, 0, 0, 'a', 'b', 'c' }, 7 }, /* cut */
		{ { 8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8 }, 12 }, /* no room */
		{ { 3, 0, 0, 0, 'a', 0, 'c' }, 7 },   /* a zero inside */
		{ { 0xff, 0xff, 0xff, 0xff, 'a' }, 5 },
	};
	char text[8];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		struct buffer_reader r = { table[i].bytes, table[i].count,
					   false };

		strcpy(text, "before");
		buffer_get_string(&r, text, sizeof(text));
		assert_true(r.failed);
		assert_string_equal(text, "");
	}
}

/* ------------------------------------------------------------- numbers --- */

static void test_checked(void **state)
{
	uint64_t v;

	assert_true(checked_add(UINT64_MAX - 1, 1, &v));
	assert_int_equal(v, UINT64_MAX);
	assert_false(checked_add(UINT64_MAX, 1, &v));
	assert_false(checked_add(1ull << 63, 1ull << 63, &v));
	assert_true(checked_mul(1ull << 32, (1ull << 32) - 1, &v));
	assert_int_equal(v, 0xffffffff00000000);
	assert_false(checked_mul(1ull << 32, 1ull << 32, &v));
	assert_true(checked_mul(0, UINT64_MAX, &v));
	assert_int_equal(v, 0);

	assert_true(checked_within(0, 0, 0));
	assert_true(checked_within(10, 0, 10));
	assert_true(checked_within(3, 7, 10));
	assert_false(checked_within(3, 8, 10));
	assert_false(checked_within(11, 0, 10));
	assert_false(checked_within(5, UINT64_MAX, 10));
	assert_false(checked_within(UINT64_MAX, 2, 10));
	assert_true(checked_within(0, UINT64_MAX, UINT64_MAX));
}

static void test_endian(void **state)
{
	uint8_t bytes[9] = { 0 };

	le16_store(bytes + 1, 0x0102);
	assert_memory_equal(bytes + 1, "\x02\x01", 2);
	assert_int_equal(le16_load(bytes + 1), 0x0102);
	le32_store(bytes + 1, 0x01020304);
	assert_memory_equal(bytes + 1, "\x04\x03\x02\x01", 4);
	assert_int_equal(le32_load(bytes + 1), 0x01020304);
	le64_store(bytes + 1, 0x0102030405060708);
	assert_memory_equal(bytes + 1, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
	assert_int_equal(le64_load(bytes + 1), 0x0102030405060708);
	assert_int_equal(le16_get(le16_make(0xabcd)), 0xabcd);
	assert_int_equal(le32_get(le32_make(0xabcdef01)), 0xabcdef01);
	assert_int_equal(le64_get(le64_make(1ull << 63)), 1ull << 63);
}

/* -------------------------------------------------------------- errors --- */

static void test_errors(void **state)
{
	struct error err = { "" };

	assert_int_equal(error_set(&err, "page %d", 5), -1);
	assert_string_equal(err.message, "page 5");
	assert_int_equal(error_prefix(&err, "guest %s", "vm"), -1);
	assert_string_equal(err.message, "guest vm: page 5");
	assert_int_equal(error_set_errno(&err, ENOENT, "file %s", "x"), -1);
	assert_string_equal(err.message, "file x: No such file or directory");
	/* Nobody wants to know. */
	assert_int_equal(error_set(NULL, "%d", 1), -1);
	assert_int_equal(error_set_errno(NULL, 1, "%d", 1), -1);
	assert_int_equal(error_prefix(NULL, "%d", 1), -1);
}

static void test_errors_that_are_too_long(void **state)
{
	struct error err = { "" };
	char words[600];

	memset(words, 'w', sizeof(words) - 1);
	words[sizeof(words) - 1] = '\0';
	error_set(&err, "%s", words);
	assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
	error_prefix(&err, "%s", "front");
	assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
	assert_memory_equal(err.message, "front: www", 10);
	error_set_errno(&err, EIO, "%s", words);
	assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
	error_prefix(&err, "%s", words);
	assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
}

/* ------------------------------------------------------------- cleanup --- */

static void test_cleanup(void **state)
{
	int fd[2], kept;

	assert_int_equal(pipe(fd), 0);
	{
		cleanup_fd int a = fd[0];
		cleanup_fd int b = fd[1];
		cleanup_fd int none = -1;
		cleanup_free char *text = strdup("gone");
		cleanup_free char *stolen = strdup("kept");
		char *mine = steal_pointer(&stolen);

		assert_null(stolen);
		assert_string_equal(mine, "kept");
		free(mine);
		assert_non_null(text);
		assert_int_equal(none, -1);
		kept = steal_fd(&b);
		assert_int_equal(b, -1);
		assert_true(a >= 0);
	}
	assert_int_equal(close(fd[0]), -1);
	assert_int_equal(close(kept), 0);
}

/* ------------------------------------------------------------- sockets --- */

static char directory[] = "/tmp/aerostat-base-XXXXXX";

static int setup(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static int teardown(void **state)
{
	return rmdir(directory);
}

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static void test_unix_socket(void **state)
{
	const char *path = path_of("socket");
	struct error err = { "" };
	struct stat info;
	int fd, client, other;
	mode_t mask = umask(0);

	fd = socket_listen_unix(path, &err);
	umask(mask);
	assert_true(fd >= 0);
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	client = socket_connect_unix(path, &err);
	assert_true(client >= 0);
	close(client);

	/* Served: not to be taken away. */
	assert_int_equal(socket_listen_unix(path, &err), -1);
	assert_non_null(strstr(err.message, "in use"));
	close(fd);
	/* Nobody serves it any more. */
	assert_int_equal(socket_connect_unix(path, &err), -1);
	assert_non_null(strstr(err.message, path));
	other = socket_listen_unix(path, &err);
	assert_true(other >= 0);
	close(other);
	unlink(path);
}

static int bound_socket(const char *path, int type)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	strcpy(address.sun_path, path);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (void *)&address, sizeof(address)), 0);
	return fd;
}

/* Who wants a path that is taken leaves no mark on who serves it: a machine
 * that waits there takes one guest, and that is whoever connects first. */
static void test_unix_socket_is_asked_for_unseen(void **state)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
	const char *path = path_of("unseen");
	struct error err = { "" };
	size_t i;
	int fd;

	fd = socket_listen_unix(path, &err);
	assert_true(fd >= 0);
	assert_int_equal(socket_listen_unix(path, &err), -1);
	assert_non_null(strstr(err.message, "in use"));
	assert_int_equal(accept(fd, NULL, NULL), -1);
	assert_int_equal(errno, EAGAIN);
	close(fd);
	unlink(path);

	/* Whatever it is that somebody has there. */
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		fd = bound_socket(path, types[i]);
		assert_int_equal(socket_listen_unix(path, &err), -1);
		assert_non_null(strstr(err.message, "in use"));
		close(fd);
		fd = socket_listen_unix(path, &err);
		assert_true(fd >= 0);
		close(fd);
		unlink(path);
	}
}

/* A process that listens and accepts nobody, its backlog full: it serves the
 * path, and who connects is not kept for ever. */
static void test_unix_socket_of_a_process_that_stands_still(void **state)
{
	const char *path = path_of("still");
	struct error err = { "" };
	int still = bound_socket(path, SOCK_STREAM), first;

	assert_int_equal(listen(still, 0), 0);
	first = socket_connect_unix(path, &err);
	assert_true(first >= 0);
	assert_int_equal(socket_listen_unix(path, &err), -1);
	assert_non_null(strstr(err.message, "in use"));
	assert_int_equal(socket_connect_unix(path, &err), -1);
	assert_non_null(strstr(err.message, "timed out"));
	close(first);
	close(still);
	unlink(path);
}

/* What cannot be asked is not taken for left over. */
static void test_unix_socket_that_cannot_be_asked(void **state)
{
	const char *path = path_of("unasked");
	struct error err = { "" };
	struct rlimit before, none;
	int fd = socket_listen_unix(path, &err);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){ 0, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	fd = socket_listen_unix(path, &err);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(fd, -1);
	assert_non_null(strstr(err.message, "cannot tell whether"));
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
}

static void test_unix_paths_that_cannot_be(void **state)
{
	const char *file = path_of("file");
	struct error err = { "" };
	char path[200], target[200];
	FILE *f;

	assert_int_equal(socket_listen_unix("", &err), -1);
	assert_non_null(strstr(err.message, "empty"));
	assert_int_equal(socket_connect_unix("", &err), -1);
	memset(path, 'p', 108);
	path[108] = '\0';
	assert_int_equal(socket_listen_unix(path, &err), -1);
	assert_non_null(strstr(err.message, "too long"));
	assert_int_equal(socket_connect_unix(path, &err), -1);
	assert_non_null(strstr(err.message, "too long"));
	assert_int_equal(socket_listen_unix("/nonexistent/s", &err), -1);
	assert_non_null(strstr(err.message, "/nonexistent/s"));
	assert_int_equal(socket_connect_unix("/nonexistent/s", NULL), -1);

	/* What is there and is no socket stays. */
	f = fopen(file, "w");
	assert_non_null(f);
	fclose(f);
	assert_int_equal(socket_listen_unix(file, &err), -1);
	assert_non_null(strstr(err.message, "not a socket"));
	assert_int_equal(access(file, F_OK), 0);
	/* Not through a link either. */
	strcpy(target, file);
	assert_int_equal(symlink(target, path_of("link")), 0);
	assert_int_equal(socket_listen_unix(path_of("link"), &err), -1);
	assert_non_null(strstr(err.message, "not a socket"));
	assert_int_equal(socket_listen_unix(directory, &err), -1);
	unlink(path_of("link"));
	unlink(target);
}

static void test_tcp_socket(void **state)
{
	struct error err = { "" };
	struct sockaddr_storage bound;
	socklen_t size = sizeof(bound);
	char address[64];
	int fd, client;

	fd = socket_listen_tcp("127.0.0.1:0", &err);
	assert_true(fd >= 0);
	assert_int_equal(getsockname(fd, (void *)&bound, &size), 0);
	snprintf(address, sizeof(address), "127.0.0.1:%u",
		 (((uint8_t *)&bound)[2] << 8) | ((uint8_t *)&bound)[3]);
	client = socket_connect_tcp(address, &err);
	assert_true(client >= 0);
	close(client);
	close(fd);
	assert_int_equal(socket_connect_tcp(address, &err), -1);
	assert_non_null(strstr(err.message, address));
}

static void test_tcp_addresses_that_cannot_be(void **state)
{
	static const char *const addresses[] = {
		"", ":", "host", "host:", "127.0.0.1:notaport",
		"[::1", "::",
	};
	char address[400];
	struct error err;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(addresses); i++) {
		memset(&err, 0, sizeof(err));
		assert_int_equal(socket_connect_tcp(addresses[i], &err), -1);
		assert_true(err.message[0]);
		assert_int_equal(socket_listen_tcp(addresses[i], &err), -1);
	}
	memset(address, 'h', sizeof(address));
	strcpy(address + 300, ":1");
	assert_int_equal(socket_connect_tcp(address, &err), -1);
	assert_non_null(strstr(err.message, "not HOST:PORT"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buffer_holds_what_was_put),
		cmocka_unit_test(test_buffer_grows),
		cmocka_unit_test(test_failed_buffer_stays_as_it_is),
		cmocka_unit_test(test_reading_past_the_end),
		cmocka_unit_test(test_strings_that_cannot_be),
		cmocka_unit_test(test_checked),
		cmocka_unit_test(test_endian),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_errors_that_are_too_long),
		cmocka_unit_test(test_cleanup),
		cmocka_unit_test(test_unix_socket),
		cmocka_unit_test(test_unix_socket_is_asked_for_unseen),
		cmocka_unit_test(
			test_unix_socket_of_a_process_that_stands_still),
		cmocka_unit_test(test_unix_socket_that_cannot_be_asked),
		cmocka_unit_test(test_unix_paths_that_cannot_be),
		cmocka_unit_test(test_tcp_socket),
		cmocka_unit_test(test_tcp_addresses_that_cannot_be),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
