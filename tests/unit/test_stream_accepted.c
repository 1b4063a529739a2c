// SPDX-License-Identifier: MIT
/*
 * Made streams that keep to docs/spec/stream.md at its edges: a destination
 * takes them.
 */
#include "stream_fixture.h"

static void accept_it(void)
{
	struct answers answers = receive(stream.data, stream.used);

	if (world->rc < 0)
		print_error("%s\n", world->err.message);
	assert_int_equal(world->rc, 0);
	assert_int_equal(world->arrived, 1);
	assert_int_equal(answers.count, 4);
	assert_int_equal(answers.type[0], STREAM_READY);
	assert_int_equal(answers.type[1], STREAM_LOADED);
	assert_int_equal(answers.type[2], STREAM_RUNNING);
	assert_int_equal(answers.type[3], STREAM_RESIDENT);
	forget();
}

static void test_what_is_accepted(void **state)
{
	put_start();
	put_finish();
	accept_it();

	/* The largest records, and unknown optional ones. */
	put_start();
	put_pages(0, 2);
	put_record(0x80001234, 0);
	put_record(0x80000001, 0);
	put_record(STREAM_ANNOUNCE, 48);
	put_run(5, 1);			 /* never comes */
	put_run(HIGH_FIRST + 1000, 16); /* comes as another run */
	put_run(0, 2);			 /* is here */
	put_pages(HIGH_FIRST + 1001, 2);
	put_record(0xffffffff, 5000);
	put_zeroes(5000);
	put_record(STREAM_ZERO, 32);
	put_run(0, 1);
	put_run(HIGH_FIRST, HIGH_PAGES);
	put_pages(FRAMES - 1, 1);
	put_finish();
	accept_it();

	/* A later writer that a reader of version 1 can still read. */
	put_start();
	stream.data[8] = 77;
	put_finish();
	accept_it();

	/* As many states as there may be. */
	put_start();
	while (world->loads++ < STREAM_STATES_MAX)
		put_one_state();
	world->loads = 0;
	put_end();
	put_record(STREAM_COMMIT, 0);
	accept_it();
}

static void test_optional_record_of_a_mebibyte(void **state)
{
	struct answers answers;
	struct world *w = world;
	int fd[2];
	struct channel channel;
	pthread_t thread;

	/* Too much for a socket: by the world's own thread. */
	put_start();
	put_record(0x80001234, 1 << 20);
	put_zeroes(1 << 20);
	put_finish();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	channel_open(&channel, fd[0]);
	w->destination_fd = fd[1];
	assert_int_equal(pthread_create(&thread, NULL, destination_main, w),
			 0);
	assert_true(line_send(fd[0], stream.data, stream.used));
	pthread_join(thread, NULL);
	read_answers(fd[0], &answers);
	channel_close(&channel);
	assert_int_equal(w->rc, 0);
	assert_int_equal(answers.count, 4);
	forget();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_accepted),
		cmocka_unit_test(test_optional_record_of_a_mebibyte),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, destination_setup,
				      destination_teardown);
}
