// SPDX-License-Identifier: MIT
/*
 * The free page report, device half, standard protocol: every transition, and
 * the hazards (R) and statements (V, D) of docs/spec by number.
 */
#include "balloon_fixture.h"

#define STOP VIRTIO_BALLOON_CMD_ID_STOP
#define DONE VIRTIO_BALLOON_CMD_ID_DONE
#define BLOCK (4 * MiB)

static uint32_t id(void)
{
	return fx.balloon.report.id;
}

static enum report_state now(void)
{
	return fx.balloon.report.state;
}

static const struct report_counters *counters(void)
{
	return &fx.balloon.report.counters;
}

static void start_report(void)
{
	page_set_clear(&fx.hinted);
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), 0);
}

static void accept_report(void)
{
	start_report();
	fx_command(id());
	assert_int_equal(now(), REPORT_ACCEPTING);
}

/*
 * Every event in every state
 */

enum event {
	START,
	SAME_ID,  /* out-buffer with the id of the last start */
	OTHER_ID, /* out-buffer with one that is none */
	SIGN,	  /* out-buffer with STOP */
	HINT_EVENT,
	CLOSE,
	DONE_EVENT,
	RESET,
	EVENTS,
};

static const char *const event_name[EVENTS] = {
	"start", "same id", "other id", "sign",
	"hint",	 "close",   "done",	"reset",
};

/* Of each state: where each event leads. */
static const enum report_state leads_to[REPORT_STATES][EVENTS] = {
	[REPORT_IDLE] = {
		REPORT_REQUESTED, REPORT_IDLE, REPORT_IDLE, REPORT_IDLE,
		REPORT_IDLE, REPORT_IDLE, REPORT_DONE, REPORT_IDLE,
	},
	[REPORT_REQUESTED] = {
		REPORT_REQUESTED, REPORT_ACCEPTING, REPORT_REQUESTED,
		REPORT_REQUESTED, REPORT_REQUESTED, REPORT_CLOSED,
		REPORT_DONE, REPORT_IDLE,
	},
	[REPORT_ACCEPTING] = {
		REPORT_ACCEPTING, REPORT_COMPLETE, REPORT_COMPLETE,
		REPORT_COMPLETE, REPORT_ACCEPTING, REPORT_CLOSED, REPORT_DONE,
		REPORT_IDLE,
	},
	[REPORT_COMPLETE] = {
		REPORT_COMPLETE, REPORT_COMPLETE, REPORT_COMPLETE,
		REPORT_COMPLETE, REPORT_COMPLETE, REPORT_IDLE, REPORT_DONE,
		REPORT_IDLE,
	},
	[REPORT_CLOSED] = {
		REPORT_REQUESTED, REPORT_CLOSED, REPORT_CLOSED, REPORT_IDLE,
		REPORT_CLOSED, REPORT_CLOSED, REPORT_DONE, REPORT_IDLE,
	},
	[REPORT_DONE] = {
		REPORT_REQUESTED, REPORT_DONE, REPORT_DONE, REPORT_DONE,
		REPORT_DONE, REPORT_DONE, REPORT_DONE, REPORT_IDLE,
	},
};

/* Of each state: configuration interrupts of start, close and done. */
static const unsigned int interrupts[REPORT_STATES][3] = {
	[REPORT_IDLE] = { 1, 0, 1 },	  [REPORT_REQUESTED] = { 0, 1, 2 },
	[REPORT_ACCEPTING] = { 0, 1, 2 }, [REPORT_COMPLETE] = { 0, 1, 2 },
	[REPORT_CLOSED] = { 1, 0, 1 },	  [REPORT_DONE] = { 1, 0, 0 },
};

static bool is_open(enum report_state state)
{
	return state == REPORT_REQUESTED || state == REPORT_ACCEPTING ||
	       state == REPORT_COMPLETE;
}

/* Every state but one behind a report that was begun. */
static void reach(enum report_state state)
{
	start_report();
	if (state == REPORT_REQUESTED)
		return;
	fx_command(id());
	if (state == REPORT_COMPLETE || state == REPORT_IDLE)
		fx_command(STOP);
	if (state == REPORT_CLOSED || state == REPORT_IDLE)
		balloon_report_close(&fx.balloon);
	if (state == REPORT_DONE)
		balloon_report_done(&fx.balloon);
	assert_int_equal(now(), state);
}

static void cause(enum event event, enum report_state from)
{
	switch (event) {
	case START:
		assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted),
				 is_open(from) ? -1 : 0);
		break;
	case SAME_ID:
		fx_command(id());
		break;
	case OTHER_ID:
		fx_command(id() - 1);
		break;
	case SIGN:
		fx_command(STOP);
		break;
	case HINT_EVENT:
		fx_hint(HIGH, PAGE);
		break;
	case CLOSE:
		balloon_report_close(&fx.balloon);
		break;
	case DONE_EVENT:
		balloon_report_done(&fx.balloon);
		break;
	case RESET:
		balloon_reset(&fx.balloon);
		break;
	case EVENTS:
		break;
	}
}

static uint32_t register_of(enum report_state state)
{
	return state == REPORT_DONE ? DONE : is_open(state) ? id() : STOP;
}

static void check_transition(enum report_state from, enum event event)
{
	enum report_state to = leads_to[from][event];
	unsigned int changes;
	bool counted = from == REPORT_ACCEPTING && event == HINT_EVENT;

	reach(from);
	fx.config_changes = 0;
	fx.report_changes = 0;
	cause(event, from);
	if (now() != to)
		fail_msg("%s in %s leads to %s", event_name[event],
			 report_state_name(from), report_state_name(now()));

	assert_int_equal(fx_cmd_id(), register_of(to));
	changes = event == START	? interrupts[from][0]
		  : event == CLOSE	? interrupts[from][1]
		  : event == DONE_EVENT ? interrupts[from][2]
					: 0;
	assert_int_equal(fx.config_changes, changes);
	assert_int_equal(fx.report_changes != 0, from != to);
	if (from != to)
		assert_int_equal(fx.last_change, to);
	assert_int_equal(counters()->hints, counted);
	assert_int_equal(counters()->uncounted,
			 event == HINT_EVENT && !counted);
	assert_int_equal(page_set_count(&fx.hinted), counted);
	assert_int_equal(fx.balloon.report.hinted != NULL, is_open(to));
	assert_int_equal(fx.breaks, 0);
}

/* R19: the set is ours between start and close, and at no other time. */
static void test_every_event_in_every_state(void **state)
{
	unsigned int from, event;

	for (from = 0; from < REPORT_STATES; from++) {
		for (event = 0; event < EVENTS; event++) {
			balloon_reset(&fx.balloon);
			fx.next_buffer = BUFFERS;
			fx_activate(HINT);
			check_transition(from, event);
		}
	}
}

static void test_nothing_to_close_or_finish(void **state)
{
	/* No report was ever asked for. */
	balloon_report_close(&fx.balloon);
	balloon_report_done(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(fx_cmd_id(), STOP);
	assert_int_equal(fx.config_changes, 0);
	assert_int_equal(fx.report_changes, 0);
}

static void test_no_report_before_activation(void **state)
{
	balloon_reset(&fx.balloon);
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), -1);
	assert_int_equal(fx.balloon.report.id, 0);
}

/*
 * Ids
 */

static void test_ids_are_new_and_never_a_reserved_word(void **state)
{
	static const uint32_t before[] = { 0, 1, 2, UINT32_MAX, 0x80000000 };
	static const uint32_t after[] = {
		0x80000000, 0x80000000, 0x80000000, 0x80000000, 0x80000001,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(before); i++) {
		fx.balloon.report.id = before[i];
		start_report();
		assert_int_equal(id(), after[i]);
		assert_int_equal(fx_cmd_id(), after[i]);
		balloon_report_close(&fx.balloon);
	}
}

/* R4: the id travels in the queue, so hints of the last report that are still
 * in it do not count for this one. */
static void test_R4_stale_hints_do_not_count(void **state)
{
	accept_report();
	fx_send_hint(HIGH, BLOCK);
	balloon_report_close(&fx.balloon);
	start_report();
	fx_send_command(STOP);
	fx_send_command(id());
	fx_send_hint(0, 2 * PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_ACCEPTING);
	assert_int_equal(page_set_count(&fx.hinted), 2);
	assert_true(page_set_contains(&fx.hinted, 0));
	assert_int_equal(counters()->uncounted, 1);
	assert_int_equal(counters()->hints, 1);
}

/* R4: a driver may keep all its ids in one word, so that an old id in the queue
 * reads as the new one once that is written. The queue is emptied before it can
 * know the new one. */
static void test_R4_an_id_that_changes_in_the_queue(void **state)
{
	struct vring_segment word;
	uint8_t raw[4];

	start_report();
	le32_store(raw, id());
	word = (struct vring_segment){ fx_bytes(raw, sizeof(raw)), 4 };
	fx_add(BALLOON_FREE_PAGE, &word, 1, 0);
	fx_send_hint(HIGH, BLOCK);
	fx_send_command(STOP);
	/* The guest takes the block back and writes it; the report is over
	 * before any of this is looked at. */
	balloon_report_close(&fx.balloon);
	start_report();
	le32_store(ram(&fx.memory, word.address, 4), id());
	fx_add(BALLOON_FREE_PAGE, &word, 1, 0);
	fx_send_hint(0, 2 * PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_ACCEPTING);
	assert_false(page_set_contains(&fx.hinted, HIGH / PAGE));
	assert_int_equal(page_set_count(&fx.hinted), 2);
}

/* R5: a late sign belongs to the report before. */
static void test_R5_crossing_stop_signs(void **state)
{
	accept_report();
	balloon_report_close(&fx.balloon);
	start_report();
	fx_command(STOP);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_int_equal(fx_cmd_id(), id());
	fx_command(id());
	assert_int_equal(now(), REPORT_ACCEPTING);
}

static void test_R5_sign_and_stop_cross(void **state)
{
	accept_report();
	fx_send_command(STOP); /* on its way when the host closes */
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_CLOSED);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_IDLE);
}

/* R6, D26: the id once more opens nothing and ends the report. */
static void test_R6_same_id_twice(void **state)
{
	accept_report();
	fx_hint(HIGH, PAGE);
	fx_send_command(id());
	fx_send_hint(HIGH + PAGE, PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_COMPLETE);
	assert_int_equal(page_set_count(&fx.hinted), 1);
}

/* R7: a guest cannot open a report again by replaying its id. */
static void test_R7_replay_after_the_sign(void **state)
{
	accept_report();
	fx_command(STOP);
	fx_command(id());
	fx_hint(HIGH, PAGE);
	assert_int_equal(now(), REPORT_COMPLETE);
	balloon_report_close(&fx.balloon);
	fx_command(id());
	fx_hint(HIGH, PAGE);
	assert_int_equal(now(), REPORT_IDLE);
	assert_true(page_set_is_empty(&fx.hinted));
	assert_int_equal(counters()->uncounted, 2);
}

static void test_R7_old_id_for_a_new_request(void **state)
{
	accept_report();
	balloon_report_close(&fx.balloon);
	start_report();
	fx_command(id() - 1);
	fx_hint(HIGH, PAGE);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_true(page_set_is_empty(&fx.hinted));
}

/* R15: reset drops the hints of the report that was under way. */
static void test_R15_reset_drops_hints(void **state)
{
	accept_report();
	fx_hint(HIGH, BLOCK);
	assert_int_equal(page_set_count(&fx.hinted), BLOCK / PAGE);
	balloon_reset(&fx.balloon);
	assert_true(page_set_is_empty(&fx.hinted));
	assert_int_equal(now(), REPORT_IDLE);
	/* The host comes to close it later. */
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(fx_cmd_id(), STOP);
}

static void test_R15_reset_leaves_a_closed_set_alone(void **state)
{
	accept_report();
	fx_hint(HIGH, BLOCK);
	balloon_report_close(&fx.balloon);
	balloon_reset(&fx.balloon);
	assert_int_equal(page_set_count(&fx.hinted), BLOCK / PAGE);
}

/* R29: what is popped after the close does not count. */
static void test_R29_hints_popped_after_close(void **state)
{
	accept_report();
	fx_send_hint(HIGH, BLOCK);
	fx_send_command(STOP);
	balloon_report_close(&fx.balloon);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
	assert_true(page_set_is_empty(&fx.hinted));
	assert_int_equal(counters()->uncounted, 1);
	assert_int_equal(now(), REPORT_IDLE);
}

static void test_id_and_hints_popped_after_close(void **state)
{
	start_report();
	fx_send_command(id());
	fx_send_hint(HIGH, BLOCK);
	balloon_report_close(&fx.balloon);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
	assert_true(page_set_is_empty(&fx.hinted));
	assert_int_equal(now(), REPORT_CLOSED);
}

/*
 * What the register says
 */

/* V6: STOP stands there once hints are of no use, whatever the guest sent. */
static void test_V6_stop_after_the_guest_has_finished(void **state)
{
	accept_report();
	fx_command(STOP);
	assert_int_equal(fx_cmd_id(), id());
	balloon_report_close(&fx.balloon);
	assert_int_equal(fx_cmd_id(), STOP);
}

/* V7: an id is not used again. */
static void test_V7_no_id_is_used_twice(void **state)
{
	uint32_t last = 0;
	int i;

	for (i = 0; i < 100; i++) {
		start_report();
		assert_true(id() > last);
		last = id();
		if (i % 2)
			balloon_report_close(&fx.balloon);
		else
			balloon_report_done(&fx.balloon);
	}
}

/* V8: pages behind another id do not count... */
static void test_V8_pages_of_another_id(void **state)
{
	accept_report();
	fx_hint(HIGH, PAGE);
	fx_send_command(id() + 1);
	fx_send_hint(0, PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(page_set_count(&fx.hinted), 1);
	assert_int_equal(counters()->uncounted, 1);
}

/* ...and the register shows the id as long as they do: a resize in between
 * makes a driver read it again. */
static void test_V8_register_shows_the_active_id(void **state)
{
	start_report();
	balloon_set_target(&fx.balloon, 5);
	assert_int_equal(fx_cmd_id(), id());
	fx_command(id());
	balloon_set_target(&fx.balloon, 6);
	assert_int_equal(fx_cmd_id(), id());
	fx_hint(HIGH, PAGE);
	assert_int_equal(fx_cmd_id(), id());
}

/* V10, V11: nothing counts after DONE, and DONE is shown. */
static void test_V10_V11_done(void **state)
{
	accept_report();
	fx_send_hint(HIGH, PAGE);
	balloon_report_done(&fx.balloon);
	assert_int_equal(fx_cmd_id(), DONE);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 1);
	assert_true(page_set_is_empty(&fx.hinted));
	fx_command(STOP);
	assert_int_equal(now(), REPORT_DONE);
	assert_int_equal(fx_cmd_id(), DONE);
}

/* R13: DONE also when every report was closed long ago. */
static void test_R13_done_after_the_last_sign(void **state)
{
	accept_report();
	fx_command(STOP);
	balloon_report_close(&fx.balloon);
	fx.config_changes = 0;
	balloon_report_done(&fx.balloon);
	assert_int_equal(fx_cmd_id(), DONE);
	assert_int_equal(fx.config_changes, 1);
	balloon_report_done(&fx.balloon);
	assert_int_equal(fx.config_changes, 1);
}

/*
 * Commands
 */

/* D24: exactly 4 readable bytes. */
static void test_D24_commands_of_another_size(void **state)
{
	uint8_t bytes[8];
	uint32_t length;

	start_report();
	le32_store(bytes, id());
	for (length = 1; length <= 8; length++) {
		if (length == 4)
			continue;
		fx_send(BALLOON_FREE_PAGE, bytes, length);
		assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 1);
	}
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_int_equal(counters()->malformed, 7);
	assert_int_equal(fx.breaks, 0);
}

static void test_command_in_pieces(void **state)
{
	struct vring_segment segment[2];
	uint8_t bytes[4];
	uint64_t at;

	start_report();
	le32_store(bytes, id());
	at = fx_bytes(bytes, 4);
	segment[0] = (struct vring_segment){ at, 1 };
	segment[1] = (struct vring_segment){ at + 1, 3 };
	fx_add(BALLOON_FREE_PAGE, segment, 2, 0);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_ACCEPTING);
}

static void test_command_with_pages_behind_it(void **state)
{
	struct vring_segment segment[2];
	uint8_t bytes[4];

	start_report();
	le32_store(bytes, id());
	segment[0] = (struct vring_segment){ fx_bytes(bytes, 4), 4 };
	segment[1] = (struct vring_segment){ HIGH, PAGE };
	fx_add(BALLOON_FREE_PAGE, segment, 1, 1);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 1);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_int_equal(counters()->malformed, 1);
	assert_true(page_set_is_empty(&fx.hinted));
}

static void test_command_outside_ram(void **state)
{
	const struct vring_segment segment = { LOW_END, 4 };

	accept_report();
	fx_add(BALLOON_FREE_PAGE, &segment, 1, 0);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 1);
	assert_int_equal(counters()->malformed, 1);
	assert_int_equal(now(), REPORT_ACCEPTING);
}

/*
 * Which pages a hint names
 */

struct shape {
	uint64_t start;
	uint32_t length;
	uint64_t first, count; /* expected; count 0: rejected */
};

static void check_shape(const struct shape *shape)
{
	struct page_run run = { shape->first, shape->count };

	accept_report();
	fx_hint(shape->start, shape->length);
	assert_int_equal(page_set_count(&fx.hinted), shape->count);
	assert_int_equal(page_set_count_in(&fx.hinted, run), shape->count);
	assert_int_equal(counters()->hints, 1);
	assert_int_equal(counters()->hinted_pages, shape->count);
	assert_int_equal(counters()->rejected, shape->count == 0);
	balloon_report_close(&fx.balloon);
}

/* R21: rounded inwards to whole pages, clipped to RAM. */
static void test_R21_rounding_and_clipping(void **state)
{
	static const struct shape shapes[] = {
		{ 0, PAGE, 0, 1 },
		{ 0, BLOCK, 0, BLOCK / PAGE },
		{ 1, PAGE, 0, 0 },
		{ 0, PAGE - 1, 0, 0 },
		{ PAGE - 1, PAGE + 1, 1, 1 },
		{ PAGE - 1, 2 * PAGE, 1, 1 },
		{ 1, 2 * PAGE, 1, 1 },
		{ 100, 3 * PAGE, 1, 2 },
		{ PAGE + 1, PAGE - 2, 0, 0 },
		{ LOW_END - PAGE, 2 * PAGE, LOW_END / PAGE - 1, 1 },
		{ LOW_END - PAGE, PAGE - 1, 0, 0 },
		{ LOW_END - 1, PAGE, 0, 0 },
		{ LOW_END, PAGE, 0, 0 },
		{ HIGH - PAGE, PAGE, 0, 0 },
		{ HIGH - PAGE, 2 * PAGE, HIGH / PAGE, 1 },
		{ HIGH - 1, PAGE + 1, HIGH / PAGE, 1 },
		{ HIGH - 1, PAGE, 0, 0 },
		/* over two regions that touch */
		{ HIGH_MIDDLE - PAGE, 2 * PAGE, HIGH_MIDDLE / PAGE - 1, 2 },
		{ HIGH_END - PAGE, UINT32_MAX, HIGH_END / PAGE - 1, 1 },
		{ HIGH_END, UINT32_MAX, 0, 0 },
		/* around the end of the address space */
		{ UINT64_MAX, PAGE, 0, 0 },
		{ UINT64_MAX - PAGE + 1, PAGE, 0, 0 },
		{ UINT64_MAX - PAGE + 1, 4 * PAGE, 0, 0 },
		{ UINT64_MAX - 2 * PAGE, BLOCK, 0, 0 },
		{ 1ull << 63, UINT32_MAX, 0, 0 },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(shapes); i++)
		check_shape(&shapes[i]);
}

/* Low RAM, hole, high RAM: one hint over all of it. */
static void test_hint_over_a_hole(void **state)
{
	accept_report();
	fx_hint(LOW_END - 2 * PAGE - 5, (uint32_t)(HIGH - LOW_END + 4 * PAGE));
	assert_int_equal(page_set_count(&fx.hinted), 2 + 1);
	assert_true(page_set_contains(&fx.hinted, LOW_END / PAGE - 2));
	assert_true(page_set_contains(&fx.hinted, LOW_END / PAGE - 1));
	assert_true(page_set_contains(&fx.hinted, HIGH / PAGE));
	assert_int_equal(counters()->rejected, 0);
}

static void test_hint_of_everything(void **state)
{
	accept_report();
	fx_hint(0, UINT32_MAX);
	assert_int_equal(page_set_count(&fx.hinted), fx.memory.size / PAGE);
	assert_int_equal(counters()->hinted_pages, fx.memory.size / PAGE);
}

static void test_hint_of_many_segments(void **state)
{
	const struct vring_segment segment[] = {
		{ HIGH, PAGE },	      { LOW_END, PAGE },
		{ 5 * PAGE, 7 },      { 7 * PAGE, 2 * PAGE },
		{ HIGH, 3 * PAGE },
	};

	accept_report();
	fx_add(BALLOON_FREE_PAGE, segment, 0, 5);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 1);
	assert_int_equal(page_set_count(&fx.hinted), 5);
	assert_int_equal(counters()->hints, 1);
	assert_int_equal(counters()->hinted_pages, 5);
	assert_int_equal(counters()->rejected, 0);
}

static void test_a_page_hinted_twice_counts_once(void **state)
{
	accept_report();
	fx_hint(HIGH, 2 * PAGE);
	fx_hint(HIGH, 2 * PAGE);
	assert_int_equal(counters()->hints, 2);
	assert_int_equal(counters()->hinted_pages, 2);
	assert_int_equal(counters()->rejected, 0);
}

static void test_counters_are_of_the_last_start(void **state)
{
	accept_report();
	fx_hint(HIGH, PAGE);
	fx_hint(LOW_END, PAGE);
	balloon_report_close(&fx.balloon);
	assert_int_equal(counters()->hints, 2);
	start_report();
	assert_int_equal(counters()->hints, 0);
	assert_int_equal(counters()->rejected, 0);
	assert_int_equal(counters()->hinted_pages, 0);
}

/* R2: a hint adds to the set and to nothing else. */
static void test_R2_hints_write_no_guest_memory(void **state)
{
	uint64_t ring = RING_AT(BALLOON_FREE_PAGE);
	uint64_t page;

	accept_report();
	fx_send_hint(HIGH, BLOCK);
	page_set_clear(&fx.memory.written);
	fx_serve(BALLOON_FREE_PAGE);
	for (page = 0; page < fx.memory.frames; page++)
		assert_int_equal(page_set_contains(&fx.memory.written, page),
				 page == ring / PAGE);
	assert_int_equal(fx.discards, 0);
	assert_int_equal(fx.returns, 0);
}

static void test_one_interrupt_per_drain_and_only_when_wanted(void **state)
{
	struct vring_driver *ring = &fx.ring[BALLOON_FREE_PAGE];
	int i;

	accept_report();
	fx.interrupts[BALLOON_FREE_PAGE] = 0;
	for (i = 0; i < 5; i++)
		fx_send_hint(HIGH, PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(fx.interrupts[BALLOON_FREE_PAGE], 1);
	vring_driver_disable_interrupts(ring);
	fx_send_hint(HIGH, PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(fx.interrupts[BALLOON_FREE_PAGE], 1);
	assert_int_equal(fx_reap(BALLOON_FREE_PAGE), 6);
}

/* A ring of indirect tables whose every entry names 4 GiB. */
#define LONG_RING 256
#define TABLE (BUFFERS + 0x10000)

static void lay_out_long_ring(struct vring_driver *ring)
{
	uint64_t at = RING_AT(BALLOON_FREE_PAGE);

	balloon_reset(&fx.balloon);
	fx_lay_out(HINT);
	vring_driver_init(ring, LONG_RING,
			  ram(&fx.memory, at, vring_driver_bytes(LONG_RING)),
			  HINT);
	fx.layout[2] = (struct virtqueue_layout){
		.size = LONG_RING,
		.desc = { at },
		.avail = { at + vring_driver_avail_offset(LONG_RING) },
		.used = { at + vring_driver_used_offset(LONG_RING) },
	};
	balloon_activate(&fx.balloon, HINT, fx.layout, NULL, BALLOON_QUEUES);
}

/* While the host lingers the guest need not kick; and it does so between hints,
 * at no other time. */
static void test_lingering_between_hints(void **state)
{
	struct vring_driver *ring = &fx.ring[BALLOON_FREE_PAGE];

	start_report();
	fx.linger = true;
	fx_send_command(id());
	assert_true(vring_driver_needs_kick(ring));
	assert_true(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	fx_send_hint(0x200000, 0x10000);
	assert_false(vring_driver_needs_kick(ring));
	assert_true(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	assert_int_equal(counters()->hints, 1);
	assert_int_equal(fx.lingers, 2);
	fx.linger = false;
	assert_false(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	assert_int_equal(fx.lingers, 3);
	fx_send_hint(0x210000, 0x10000);
	assert_true(vring_driver_needs_kick(ring));
	/* The report is over: no more hints are waited for. */
	fx.linger = true;
	fx_send_command(STOP);
	assert_false(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	assert_int_equal(fx.lingers, 3);
	assert_int_equal(fx.balloon.report.state, REPORT_COMPLETE);
}

static void test_hints_are_served_in_bounded_pieces(void **state)
{
	struct vring_driver *ring = &fx.ring[BALLOON_FREE_PAGE];
	static struct vring_segment all[LONG_RING];
	unsigned int i, first;

	lay_out_long_ring(ring);
	start_report();
	fx_send_command(id());
	for (i = 0; i < LONG_RING; i++)
		all[i] = (struct vring_segment){ 0, UINT32_MAX };
	for (i = 0; i < 60; i++)
		vring_driver_add_indirect(
			ring, all, 0, LONG_RING, 0,
			ram(&fx.memory, TABLE, 16 * LONG_RING), TABLE);
	assert_true(balloon_serve(&fx.balloon, BALLOON_FREE_PAGE));
	first = fx_reap(BALLOON_FREE_PAGE);
	assert_in_range(first, 2, 59);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(fx_reap(BALLOON_FREE_PAGE), 61 - first);
	assert_int_equal(counters()->hinted_pages, fx.memory.size / PAGE);
}

/* The host reacts from within the callback. */
static const struct balloon_host_ops *plain_ops;

static void close_when_complete(void *host, enum report_state state)
{
	plain_ops->report_changed(host, state);
	if (state == REPORT_COMPLETE)
		balloon_report_close(&fx.balloon);
}

static void test_closing_from_the_callback(void **state)
{
	struct balloon_host_ops ops = fx_ops;

	plain_ops = &fx_ops;
	ops.report_changed = close_when_complete;
	fx.balloon.ops = &ops;
	accept_report();
	fx_send_command(STOP);
	fx_send_hint(HIGH, PAGE);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(fx_cmd_id(), STOP);
	assert_int_equal(counters()->uncounted, 1);
	fx.balloon.ops = &fx_ops;
}

static bool is_ram(uint64_t page)
{
	struct gpa start = { page * PAGE };

	return guest_memory_span(&fx.memory, start, PAGE) != NULL;
}

/* Hints against a byte per page. */
static void test_hints_against_model(void **state)
{
	struct rng rng = rng_start("report hints");
	static uint8_t model[HIGH_END / PAGE];
	static const uint64_t near[] = {
		0, LOW_END, HIGH, HIGH_MIDDLE, HIGH_END,
	};
	uint64_t start, page, length;
	int i, round;

	for (round = 0; round < 50; round++) {
		accept_report();
		memset(model, 0, sizeof(model));
		for (i = 0; i < 8; i++) {
			start = near[rng_below(&rng, ARRAY_SIZE(near))] +
				rng_below(&rng, 64 * PAGE) - 32 * PAGE;
			length = 1 + rng_below(&rng, 1ull << rng_below(&rng,
								       24));
			fx_hint(start, (uint32_t)length);
			for (page = 0; page < ARRAY_SIZE(model); page++)
				if (is_ram(page) && page * PAGE >= start &&
				    (page + 1) * PAGE <= start + length)
					model[page] = 1;
		}
		for (page = 0; page < ARRAY_SIZE(model); page++)
			assert_int_equal(page_set_contains(&fx.hinted, page),
					 model[page]);
		balloon_report_close(&fx.balloon);
	}
}

/*
 * Over a migration (D-9)
 */

static void migrate(void)
{
	struct virtqueue_state queue[BALLOON_QUEUES] = { { 0, 0 } };
	struct balloon_state saved;
	struct page_set scratch = fx.balloon.run_pages;
	int i;

	balloon_save(&fx.balloon, &saved);
	for (i = 0; i < BALLOON_QUEUES; i++)
		if (balloon_queue_number(&fx.balloon, i) >= 0)
			queue[balloon_queue_number(&fx.balloon, i)] =
				virtqueue_save(&fx.balloon.queue[i]);
	balloon_init(&fx.balloon, fx_options(), &fx.memory, scratch, &fx_ops,
		     &fx);
	assert_int_equal(balloon_load(&fx.balloon, &saved), 0);
	balloon_activate(&fx.balloon, HINT, fx.layout, queue, BALLOON_QUEUES);
}

/* R16, R29: whoever pauses the guest may go on at any later time, and what
 * the guest wrote by then is not compared with hints of before. */
static void test_a_pause_completes_the_report(void **state)
{
	accept_report();
	fx_hint(HIGH, 4 * PAGE);
	balloon_pause(&fx.balloon);
	assert_int_equal(now(), REPORT_COMPLETE);
	assert_int_equal(fx_cmd_id(), STOP);
	fx_hint(HIGH + 8 * PAGE, 4 * PAGE);
	assert_int_equal(counters()->uncounted, 1);
	assert_int_equal(page_set_count(&fx.hinted), 4);
	/* What came before it still counts: it is the host's to drain. */
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
}

static void test_a_pause_without_a_report_is_nothing(void **state)
{
	balloon_pause(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
	accept_report();
	balloon_report_close(&fx.balloon);
	fx.config_changes = 0;
	balloon_pause(&fx.balloon);
	assert_int_equal(now(), REPORT_CLOSED);
	assert_int_equal(fx.config_changes, 0);
}

static void test_leftovers_on_the_destination_do_not_count(void **state)
{
	uint32_t last;

	accept_report();
	last = id();
	fx_send_hint(HIGH, BLOCK);
	fx_send_command(STOP);
	migrate();
	assert_int_equal(now(), REPORT_CLOSED);
	assert_int_equal(fx_cmd_id(), last);
	fx.config_changes = 0;
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
	assert_int_equal(counters()->uncounted, 1);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(fx_cmd_id(), last);

	balloon_report_done(&fx.balloon);
	assert_int_equal(fx_cmd_id(), DONE);
	assert_int_equal(fx.config_changes, 1);
	start_report();
	assert_int_equal(id(), last + 1);
}

static void test_requested_on_the_source(void **state)
{
	start_report();
	fx_send_command(id());
	fx_send_hint(HIGH, BLOCK);
	migrate();
	assert_int_equal(now(), REPORT_CLOSED);
	assert_int_equal(fx_serve_and_reap(BALLOON_FREE_PAGE), 2);
	assert_int_equal(now(), REPORT_CLOSED);
	assert_int_equal(counters()->hints, 0);
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_every_event_in_every_state),
		UNIT(test_nothing_to_close_or_finish),
		UNIT(test_no_report_before_activation),
		UNIT(test_ids_are_new_and_never_a_reserved_word),
		UNIT(test_R2_hints_write_no_guest_memory),
		UNIT(test_R4_stale_hints_do_not_count),
		UNIT(test_R4_an_id_that_changes_in_the_queue),
		UNIT(test_R5_crossing_stop_signs),
		UNIT(test_R5_sign_and_stop_cross),
		UNIT(test_R6_same_id_twice),
		UNIT(test_R7_replay_after_the_sign),
		UNIT(test_R7_old_id_for_a_new_request),
		UNIT(test_R13_done_after_the_last_sign),
		UNIT(test_R15_reset_drops_hints),
		UNIT(test_R15_reset_leaves_a_closed_set_alone),
		UNIT(test_R21_rounding_and_clipping),
		UNIT(test_R29_hints_popped_after_close),
		UNIT(test_id_and_hints_popped_after_close),
		UNIT(test_V6_stop_after_the_guest_has_finished),
		UNIT(test_V7_no_id_is_used_twice),
		UNIT(test_V8_pages_of_another_id),
		UNIT(test_V8_register_shows_the_active_id),
		UNIT(test_V10_V11_done),
		UNIT(test_D24_commands_of_another_size),
		UNIT(test_command_in_pieces),
		UNIT(test_command_with_pages_behind_it),
		UNIT(test_command_outside_ram),
		UNIT(test_hint_over_a_hole),
		UNIT(test_hint_of_everything),
		UNIT(test_hint_of_many_segments),
		UNIT(test_a_page_hinted_twice_counts_once),
		UNIT(test_counters_are_of_the_last_start),
		UNIT(test_one_interrupt_per_drain_and_only_when_wanted),
		UNIT(test_lingering_between_hints),
		UNIT(test_hints_are_served_in_bounded_pieces),
		UNIT(test_closing_from_the_callback),
		UNIT(test_hints_against_model),
		UNIT(test_a_pause_completes_the_report),
		UNIT(test_a_pause_without_a_report_is_nothing),
		UNIT(test_leftovers_on_the_destination_do_not_count),
		UNIT(test_requested_on_the_source),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
