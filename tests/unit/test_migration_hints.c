// SPDX-License-Identifier: MIT
/*
 * Pages that a guest reports free, in a migration: what stays behind, and what
 * must arrive all the same.
 *
 * R1, R29 and so on are the hazards of docs/architecture.md.
 */
#include "migration_fixture.h"

static void script_hints(struct world *w, enum moment moment, unsigned int nth)
{
	if (moment != AT_WAIT)
		return;
	w->progress.state = nth ? FREE_PAGE_COMPLETE : FREE_PAGE_ACCEPTING;
	/* What is written meanwhile goes once, not twice. */
	guest_write(w, 95, 500 + nth);
	if (nth == 0)
		hint_run(w, 100, 100);
	else
		hint_run(w, HIGH_FIRST, 10);
}

static void test_hinted_pages_stay_behind(void **state)
{
	struct world *w = hinting_world(script_hints);
	struct page_set there;

	write_run(w, 90, 200, 1);
	write_run(w, HIGH_FIRST, 20, 300);
	w->progress.rejected = 3;
	world_move(w);
	assert_int_equal(w->status.bytes_sent,
			 bare_stream_bytes() + DATA_BYTES(3, 110) +
				 ANNOUNCE_BYTES(1, 1));
	assert_int_equal(w->status.pages_sent, 110);
	assert_int_equal(w->status.pages_hinted, 110);
	assert_int_equal(w->status.hints_received, 110);
	assert_int_equal(w->status.hints_rejected, 3);
	assert_int_equal(w->status.hints_late, 0);
	/* Not so much as touched. */
	there = vm_populated(&w->there);
	assert_int_equal(page_set_count(&there), 110);
	assert_int_equal(page_set_count_in(&there,
					   (struct page_run){ 100, 100 }), 0);
	page_set_free(&there);
	check_memory(w);
	/* It lives at the destination now, and gets its pages back there. */
	assert_int_equal(w->count[AT_DONE], 0);
	world_delete(w);
}

static void test_no_hinting_asked_for(void **state)
{
	struct world *w = world_new(script_hints);

	write_run(w, 90, 200, 1);
	world_move(w);
	assert_int_equal(w->count[AT_START], 0);
	assert_int_equal(w->count[AT_DRAIN], 0);
	assert_int_equal(w->status.pages_sent, 200);
	assert_int_equal(w->status.pages_hinted, 0);
	check_memory(w);
	world_delete(w);
}

static void test_guest_that_cannot_report(void **state)
{
	struct world *w = hinting_world(NULL);

	w->cannot_report = true;
	write_run(w, 90, 20, 1);
	world_move(w);
	assert_int_equal(w->count[AT_START], 1);
	assert_int_equal(w->count[AT_WAIT], 0);
	assert_int_equal(w->status.pages_sent, 20);
	check_memory(w);
	world_delete(w);
}

static void test_guest_without_a_balloon(void **state)
{
	struct world *w = hinting_world(NULL);

	w->source.free_pages = NULL;
	write_run(w, 90, 20, 1);
	world_move(w);
	check_memory(w);
	world_delete(w);
}

/* A hint of a page that does not exist, of all there is, of one never in RAM
 * that the balloon would have refused anyway. */
static void script_hint_all(struct world *w, enum moment moment,
			    unsigned int nth)
{
	if (moment == AT_WAIT) {
		hint_run(w, 0, LOW_PAGES);
		hint_run(w, HIGH_FIRST, HIGH_PAGES);
		w->progress.state = FREE_PAGE_COMPLETE;
	}
}

static void test_everything_hinted(void **state)
{
	struct world *w = hinting_world(script_hint_all);

	write_run(w, 10, 30, 1);
	world_move(w);
	assert_int_equal(w->status.bytes_sent, bare_stream_bytes());
	assert_int_equal(w->status.pages_hinted, 30);
	assert_int_equal(w->status.pages_absent, RAM_PAGES - 30);
	world_delete(w);
}

/* R1, R29: the guest takes a page back and writes it at every moment around
 * the hint; each must arrive. Page 100 + i is written at moment i. */
static void write_around(struct world *w, unsigned int i)
{
	guest_write(w, 100 + i, 5000 + i);
}

/* The hint of a page that the guest has written since it queued it. */
static void late_hint(struct world *w, uint64_t page)
{
	assert_true(w->matters[page]);
	page_set_add(w->hinted, (struct page_run){ page, 1 });
}

static void around(struct world *w, enum moment moment, unsigned int nth,
		   bool complete)
{
	switch (moment) {
	case AT_START: /* written before anything was hinted */
		write_around(w, 0);
		break;
	case AT_WAIT:
		if (nth == 0) {
			w->progress.state = FREE_PAGE_ACCEPTING;
			hint_run(w, 101, 9);
			late_hint(w, 100); /* R29 */
			write_around(w, 1); /* R1 */
		} else if (nth == 1) {
			write_around(w, 2);
			w->progress.hints++;
		} else {
			w->progress.state = complete ? FREE_PAGE_COMPLETE :
						       FREE_PAGE_NONE;
		}
		break;
	case AT_DRAIN:
		if (!w->hinted)
			break;
		write_around(w, 3);
		write_around(w, 4);
		late_hint(w, 4 + 100); /* popped after it was written */
		break;
	case AT_SYNC:
		if (nth == 0) /* between drain and sync: R3 */
			write_around(w, 5);
		break;
	case AT_SYNCED:
		if (nth == 0)
			write_around(w, 6);
		break;
	case AT_STOP:
		write_around(w, 7);
		break;
	case AT_SAVE:
		write_around(w, 8);
		break;
	default:
		break;
	}
}

static void script_around(struct world *w, enum moment moment,
			  unsigned int nth)
{
	around(w, moment, nth, true);
}

static void script_around_beside(struct world *w, enum moment moment,
				 unsigned int nth)
{
	around(w, moment, nth, false);
}

static void check_around(void (*script)(struct world *w, enum moment moment,
					unsigned int nth))
{
	struct world *w = hinting_world(script);
	unsigned int i;

	write_run(w, 95, 20, 1);
	w->source.options.verify = true;
	world_move(w);
	for (i = 0; i < 9; i++)
		assert_true(page_filled(vm_page(&w->there, 100 + i),
					5000 + i));
	/* The one that stayed free. */
	assert_int_equal(w->status.pages_hinted, 1);
	assert_false(vm_exists(&w->there, 109));
	check_memory(w);
	world_delete(w);
}

static void test_hinted_pages_that_are_written(void **state)
{
	check_around(script_around);
}

static void test_hinted_pages_that_are_written_beside_a_round(void **state)
{
	check_around(script_around_beside);
}

static void script_init_on_alloc(struct world *w, enum moment moment,
				 unsigned int nth)
{
	if (moment == AT_WAIT) {
		hint_run(w, 100, 10);
		w->progress.state = FREE_PAGE_COMPLETE;
	}
	if (moment == AT_SYNC && nth == 0)
		write_run(w, 100, 10, 0); /* cleared when it is taken */
	if (moment == AT_SYNC && nth == 1)
		write_run(w, 100, 2, 55);
}

/* R28: a hinted page comes back as a zero page and costs nothing. */
static void test_hinted_pages_come_back_zero(void **state)
{
	struct world *w = hinting_world(script_init_on_alloc);

	write_run(w, 100, 10, 1);
	world_move(w);
	assert_int_equal(w->status.bytes_sent,
			 bare_stream_bytes() + DATA_BYTES(1, 2));
	assert_int_equal(w->status.pages_hinted, 0);
	check_memory(w);
	world_delete(w);
}

static void script_late(struct world *w, enum moment moment, unsigned int nth)
{
	if (moment == AT_WAIT) {
		hint_run(w, 100, 10);
		w->progress.state = FREE_PAGE_NONE; /* no need to wait */
	}
	/* Round 1 is over; the last hints come now. */
	if (moment == AT_DRAIN && w->hinted)
		hint_run(w, 108, 10);
}

static void test_hints_that_come_late(void **state)
{
	struct world *w = hinting_world(script_late);

	write_run(w, 90, 50, 1);
	w->source.options.verify = true;
	world_move(w);
	assert_int_equal(w->status.hints_late, 8);
	assert_int_equal(w->status.hints_received, 20);
	assert_int_equal(w->status.pages_hinted, 10);
	assert_int_equal(w->status.pages_sent, 40);
	check_memory(w);
	world_delete(w);
}

/* A guest that is asked and does not answer holds nothing up for long. */
static void test_guest_that_never_answers(void **state)
{
	struct world *w = hinting_world(NULL);

	write_run(w, 90, 10, 1);
	world_move(w);
	assert_in_range(w->status.report_ms, 1900, 8000);
	assert_int_equal(w->status.pages_sent, 10);
	assert_int_equal(w->status.pages_hinted, 0);
	check_memory(w);
	world_delete(w);
}

static void script_stall(struct world *w, enum moment moment, unsigned int nth)
{
	if (moment == AT_WAIT && nth < 5) {
		w->progress.state = FREE_PAGE_ACCEPTING;
		guest_hint(w, 90 + nth);
	}
}

static void test_guest_that_stalls(void **state)
{
	struct world *w = hinting_world(script_stall);

	write_run(w, 90, 10, 1);
	world_move(w);
	assert_in_range(w->status.report_ms, 1900, 8000);
	assert_int_equal(w->status.pages_hinted, 5);
	assert_int_equal(w->status.pages_sent, 5);
	check_memory(w);
	world_delete(w);
}

/* A guest with init_on_alloc: it zeroes what it then hints. */
static void script_zeroing(struct world *w, enum moment moment,
			   unsigned int nth)
{
	if (moment == AT_WAIT && nth == 0) {
		w->progress.state = FREE_PAGE_ACCEPTING;
		write_run(w, 100, 600, 0);
		hint_run(w, 100, 600);
		w->progress.sample = (struct page_run){ 100, 600 };
	} else if (moment == AT_WAIT && nth == 1) {
		/* The log is off: what is written now is in no log. */
		assert_false(w->armed);
		guest_write(w, 50, 5000);
		guest_write(w, 150, 5001);
		guest_write(w, HIGH_FIRST + 9, 5002);
		write_run(w, 700, 100, 0);
		hint_run(w, 700, 100);
	} else if (moment == AT_WAIT) {
		w->progress.state = w->own ? FREE_PAGE_NONE :
					     FREE_PAGE_COMPLETE;
	}
	if (moment == AT_DRAIN && w->hinted)
		guest_write(w, 710, 5003);
	if (moment == AT_ARM && nth == 1)
		guest_write(w, 711, 5004);
	if (moment == AT_ARMED && nth == 1) {
		guest_write(w, 712, 5005);
		guest_write(w, 51, 5006);
	}
}

static void test_guest_that_zeroes_what_it_hints(void **state)
{
	int beside;

	for (beside = 0; beside < 2; beside++) {
		struct world *w = hinting_world(script_zeroing);

		w->own = beside ? w : NULL;
		w->source.options.verify = true;
		write_run(w, 40, 20, 1);
		world_move(w);
		assert_int_equal(w->count[AT_ARM], 2);
		assert_int_equal(w->count[AT_DISARM], 1);
		assert_int_equal(w->status.pages_hinted, 0);
		assert_int_equal(w->status.hints_received, 700);
		assert_true(page_filled(vm_page(&w->there, 50), 5000));
		assert_true(page_filled(vm_page(&w->there, 150), 5001));
		assert_true(page_filled(vm_page(&w->there, 51), 5006));
		/* Free and zero: not a byte. */
		assert_true(w->status.pages_sent < 20 + 10);
		check_memory(w);
		world_delete(w);
	}
}

static void script_not_zeroing(struct world *w, enum moment moment,
			       unsigned int nth)
{
	if (moment != AT_WAIT)
		return;
	w->progress.state = FREE_PAGE_ACCEPTING;
	hint_run(w, 100, 600);
	w->progress.sample = (struct page_run){ 100, 600 };
	w->progress.state = FREE_PAGE_COMPLETE;
}

/* One page of the sample has a byte in it, or does not exist. */
static void test_guest_that_does_not_zero(void **state)
{
	int absent;

	for (absent = 0; absent < 2; absent++) {
		struct world *w = hinting_world(script_not_zeroing);

		write_run(w, 100, 600, 0);
		if (absent)
			guest_discard(w, 650);
		else
			((uint8_t *)vm_page(&w->here, 650))[77] = 7;
		world_move(w);
		assert_int_equal(w->count[AT_ARM], 1);
		assert_int_equal(w->status.pages_hinted, 600 - absent);
		check_memory(w);
		world_delete(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hinted_pages_stay_behind),
		cmocka_unit_test(test_no_hinting_asked_for),
		cmocka_unit_test(test_guest_that_cannot_report),
		cmocka_unit_test(test_guest_without_a_balloon),
		cmocka_unit_test(test_everything_hinted),
		cmocka_unit_test(test_hinted_pages_that_are_written),
		cmocka_unit_test(
			test_hinted_pages_that_are_written_beside_a_round),
		cmocka_unit_test(test_hinted_pages_come_back_zero),
		cmocka_unit_test(test_hints_that_come_late),
		cmocka_unit_test(test_guest_that_never_answers),
		cmocka_unit_test(test_guest_that_stalls),
		cmocka_unit_test(test_guest_that_zeroes_what_it_hints),
		cmocka_unit_test(test_guest_that_does_not_zero),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
