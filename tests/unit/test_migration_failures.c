// SPDX-License-Identifier: MIT
/*
 * Migrations that fail: refused, cut off, cancelled. Whatever happens, the
 * guest lives in one place, and in that it goes on.
 */
#include "migration_fixture.h"

static void script_hints(struct world *w, enum moment moment, unsigned int nth)
{
	if (moment == AT_WAIT) {
		guest_hint(w, 95);
		w->progress.state = FREE_PAGE_COMPLETE;
	}
}

/* ----------------------------------------------------------- refusals --- */

static void test_configuration_refused(void **state)
{
	struct world *w = hinting_world(script_hints);

	write_run(w, 90, 10, 1);
	w->refuse_config = "this host lacks CPUID leaf 7";
	world_run(w);
	check_ending(w);
	assert_int_equal(w->status.state, MIGRATION_FAILED);
	assert_non_null(strstr(w->status.error, w->refuse_config));
	/* The guest was asked meanwhile, and has its pages again; check_ending()
	 * saw the log off. */
	assert_int_equal(w->count[AT_START], 1);
	assert_int_equal(w->count[AT_DONE], 1);
	assert_int_equal(w->count[AT_STOP], 0);
	assert_int_equal(w->count[AT_GO_ON], 0);
	world_delete(w);
}

static void test_state_refused(void **state)
{
	struct world *w = hinting_world(script_hints);

	write_run(w, 90, 10, 1);
	w->refuse_state = "state of CPU 5, but there are 4";
	world_run(w);
	check_ending(w);
	assert_int_equal(w->status.state, MIGRATION_FAILED);
	assert_non_null(strstr(w->status.error, w->refuse_state));
	assert_int_equal(w->count[AT_GO_ON], 1);
	world_delete(w);
}

static void test_machine_that_cannot_run(void **state)
{
	struct world *w = world_new(NULL);

	w->refuse_loaded = "the stream lacks part of the guest's state";
	world_run(w);
	check_ending(w);
	assert_int_equal(w->status.state, MIGRATION_FAILED);
	assert_non_null(strstr(w->status.error, w->refuse_loaded));
	assert_int_equal(w->count[AT_GO_ON], 1);
	world_delete(w);
}

/* A reason as long as it can be arrives, if not whole. */
static void test_long_refusal(void **state)
{
	struct world *w = world_new(NULL);
	char why[500];

	memset(why, 'x', sizeof(why));
	memcpy(why, "the reason is", 13);
	why[sizeof(why) - 1] = '\0';
	w->refuse_config = why;
	world_run(w);
	check_ending(w);
	assert_non_null(strstr(w->status.error, "the reason is"));
	world_delete(w);
}

static void test_source_that_cannot_stop(void **state)
{
	struct world *w = hinting_world(script_hints);

	w->fail_stop = true;
	world_run(w);
	check_ending(w);
	assert_int_equal(w->status.state, MIGRATION_FAILED);
	assert_string_equal(w->status.error, "the guest does not stop");
	world_delete(w);
}

static void test_source_that_cannot_save(void **state)
{
	struct world *w = hinting_world(script_hints);

	w->fail_save = true;
	world_run(w);
	check_ending(w);
	assert_int_equal(w->status.state, MIGRATION_FAILED);
	assert_string_equal(w->status.error, "the state cannot be saved");
	assert_int_equal(w->count[AT_GO_ON], 1);
	world_delete(w);
}

static void test_nowhere_to_go(void **state)
{
	static const char *const uris[] = {
		"fd:9999", "fd:", "fd:1x", "fd:-1", "ftp:host:1", "unix:",
		"unix:/nonexistent/socket", "tcp:host", "",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(uris); i++) {
		struct world *w = hinting_world(NULL);

		migration_source_run(&w->source, uris[i]);
		migration_source_status(&w->source, &w->status);
		w->rc = -1;
		strcpy(w->err.message, "never there");
		check_ending(w);
		assert_int_equal(w->status.state, MIGRATION_FAILED);
		world_delete(w);
	}
}

/* Whatever else the process has open stays open. */
static void test_descriptor_that_is_no_socket(void **state)
{
	struct world *w = hinting_world(NULL);
	int ends[2];
	char uri[32];

	assert_int_equal(pipe(ends), 0);
	snprintf(uri, sizeof(uri), "fd:%d", ends[1]);
	migration_source_run(&w->source, uri);
	migration_source_status(&w->source, &w->status);
	assert_non_null(strstr(w->status.error, "is not a stream socket"));
	world_delete(w);
	assert_int_equal(close(ends[0]), 0);
	assert_int_equal(close(ends[1]), 0);
}

/* ------------------------------------------------- broken connections --- */

/* A move in which everything occurs, in few bytes. */
static void script_small(struct world *w, enum moment moment, unsigned int nth)
{
	if (moment == AT_WAIT) {
		guest_hint(w, 11);
		w->progress.state = FREE_PAGE_COMPLETE;
	}
	if (moment == AT_SYNC && nth == 1)
		guest_write(w, 10, 0);
	if (moment == AT_SAVE)
		guest_write(w, HIGH_FIRST, 2);
}

static struct world *small_world(void)
{
	struct world *w = hinting_world(script_small);

	write_run(w, 10, 2, 1);
	w->source.options.verify = true;
	return w;
}

static void test_line_cut_anywhere(void **state)
{
	struct world *w = small_world();
	uint64_t total, cut;

	world_move(w);
	total = w->line.recorded.used;
	assert_int_equal(tally(&w->line.recorded).zero_pages, 1);
	world_delete(w);
	for (cut = 0; cut < total; cut++) {
		/* The middle of a page is much like any other. */
		if (cut > 300 && cut + 500 < total && cut % 61)
			continue;
		w = small_world();
		w->line.cut = cut;
		world_run(w);
		check_ending(w);
		assert_int_equal(w->arrived, 0);
		if (cut + 16 < total)
			assert_int_equal(w->status.state, MIGRATION_FAILED);
		else /* COMMIT was on its way, or the hang-up was seen first */
			assert_true(w->status.state == MIGRATION_FAILED ||
				    w->status.state == MIGRATION_UNKNOWN);
		world_delete(w);
	}
}

/* READY is 16 bytes, LOADED, RUNNING and RESIDENT are 24 each. */
static void test_answers_cut_anywhere(void **state)
{
	uint64_t cut;

	for (cut = 0; cut <= 88; cut++) {
		struct world *w = small_world();

		w->line.cut_answers = cut;
		world_run(w);
		check_ending(w);
		if (cut < 40) {
			assert_int_equal(w->status.state, MIGRATION_FAILED);
			assert_int_equal(w->count[AT_GO_ON], cut >= 16);
		} else if (cut < 64) {
			/* It runs there, and here nobody knows. */
			assert_int_equal(w->status.state, MIGRATION_UNKNOWN);
			assert_int_equal(w->count[AT_LEAVE], 1);
			assert_int_equal(w->count[AT_GO_ON], 0);
			assert_int_equal(w->arrived, 1);
			assert_non_null(strstr(w->status.error,
					       "handed over"));
		} else {
			assert_int_equal(w->status.state,
					 MIGRATION_COMPLETED);
			/* What is only to know is not waited for. */
			assert_int_equal(w->status.destination_rss_bytes > 0,
					 cut == 88);
		}
		world_delete(w);
	}
}

/* A damaged byte anywhere may fail the move, never split the guest. */
static void test_damage_anywhere(void **state)
{
	struct rng rng = rng_start("damage anywhere");
	struct world *w = small_world();
	uint64_t total, flip = 0;

	world_move(w);
	total = w->line.recorded.used;
	world_delete(w);
	for (; flip < total; flip += 1 + rng_below(&rng, 5)) {
		if (flip > 300 && flip + 500 < total && flip % 61)
			continue;
		w = small_world();
		w->line.flip = flip;
		/* A length that grew has the destination wait for more. */
		w->line.patience_ms = 30;
		world_run(w);
		if (w->status.state != MIGRATION_COMPLETED)
			check_ending(w);
		else
			assert_int_equal(w->arrived, 1);
		world_delete(w);
	}
}

/* ------------------------------------------------------------ cancel --- */

struct cancel {
	enum moment moment;
	unsigned int nth;
	bool done;
};

static void script_cancel(struct world *w, enum moment moment,
			  unsigned int nth)
{
	struct cancel *cancel = w->own;

	script_small(w, moment, nth);
	if (moment == cancel->moment && nth == cancel->nth) {
		migration_source_cancel(&w->source);
		cancel->done = true;
	}
}

static void test_cancelled_at_every_moment(void **state)
{
	struct cancel cancel = { 0 };
	struct world *w;

	for (cancel.moment = 0; cancel.moment < MOMENTS; cancel.moment++) {
		for (cancel.nth = 0; cancel.nth < 3; cancel.nth++) {
			cancel.done = false;
			w = small_world();
			w->script = script_cancel;
			w->own = &cancel;
			world_run(w);
			check_ending(w);
			/* Too late for it once the guest has left. */
			if (cancel.done && cancel.moment != AT_LEAVE) {
				assert_int_equal(w->status.state,
						 MIGRATION_CANCELLED);
				assert_non_null(strstr(w->status.error,
						       "cancelled"));
			} else {
				assert_int_equal(w->status.state,
						 MIGRATION_COMPLETED);
			}
			world_delete(w);
		}
	}
}

static void test_cancelled_before_it_begins(void **state)
{
	struct world *w = hinting_world(NULL);

	migration_source_cancel(&w->source);
	world_run(w);
	check_ending(w);
	assert_int_equal(w->status.state, MIGRATION_CANCELLED);
	assert_int_equal(w->line.recorded.used, 0);
	world_delete(w);
}

/* By another thread, while the source sends or waits. */
static void test_cancelled_by_another_thread(void **state)
{
	struct world *w = small_world();
	uint64_t total, bytes;

	world_move(w);
	total = w->line.recorded.used;
	world_delete(w);
	for (bytes = 1; bytes <= total; bytes += bytes < 250 ? 13 : 211) {
		w = small_world();
		write_run(w, 500, 100, 1); /* beyond what the sockets hold */
		w->line.cancel = bytes;
		world_run(w);
		check_ending(w);
		assert_true(w->status.state == MIGRATION_CANCELLED ||
			    w->status.state == MIGRATION_COMPLETED);
		world_delete(w);
	}
}

/* In the moment in which COMMIT has been sent: too late, and no harm done. */
static void test_cancelled_at_the_commit(void **state)
{
	struct world *w = small_world();
	uint64_t total;
	unsigned int i;

	world_move(w);
	total = w->line.recorded.used;
	world_delete(w);
	for (i = 0; i < 200; i++) {
		w = small_world();
		w->line.cancel = total;
		world_run(w);
		check_ending(w);
		assert_int_equal(w->status.state, MIGRATION_COMPLETED);
		world_delete(w);
	}
}

/* A source that is paced slowly still stops at once. */
static void script_cancel_slow(struct world *w, enum moment moment,
			       unsigned int nth)
{
	/* Behind READY: the line stands still. */
	if (moment != AT_WAIT)
		return;
	w->line.cancel = w->line.recorded.used + 1;
	w->progress.state = FREE_PAGE_COMPLETE;
}

static void test_cancelled_while_paced(void **state)
{
	struct world *w = hinting_world(script_cancel_slow);

	write_run(w, 0, 500, 1);
	w->source.options.bandwidth = 4096 * 4;
	world_run(w);
	check_ending(w);
	assert_int_equal(w->status.state, MIGRATION_CANCELLED);
	assert_true(w->status.total_ms < 5000);
	world_delete(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_configuration_refused),
		cmocka_unit_test(test_state_refused),
		cmocka_unit_test(test_machine_that_cannot_run),
		cmocka_unit_test(test_long_refusal),
		cmocka_unit_test(test_source_that_cannot_stop),
		cmocka_unit_test(test_source_that_cannot_save),
		cmocka_unit_test(test_nowhere_to_go),
		cmocka_unit_test(test_descriptor_that_is_no_socket),
		cmocka_unit_test(test_line_cut_anywhere),
		cmocka_unit_test(test_answers_cut_anywhere),
		cmocka_unit_test(test_damage_anywhere),
		cmocka_unit_test(test_cancelled_at_every_moment),
		cmocka_unit_test(test_cancelled_before_it_begins),
		cmocka_unit_test(test_cancelled_by_another_thread),
		cmocka_unit_test(test_cancelled_at_the_commit),
		cmocka_unit_test(test_cancelled_while_paced),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
