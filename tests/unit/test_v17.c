// SPDX-License-Identifier: MIT
/*
 * The v17 protocol, device half: features and registers, what a driver may do
 * to them, START, ids, and drivers that keep to no rule. docs/spec/v17.md
 * section 2, W-1 to W-4.
 */
#include "v17_fixture.h"

/*
 * Features and registers (section 2)
 */

static void test_what_is_offered(void **state)
{
	assert_int_equal(balloon_features(&fx.balloon), HINT | V17);
	assert_int_equal(balloon_config_size(&fx.balloon), 84);
	assert_int_equal(BALLOON_F_V17, 57);
	assert_ptr_equal(balloon_protocol_find("v17"), &balloon_protocol_v17);
	assert_null(balloon_protocol_find("v1"));
	assert_null(balloon_protocol_find("v170"));
}

static void test_off_unless_asked_for(void **state)
{
	static const struct balloon_protocol *const others[] = {
		&balloon_protocol_standard, &balloon_protocol_command_register,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(others); i++) {
		fx_teardown(NULL);
		init(others[i]);
		fx_activate(HINT);
		assert_int_equal(balloon_features(&fx.balloon) & V17, 0);
		assert_true(balloon_config_size(&fx.balloon) <= 72);
		assert_int_equal(write_bytes(BALLOON_V17_GUEST2HOST_CMD, STOP,
					     4),
				 BALLOON_WROTE_NOTHING);
		assert_int_equal(bits(), 0);
	}
}

static void test_what_a_driver_must_take_along(void **state)
{
	assert_true(balloon_accepts(&fx.balloon, FEATURES));
	assert_true(balloon_accepts(&fx.balloon, FEATURES | STATS | EVENT_IDX));
	assert_false(balloon_accepts(&fx.balloon, V17));
	assert_false(balloon_accepts(&fx.balloon, V17 | VERSION_1));
	assert_false(balloon_accepts(&fx.balloon, V17 | HINT));
	assert_true(balloon_accepts(&fx.balloon, 0));
	assert_true(balloon_accepts(&fx.balloon, HINT));
}

/* Bytes 16 to 71 are not ours, and guest2host_cmd reads as 0. */
static void test_what_reads_as_zero(void **state)
{
	uint32_t offset;

	ask();
	balloon_set_target(&fx.balloon, 5);
	acknowledge(START);
	for (offset = 16; offset < 96; offset += 4)
		assert_int_equal(
			fx_register(offset),
			offset == BALLOON_V17_HOST2GUEST_CMD   ? BALLOONING :
			offset == BALLOON_V17_FREE_PAGE_CMD_ID ? id() : 0);
}

static void test_the_standard_register_reads_done_for_ever(void **state)
{
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
	accept_report();
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
	balloon_report_done(&fx.balloon);
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
	fx_migrate();
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
}

static void test_a_stock_driver_gets_the_standard_protocol(void **state)
{
	balloon_reset(&fx.balloon);
	fx_activate(VERSION_1 | HINT);
	balloon_set_target(&fx.balloon, 7);
	ask();
	assert_int_equal(fx_cmd_id(), id());
	fx_command(id());
	/* The register exists and has nothing to say. */
	acknowledge(STOP);
	assert_int_equal(now(), REPORT_ACCEPTING);
	fx_hint(HIGH, PAGE);
	fx_command(VIRTIO_BALLOON_CMD_ID_STOP);
	assert_int_equal(now(), REPORT_COMPLETE);
	assert_int_equal(counters()->hints, 1);
	fx_migrate();
	balloon_report_done(&fx.balloon);
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
	assert_int_equal(bits(), 0);
	assert_int_equal(published_id(), 0);
}

/*
 * W-1, W-2: requests, and what a driver may do to them
 */

static void test_w1_register_and_bit_come_before_the_interrupt(void **state)
{
	balloon_set_target(&fx.balloon, 5);
	assert_int_equal(fx.config_changes, 1);
	assert_int_equal(seen.bits, BALLOONING);
	assert_int_equal(seen.num_pages, 5);
	acknowledge(BALLOONING);

	ask();
	assert_int_equal(fx.config_changes, 2);
	assert_int_equal(seen.bits, START);
	assert_int_equal(seen.id, id());
	acknowledge(START);

	balloon_report_close(&fx.balloon);
	assert_int_equal(fx.config_changes, 3);
	assert_int_equal(seen.bits, STOP);
}

static void test_w1_nothing_before_driver_ok(void **state)
{
	fx_teardown(NULL);
	init(&balloon_protocol_v17);
	balloon_set_target(&fx.balloon, 5);
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), -1);
	assert_int_equal(bits(), 0);
	assert_int_equal(fx.config_changes, 0);
	/* The target is told with DRIVER_OK. */
	fx_activate(FEATURES);
	assert_int_equal(bits(), BALLOONING);
	assert_int_equal(seen.num_pages, 5);
}

static void test_w1_nothing_to_a_broken_device(void **state)
{
	accept_report();
	fx.ring[BALLOON_FREE_PAGE].avail->idx = 999;
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(fx.breaks, 1);
	fx.config_changes = 0;
	balloon_set_target(&fx.balloon, 5);
	acknowledge(STOP);
	assert_int_equal(now(), REPORT_ACCEPTING);
	balloon_report_done(&fx.balloon);
	assert_int_equal(bits(), 0);
	assert_int_equal(fx.config_changes, 0);
}

/* The queue breaks the device as START empties it. */
static void test_w1_nothing_when_start_breaks_the_device(void **state)
{
	fx.ring[BALLOON_FREE_PAGE].avail->idx = 999;
	ask();
	assert_int_equal(fx.breaks, 1);
	assert_int_equal(bits(), 0);
	assert_int_equal(fx.config_changes, 0);
}

static void test_w2_only_aligned_words_act(void **state)
{
	uint32_t offset, length;

	accept_report();
	balloon_set_target(&fx.balloon, 5);
	for (offset = 16; offset < 96; offset++)
		for (length = 1; length <= 8; length++)
			if (offset != BALLOON_V17_GUEST2HOST_CMD || length != 4)
				assert_int_equal(write_bytes(offset, UINT64_MAX,
							     length),
						 BALLOON_WROTE_NOTHING);
	balloon_acknowledged(&fx.balloon);
	assert_int_equal(bits(), BALLOONING);
	assert_int_equal(published_id(), id());
	assert_int_equal(now(), REPORT_ACCEPTING);
}

static void test_w2_clears_what_is_written_and_no_more(void **state)
{
	ask();
	balloon_set_target(&fx.balloon, 5);
	balloon_report_close(&fx.balloon);
	assert_int_equal(bits(), BALLOONING | START | STOP);
	fx.config_changes = 0;
	acknowledge(START);
	assert_int_equal(bits(), BALLOONING | STOP);
	acknowledge(0);
	assert_int_equal(bits(), BALLOONING | STOP);
	acknowledge(~STOP);
	assert_int_equal(bits(), STOP);
	acknowledge(UINT32_MAX);
	assert_int_equal(bits(), 0);
	assert_int_equal(fx.config_changes, 0);
}

static void test_w2_a_driver_cannot_request(void **state)
{
	acknowledge(UINT32_MAX);
	acknowledge(START);
	assert_int_equal(bits(), 0);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(fx.config_changes, 0);
	assert_int_equal(fx.report_changes, 0);
}

/*
 * W-3: START is made at once
 */

static void test_w3_start_takes_a_pending_stop_back(void **state)
{
	accept_report();
	balloon_set_target(&fx.balloon, 5);
	balloon_report_close(&fx.balloon);
	assert_int_equal(bits(), BALLOONING | STOP);
	ask();
	assert_int_equal(bits(), BALLOONING | START);
	balloon_report_close(&fx.balloon);
	assert_int_equal(bits(), BALLOONING | START | STOP);
	ask();
	assert_int_equal(bits(), BALLOONING | START);
	assert_int_equal(published_id(), id());
}

/* Of the report before, and the device thread has not heard of it. */
static void test_w3_start_forgets_a_stop_that_was_written_before(void **state)
{
	accept_report();
	balloon_report_close(&fx.balloon);
	write_command(STOP);
	ask();
	balloon_acknowledged(&fx.balloon);
	assert_int_equal(now(), REPORT_REQUESTED);
	fx_command(id());
	fx_hint(HIGH, PAGE);
	assert_int_equal(counters()->hints, 1);
}

/* What the protocol cannot tell. It costs hints, and no page. */
static void test_w3_a_late_stop_ends_the_next_report(void **state)
{
	accept_report();
	balloon_report_close(&fx.balloon);
	ask();
	acknowledge(STOP);
	assert_int_equal(now(), REPORT_COMPLETE);
	acknowledge(START);
	fx_command(id());
	fx_hint(HIGH, PAGE);
	assert_int_equal(counters()->uncounted, 1);
	assert_true(page_set_is_empty(&fx.hinted));
}

/* R4, with a driver that keeps all its ids in one word. */
static void test_w3_an_id_that_changes_in_the_queue(void **state)
{
	struct vring_segment word;
	uint8_t raw[4];

	start_report();
	le32_store(raw, id());
	word = (struct vring_segment){ fx_bytes(raw, sizeof(raw)), 4 };
	fx_add(BALLOON_FREE_PAGE, &word, 1, 0);
	fx_send_hint(HIGH, PAGE);
	acknowledge(STOP);
	balloon_report_close(&fx.balloon);
	start_report();
	le32_store(ram(&fx.memory, word.address, 4), id());
	fx_add(BALLOON_FREE_PAGE, &word, 1, 0);
	fx_send_hint(0, 2 * PAGE);
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(now(), REPORT_ACCEPTING);
	assert_int_equal(page_set_count(&fx.hinted), 2);
	assert_false(page_set_contains(&fx.hinted, HIGH / PAGE));
}

static void test_w4_ids_are_new_and_survive(void **state)
{
	uint32_t last;

	start_report();
	last = published_id();
	assert_true(last >= 2);
	balloon_report_close(&fx.balloon);
	balloon_reset(&fx.balloon);
	fx_activate(FEATURES);
	start_report();
	assert_int_equal(published_id(), last + 1);
	fx_migrate();
	assert_int_equal(published_id(), last + 1);
	start_report();
	assert_int_equal(published_id(), last + 2);
}

/*
 * A driver that keeps to nothing: what it can reach is its own loss. A page
 * that counts was handed over for the id that was asked for, or the report
 * ended before; a request is pending until it writes that bit.
 */

static struct {
	uint32_t pending;
	bool open, counts;
	uint64_t pages;
} model;

static void hostile_write(struct rng *rng)
{
	static const uint32_t at[] = { 0, 4, 8, 12, 64, 68, 72, 76, 80, 81 };
	uint32_t offset = at[rng_below(rng, ARRAY_SIZE(at))];
	uint32_t value = (uint32_t)rng_next(rng) &
			 (rng_chance(rng, 1, 2) ? 7 : UINT32_MAX);
	uint32_t length = rng_chance(rng, 3, 4) ? 4 : 1 + rng_below(rng, 8);

	write_bytes(offset, value, length);
	if (offset != BALLOON_V17_GUEST2HOST_CMD || length != 4)
		return;
	model.pending &= ~value;
	if (value & STOP)
		model.open = false;
}

static void hostile_hear(struct rng *rng)
{
	balloon_acknowledged(&fx.balloon);
	if (!model.open)
		model.counts = false;
}

static void hostile_queue(struct rng *rng)
{
	uint32_t word = id() + (uint32_t)rng_below(rng, 3) - 1;

	fx.next_buffer = BUFFERS;
	switch (rng_below(rng, 3)) {
	case 0:
		fx_command(word);
		if (model.counts)
			model.counts = model.open = false;
		else if (now() == REPORT_ACCEPTING)
			model.counts = true;
		break;
	case 1:
		fx_command((uint32_t)rng_below(rng, 3));
		if (model.counts)
			model.counts = model.open = false;
		break;
	default:
		model.pages += model.counts;
		fx_hint(HIGH + model.pages * PAGE, PAGE);
	}
	assert_int_equal(now() == REPORT_ACCEPTING, model.counts);
}

static void hostile_host(struct rng *rng)
{
	uint32_t target = 1 + (uint32_t)rng_below(rng, 100);

	switch (rng_below(rng, 4)) {
	case 0:
		if (fx.balloon.report.hinted)
			return;
		ask();
		model.pending = (model.pending & ~STOP) | START;
		model.open = true;
		model.pages = 0;
		break;
	case 1:
		if (now() == REPORT_REQUESTED || now() == REPORT_ACCEPTING)
			model.pending |= STOP;
		balloon_report_close(&fx.balloon);
		model.open = model.counts = false;
		break;
	default:
		if (target != fx_register(0))
			model.pending |= BALLOONING;
		balloon_set_target(&fx.balloon, target);
	}
}

static void test_hostile_drivers(void **state)
{
	struct rng rng = rng_start("v17, hostile drivers");
	uint64_t counted = 0;
	int run, step;

	for (run = 0; run < 300; run++) {
		begin_anew();
		page_set_clear(&fx.hinted);
		memset(&model, 0, sizeof(model));
		model.pending = bits();
		for (step = 0; step < 300; step++) {
			switch (rng_below(&rng, 4)) {
			case 0:
				hostile_write(&rng);
				break;
			case 1:
				hostile_hear(&rng);
				break;
			case 2:
				hostile_queue(&rng);
				break;
			default:
				hostile_host(&rng);
			}
			assert_int_equal(bits(), model.pending);
			assert_int_equal(fx.breaks, 0);
			assert_int_equal(page_set_count(&fx.hinted),
					 model.pages);
		}
		balloon_report_close(&fx.balloon);
		counted += model.pages;
	}
	assert_true(counted);
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_what_is_offered),
		UNIT(test_off_unless_asked_for),
		UNIT(test_what_a_driver_must_take_along),
		UNIT(test_what_reads_as_zero),
		UNIT(test_the_standard_register_reads_done_for_ever),
		UNIT(test_a_stock_driver_gets_the_standard_protocol),
		UNIT(test_w1_register_and_bit_come_before_the_interrupt),
		UNIT(test_w1_nothing_before_driver_ok),
		UNIT(test_w1_nothing_to_a_broken_device),
		UNIT(test_w1_nothing_when_start_breaks_the_device),
		UNIT(test_w2_only_aligned_words_act),
		UNIT(test_w2_clears_what_is_written_and_no_more),
		UNIT(test_w2_a_driver_cannot_request),
		UNIT(test_w3_start_takes_a_pending_stop_back),
		UNIT(test_w3_start_forgets_a_stop_that_was_written_before),
		UNIT(test_w3_a_late_stop_ends_the_next_report),
		UNIT(test_w3_an_id_that_changes_in_the_queue),
		UNIT(test_w4_ids_are_new_and_survive),
		UNIT(test_hostile_drivers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
