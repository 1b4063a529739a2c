// SPDX-License-Identifier: MIT
/*
 * Destinations that do not keep to docs/spec/stream.md: whatever a source is
 * answered, it says why in one line, and the guest goes on or is gone.
 */
#include "stream_fixture.h"

struct liar {
	int fd;
	const struct buffer *answers;
	pthread_t thread;
};

/* Answers before it is asked, reads on until the source hangs up. */
static void *liar_main(void *argument)
{
	struct liar *liar = argument;
	uint8_t bytes[4096];

	line_send(liar->fd, liar->answers->data, liar->answers->used);
	shutdown(liar->fd, SHUT_WR);
	while (recv(liar->fd, bytes, sizeof(bytes), 0) > 0)
		;
	close(liar->fd);
	return NULL;
}

/* Return: how it ended for the source */
static enum migration_state answered(struct world *w)
{
	struct liar liar = { .answers = &stream };
	int fd[2];
	char uri[32];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	liar.fd = fd[1];
	assert_int_equal(pthread_create(&liar.thread, NULL, liar_main, &liar),
			 0);
	guest_write(w, 5, 5);
	snprintf(uri, sizeof(uri), "fd:%d", fd[0]);
	migration_source_run(&w->source, uri);
	channel_close(&w->source.channel);
	pthread_join(liar.thread, NULL);
	migration_source_status(&w->source, &w->status);
	assert_int_equal(w->count[AT_GO_ON] + w->count[AT_LEAVE],
			 w->count[AT_STOP]);
	buffer_free(&stream);
	return w->status.state;
}

static void answer_ready(void)
{
	put_record(STREAM_READY, 0);
}

static void answer_loaded(void)
{
	put_record(STREAM_READY, 0);
	put_record(STREAM_LOADED, 8);
	put_zeroes(8);
}

static void lie(enum migration_state expected, const char *says)
{
	struct world *w = world_new(NULL);
	enum migration_state state = answered(w);

	if (state != expected || !strstr(w->status.error, says))
		print_error("%s: %s\n", migration_state_name(state),
			    w->status.error);
	assert_int_equal(state, expected);
	assert_non_null(strstr(w->status.error, says));
	assert_null(strchr(w->status.error, '\n'));
	world_delete(w);
}

static void test_answers_that_cannot_be(void **state)
{
	put_record(STREAM_READY, 1);
	put_zeroes(1);
	lie(MIGRATION_FAILED, "0x80");

	put_record(STREAM_LOADED, 8);
	put_zeroes(8);
	lie(MIGRATION_FAILED, "0x81 instead of 0x80");

	put_record(STREAM_READY, UINT64_MAX);
	lie(MIGRATION_FAILED, "0x80");

	answer_ready();
	answer_ready();
	lie(MIGRATION_FAILED, "0x80 instead of 0x81");

	answer_ready();
	put_record(STREAM_LOADED, 7);
	put_zeroes(7);
	lie(MIGRATION_FAILED, "0x81");

	answer_ready();
	put_record(STREAM_RUNNING, 8);
	put_zeroes(8);
	lie(MIGRATION_FAILED, "0x82 instead of 0x81");

	/* From COMMIT on there is no way back. */
	answer_loaded();
	put_record(STREAM_LOADED, 8);
	put_zeroes(8);
	lie(MIGRATION_UNKNOWN, "0x81 instead of 0x82");

	answer_loaded();
	put_record(STREAM_REFUSED, 3);
	buffer_put(&stream, "why", 3);
	lie(MIGRATION_UNKNOWN, "refused the guest: why");

	answer_loaded();
	lie(MIGRATION_UNKNOWN, "closed the connection");
}

static void test_refusals_that_cannot_be(void **state)
{
	put_record(STREAM_REFUSED, 0);
	lie(MIGRATION_FAILED, "refused the guest");

	put_record(STREAM_REFUSED, UINT64_MAX);
	lie(MIGRATION_FAILED, "closed the connection");

	put_record(STREAM_REFUSED, STREAM_CONFIG_MAX);
	put_zeroes(STREAM_CONFIG_MAX);
	lie(MIGRATION_FAILED, "refused the guest");

	put_record(STREAM_REFUSED, 10);
	buffer_put(&stream, "cut", 3);
	lie(MIGRATION_FAILED, "closed the connection");

	put_record(STREAM_REFUSED, 10);
	buffer_put(&stream, "%s%n%n%n%n", 10);
	lie(MIGRATION_FAILED, "%s%n%n%n%n");
}

/* The user's terminal is not the peer's. */
static void test_refusal_with_control_characters(void **state)
{
	put_record(STREAM_REFUSED, 12);
	buffer_put(&stream, "\033[2J\nno\r\ta\177", 12);
	lie(MIGRATION_FAILED, "no");
}

#define UNKNOWN 0x80000099u

/* A destination of a later version says more. */
static void test_answers_that_need_not_be_known(void **state)
{
	put_record(UNKNOWN, 5000);
	put_zeroes(5000);
	answer_loaded();
	put_record(UNKNOWN, 0);
	put_record(UNKNOWN, 7);
	put_zeroes(7);
	put_record(STREAM_RUNNING, 8);
	put_zeroes(8);
	lie(MIGRATION_COMPLETED, "");

	put_record(UNKNOWN, (1 << 20) + 1);
	lie(MIGRATION_FAILED, "no known type");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers_that_cannot_be),
		cmocka_unit_test(test_refusals_that_cannot_be),
		cmocka_unit_test(test_refusal_with_control_characters),
		cmocka_unit_test(test_answers_that_need_not_be_known),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
