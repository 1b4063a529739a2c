// SPDX-License-Identifier: MIT
/* Pages on a real socket: lent where the kernel lends, copied elsewhere, and
 * all of them in either case. */
#include "unit.h"

#include <pthread.h>
#include <linux/sockios.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "migration/channel.h"

#define LENT_BYTES (64u << 10) /* the least that is lent */
#define MANY_BYTES (9u << 20)  /* more than socket and pipe hold together */

#define SETTLING_BYTES (192 << 10) /* any host lets a socket hold that */
#define SETTLED_MOST (128 << 10)
#define FOR_EVER_MS 100000000u

static const struct iovec nothing;

struct pair {
	struct channel from, to;
	uint8_t *pages;
};

static struct pair pair_new(void)
{
	struct pair pair;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	channel_open(&pair.from, ends[0]);
	channel_open(&pair.to, ends[1]);
	pair.pages = mmap(NULL, MANY_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(pair.pages != MAP_FAILED);
	return pair;
}

static void pair_delete(struct pair *pair)
{
	channel_close(&pair->from);
	channel_close(&pair->to);
	munmap(pair->pages, MANY_BYTES);
}

/* Write @bytes of 'a' behind a header, make 'b' of them, and read.
 * Return: the letter that arrived */
static char write_then_change(struct pair *pair, size_t bytes)
{
	struct iovec head = { (void *)"head", 4 };
	char *got = zeroed(bytes);
	size_t i;
	char first;

	memset(pair->pages, 'a', bytes);
	assert_int_equal(channel_write_pages(&pair->from, &head, 1,
					     pair->pages, bytes, NULL), 0);
	assert_int_equal(pair->from.sent, 4 + bytes);
	memset(pair->pages, 'b', bytes);
	assert_int_equal(channel_read(&pair->to, got, 4, NULL), 0);
	assert_memory_equal(got, "head", 4);
	assert_int_equal(channel_read(&pair->to, got, bytes, NULL), 0);
	first = got[0];
	for (i = 0; i < bytes; i++)
		assert_int_equal(got[i], first);
	free(got);
	return first;
}

static void test_pages_are_lent(void **state)
{
	struct pair pair = pair_new();
	char got = write_then_change(&pair, LENT_BYTES);

	if (pair.from.no_lending)
		print_message("# this kernel does not lend pages\n");
	assert_int_equal(got, pair.from.no_lending ? 'a' : 'b');
	pair_delete(&pair);
}

static void test_little_is_copied(void **state)
{
	struct pair pair = pair_new();

	assert_int_equal(write_then_change(&pair, LENT_BYTES - 4096), 'a');
	assert_int_equal(pair.from.pipe[0], -1);
	pair_delete(&pair);
}

static void test_pages_are_copied_where_they_cannot_be_lent(void **state)
{
	struct pair pair = pair_new();

	pair.from.no_lending = true;
	assert_int_equal(write_then_change(&pair, LENT_BYTES), 'a');
	pair_delete(&pair);
}

static void *read_slowly(void *of)
{
	struct pair *pair = of;
	static uint8_t got[MANY_BYTES];
	size_t done, some;

	for (done = 0; done < MANY_BYTES; done += some) {
		some = 1 + done * 7919 % 300000;
		if (some > MANY_BYTES - done)
			some = MANY_BYTES - done;
		if (channel_read(&pair->to, got + done, some, NULL) < 0)
			return NULL;
	}
	return got;
}

static void test_more_than_the_pipe_holds(void **state)
{
	struct pair pair = pair_new();
	pthread_t reader;
	void *got;
	size_t i;

	for (i = 0; i < MANY_BYTES; i++)
		pair.pages[i] = i * 2654435761u >> 13;
	assert_int_equal(pthread_create(&reader, NULL, read_slowly, &pair), 0);
	assert_int_equal(channel_write_pages(&pair.from, &nothing, 0, pair.pages,
					     MANY_BYTES, NULL), 0);
	assert_int_equal(pthread_join(reader, &got), 0);
	assert_non_null(got);
	assert_memory_equal(got, pair.pages, MANY_BYTES);
	assert_int_equal(pair.from.sent, MANY_BYTES);
	pair_delete(&pair);
}

static void *break_it(void *of)
{
	struct pair *pair = of;
	uint8_t byte;

	/* The writer is under way, and comes no further than the buffers. */
	if (channel_read(&pair->to, &byte, 1, NULL) == 0)
		channel_break(&pair->from);
	return NULL;
}

static void test_break_while_pages_wait(void **state)
{
	struct pair pair = pair_new();
	struct error err = { "" };
	pthread_t other;

	memset(pair.pages, 'a', MANY_BYTES);
	assert_int_equal(pthread_create(&other, NULL, break_it, &pair), 0);
	assert_int_equal(channel_write_pages(&pair.from, &nothing, 0, pair.pages,
					     MANY_BYTES, &err), -1);
	assert_string_equal(err.message, "cancelled");
	assert_true(pair.from.sent < MANY_BYTES);
	assert_int_equal(pthread_join(other, NULL), 0);
	pair_delete(&pair);
}

/* A byte now and then is progress, and is not enough. */
static void *read_a_little(void *of)
{
	struct pair *pair = of;
	uint8_t byte;

	while (channel_read(&pair->to, &byte, 1, NULL) == 0 &&
	       !atomic_load(&pair->to.broken))
		usleep(1000);
	return NULL;
}

static void test_slow_reader(void **state)
{
	struct pair pair = pair_new();
	struct error err = { "" };
	pthread_t reader;

	memset(pair.pages, 'a', MANY_BYTES);
	channel_set_patience(&pair.from, 10);
	channel_set_deadline(&pair.from, 1);
	assert_int_equal(pthread_create(&reader, NULL, read_a_little, &pair),
			 0);
	assert_int_equal(channel_write_pages(&pair.from, &nothing, 0, pair.pages,
					     MANY_BYTES, &err), -1);
	assert_true(strstr(err.message, "too slow") ||
		    strstr(err.message, "no progress for 0.01 seconds"));
	/* It is too late for all that comes behind, too. */
	usleep(2000);
	assert_int_equal(channel_write_record(&pair.from, STREAM_COMMIT, NULL,
					      0, &err), -1);
	assert_string_equal(err.message, "the other side is too slow");
	channel_break(&pair.to);
	pthread_join(reader, NULL);
	pair_delete(&pair);
}

static void *write_a_little(void *of)
{
	static uint8_t byte;
	struct iovec part = { &byte, 1 };
	struct pair *pair = of;

	while (channel_write(&pair->to, &part, 1, NULL) == 0)
		usleep(1000);
	return NULL;
}

static void test_slow_writer(void **state)
{
	struct pair pair = pair_new();
	struct error err = { "" };
	pthread_t writer;

	signal(SIGPIPE, SIG_IGN);
	channel_set_deadline(&pair.from, 20);
	assert_int_equal(pthread_create(&writer, NULL, write_a_little, &pair),
			 0);
	assert_int_equal(channel_read(&pair.from, pair.pages, MANY_BYTES, &err),
			 -1);
	assert_string_equal(err.message, "the other side is too slow");
	/* Without one any progress does. */
	channel_set_deadline(&pair.from, 0);
	assert_int_equal(channel_read(&pair.from, pair.pages, 30, &err), 0);
	channel_break(&pair.from);
	pthread_join(writer, NULL);
	pair_delete(&pair);
}

static void test_peer_that_is_gone(void **state)
{
	struct pair pair = pair_new();
	struct error err = { "" };

	memset(pair.pages, 'a', LENT_BYTES);
	channel_close(&pair.to);
	assert_int_equal(channel_write_pages(&pair.from, &nothing, 0, pair.pages,
					     LENT_BYTES, &err), -1);
	assert_string_equal(err.message,
			    "the other side closed the connection");
	pair_delete(&pair);
}

static int under_way(const struct pair *pair)
{
	int bytes = -1;

	assert_int_equal(ioctl(pair->from.fd, SIOCOUTQ, &bytes), 0);
	return bytes;
}

static void *read_all(void *argument)
{
	struct pair *pair = argument;
	char part[4096];
	size_t i;

	for (i = 0; i < SETTLING_BYTES / sizeof(part); i++)
		channel_read(&pair->to, part, sizeof(part), NULL);
	return NULL;
}

/* However late its reader begins; one that does not is not waited for. */
static void test_settling(void **state)
{
	struct pair pair = pair_new();
	struct iovec part = { pair.pages, SETTLING_BYTES };
	pthread_t reader;

	assert_int_equal(channel_write(&pair.from, &part, 1, NULL), 0);
	channel_settle(&pair.from, 1);
	assert_true(under_way(&pair) >= SETTLING_BYTES);
	assert_int_equal(pthread_create(&reader, NULL, read_all, &pair), 0);
	channel_settle(&pair.from, FOR_EVER_MS);
	assert_true(under_way(&pair) <= SETTLED_MOST);
	pthread_join(reader, NULL);
	pair_delete(&pair);
}

static void test_settling_of_a_broken_channel(void **state)
{
	struct pair pair = pair_new();
	struct iovec part = { pair.pages, SETTLING_BYTES };

	assert_int_equal(channel_write(&pair.from, &part, 1, NULL), 0);
	channel_break(&pair.from);
	channel_settle(&pair.from, FOR_EVER_MS);
	assert_true(under_way(&pair) >= SETTLING_BYTES);
	pair_delete(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_are_lent),
		cmocka_unit_test(test_little_is_copied),
		cmocka_unit_test(
			test_pages_are_copied_where_they_cannot_be_lent),
		cmocka_unit_test(test_more_than_the_pipe_holds),
		cmocka_unit_test(test_break_while_pages_wait),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_slow_writer),
		cmocka_unit_test(test_peer_that_is_gone),
		cmocka_unit_test(test_settling),
		cmocka_unit_test(test_settling_of_a_broken_channel),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	signal(SIGPIPE, SIG_IGN); /* as the program does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
