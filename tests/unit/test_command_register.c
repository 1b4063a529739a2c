// SPDX-License-Identifier: MIT
/*
 * The command-register protocol, device half: features and registers, what the
 * driver may do to them, when a START is raised, ids. docs/spec/
 * command-register.md section 2, D-1 to D-4.
 */
#include "command_fixture.h"

#include <pthread.h>
#include <sched.h>

/*
 * Features and registers (section 2)
 */

static void test_what_is_offered(void **state)
{
	assert_int_equal(balloon_features(&fx.balloon), HINT | COMMAND);
	assert_int_equal(balloon_config_size(&fx.balloon), 72);
	assert_int_equal(BALLOON_F_COMMAND_REGISTER, 56);
	assert_ptr_equal(balloon_protocol_find("command-register"),
			 &balloon_protocol_command_register);
	assert_ptr_equal(balloon_protocol_find("standard"),
			 &balloon_protocol_standard);
	assert_null(balloon_protocol_find("command"));
	assert_null(balloon_protocol_find("command-register2"));
	assert_null(balloon_protocol_find(""));
}

static void test_off_unless_asked_for(void **state)
{
	fx_teardown(NULL);
	fx_init(fx_options());
	fx_activate(HINT);
	assert_int_equal(balloon_features(&fx.balloon) & COMMAND, 0);
	assert_int_equal(balloon_config_size(&fx.balloon), 12);
	assert_int_equal(write_bytes(BALLOON_CMD_REG, 1, 4),
			 BALLOON_WROTE_NOTHING);
	assert_int_equal(bits(), 0);
}

static void test_what_a_driver_must_take_along(void **state)
{
	assert_true(balloon_accepts(&fx.balloon, FEATURES));
	assert_true(balloon_accepts(&fx.balloon, FEATURES | STATS | EVENT_IDX));
	assert_false(balloon_accepts(&fx.balloon, COMMAND));
	assert_false(balloon_accepts(&fx.balloon, COMMAND | VERSION_1));
	assert_false(balloon_accepts(&fx.balloon, COMMAND | HINT));
	assert_true(balloon_accepts(&fx.balloon, 0));
	assert_true(balloon_accepts(&fx.balloon, HINT));
	assert_true(balloon_accepts(&fx.balloon, VERSION_1));
}

static void test_the_standard_register_reads_done_for_ever(void **state)
{
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
	accept_report();
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
	balloon_report_close(&fx.balloon);
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
	balloon_report_done(&fx.balloon);
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
	fx_migrate();
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
}

/* A driver of VIRTIO 1.3 that does not know the bit. */
static void test_a_stock_driver_gets_the_standard_protocol(void **state)
{
	balloon_reset(&fx.balloon);
	fx_activate(VERSION_1 | HINT);
	balloon_set_target(&fx.balloon, 7);
	ask();
	assert_int_equal(fx_cmd_id(), id());
	fx_command(id());
	fx_hint(HIGH, PAGE);
	fx_command(SIGN);
	assert_int_equal(now(), REPORT_COMPLETE);
	assert_int_equal(counters()->hints, 1);
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_STOP);
	/* A start does not wait for a sign. */
	ask();
	balloon_report_close(&fx.balloon);
	ask();
	assert_int_equal(fx_cmd_id(), id());
	fx_migrate();
	balloon_report_done(&fx.balloon);
	assert_int_equal(fx_cmd_id(), VIRTIO_BALLOON_CMD_ID_DONE);
	assert_int_equal(bits(), 0);
	assert_int_equal(cmd_id_reg(), 0);
}

/*
 * D-1: registers, bit, interrupt; only under DRIVER_OK
 */

static void test_d1_register_and_bit_come_before_the_interrupt(void **state)
{
	balloon_set_target(&fx.balloon, 5);
	assert_int_equal(fx.config_changes, 1);
	assert_int_equal(seen.cmd_reg, BALLOONING);
	assert_int_equal(seen.num_pages, 5);
	acknowledge(BALLOONING);

	ask();
	assert_int_equal(fx.config_changes, 2);
	assert_int_equal(seen.cmd_reg, START);
	assert_int_equal(seen.cmd_id_reg, id());
	acknowledge(START);

	balloon_report_close(&fx.balloon);
	assert_int_equal(fx.config_changes, 3);
	assert_int_equal(seen.cmd_reg, STOP);
	acknowledge(STOP);

	balloon_report_done(&fx.balloon);
	assert_int_equal(fx.config_changes, 4);
	assert_int_equal(seen.cmd_reg, DONE);
}

static void test_d1_requests_of_all_kinds_stand_side_by_side(void **state)
{
	ask();
	balloon_set_target(&fx.balloon, 5);
	balloon_report_done(&fx.balloon);
	assert_int_equal(bits(), BALLOONING | START | STOP | DONE);
}

static void test_d1_nothing_before_driver_ok(void **state)
{
	fx_teardown(NULL);
	init(0);
	fx.balloon.report.id = 9;
	balloon_set_target(&fx.balloon, 5);
	balloon_report_done(&fx.balloon);
	assert_int_equal(balloon_report_start(&fx.balloon, &fx.hinted), -1);
	assert_int_equal(bits(), 0);
	assert_int_equal(fx.config_changes, 0);
	/* The target is told with DRIVER_OK. */
	fx_activate(FEATURES);
	assert_int_equal(bits(), BALLOONING);
	assert_int_equal(fx.config_changes, 1);
	assert_int_equal(seen.num_pages, 5);
}

static void test_d1_nothing_to_a_broken_device(void **state)
{
	accept_report();
	fx.ring[BALLOON_FREE_PAGE].avail->idx = 999;
	fx_serve(BALLOON_FREE_PAGE);
	assert_int_equal(fx.breaks, 1);
	fx.config_changes = 0;
	balloon_set_target(&fx.balloon, 5);
	balloon_report_close(&fx.balloon);
	balloon_report_done(&fx.balloon);
	assert_int_equal(bits(), 0);
	assert_int_equal(fx.config_changes, 0);
}

static void test_d1_a_second_target_before_the_acknowledgement(void **state)
{
	balloon_set_target(&fx.balloon, 5);
	balloon_set_target(&fx.balloon, 6);
	assert_int_equal(bits(), BALLOONING);
	acknowledge(BALLOONING);
	assert_int_equal(fx_register(0), 6);
	balloon_set_target(&fx.balloon, 7);
	assert_int_equal(bits(), BALLOONING);
}

/* A vCPU beside the device thread: a driver's handler, run after run. */
static struct {
	_Atomic bool ended;
	_Atomic uint64_t runs;
	_Atomic uint32_t starts, target, id; /* handled; as read last */
} vcpu;

static void *run_vcpu(void *argument)
{
	uint32_t pending;

	while (!vcpu.ended) {
		pending = bits();
		if (pending)
			write_bytes(BALLOON_CMD_REG, pending, 4);
		else
			sched_yield();
		if (pending & BALLOONING)
			vcpu.target = fx_register(0);
		if (pending & START) {
			vcpu.id = cmd_id_reg();
			vcpu.starts++;
		}
		vcpu.runs++;
	}
	return NULL;
}

/* What is asked for now is handled by a run that begins after this. */
static void wait_for_two_runs(void)
{
	uint64_t until = vcpu.runs + 2;

	while (vcpu.runs < until)
		sched_yield();
}

static void retarget(void)
{
	static unsigned int times;

	balloon_set_target(&fx.balloon, fx_register(0) + 1);
	/* On a single CPU the other thread's turn would come late; more often,
	 * and the two would hardly meet where there are two. */
	if (++times % 1024 == 0)
		sched_yield();
}

/* Requests are made while acknowledgements are written: a START among balloon
 * requests, and balloon requests around the acknowledgement of START. */
static void one_round(uint32_t round)
{
	uint64_t until = vcpu.runs + 3;

	do
		retarget();
	while (vcpu.runs < until);
	ask();
	do
		retarget();
	while (bits() & START);
	wait_for_two_runs();
	assert_int_equal(bits(), 0);
	assert_int_equal(vcpu.starts, round);
	assert_int_equal(vcpu.id, id());
	assert_int_equal(vcpu.target, fx_register(0));
	fx.next_buffer = BUFFERS;
	fx_command(SIGN);
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
}

static void test_d1_each_request_is_seen_once_between_threads(void **state)
{
	pthread_t thread;
	uint32_t round;

	memset(&vcpu, 0, sizeof(vcpu));
	fx.balloon.ops = &fx_ops;
	assert_int_equal(pthread_create(&thread, NULL, run_vcpu, NULL), 0);
	for (round = 1; round <= 20000; round++)
		one_round(round);
	vcpu.ended = true;
	pthread_join(thread, NULL);
}

/*
 * D-2: what the driver may do to cmd_reg
 */

static void test_d2_only_aligned_words_act(void **state)
{
	uint32_t offset, length;

	raise_all();
	for (offset = BALLOON_CMD_REG - 8; offset < 80; offset++)
		for (length = 1; length <= 8; length++)
			if (offset != BALLOON_CMD_REG || length != 4)
				assert_int_equal(write_bytes(offset, UINT64_MAX,
							     length),
						 BALLOON_WROTE_NOTHING);
	assert_int_equal(bits(), BALLOONING | START | STOP | DONE);
	assert_int_equal(cmd_id_reg(), id());
}

static void test_d2_clears_what_is_written_and_no_more(void **state)
{
	raise_all();
	acknowledge(START);
	assert_int_equal(bits(), BALLOONING | STOP | DONE);
	acknowledge(0);
	assert_int_equal(bits(), BALLOONING | STOP | DONE);
	acknowledge(BALLOONING | DONE);
	assert_int_equal(bits(), STOP);
	acknowledge(UINT32_MAX);
	assert_int_equal(bits(), 0);
	assert_int_equal(fx.config_changes, 0);
}

static void test_d2_a_driver_cannot_command(void **state)
{
	acknowledge(UINT32_MAX);
	acknowledge(START);
	assert_int_equal(bits(), 0);
	assert_int_equal(now(), REPORT_IDLE);
	assert_int_equal(fx.config_changes, 0);
	assert_int_equal(fx.report_changes, 0);
}

/*
 * D-3: when START is raised
 */

static void test_d3_start_waits_for_the_sign(void **state)
{
	uint32_t first;

	leave_sign_due();
	first = id();
	fx.config_changes = 0;
	ask();
	assert_int_equal(id(), first + 1);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_int_equal(bits(), 0);
	assert_int_equal(cmd_id_reg(), first);
	assert_int_equal(fx.config_changes, 0);
	fx_command(SIGN);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_int_equal(bits(), START);
	assert_int_equal(cmd_id_reg(), first + 1);
	assert_int_equal(fx.config_changes, 1);
	fx_command(id());
	assert_int_equal(now(), REPORT_ACCEPTING);
}

/* The driver knows of it, and it is answered, but not acknowledged. */
static void test_d3_start_waits_for_acknowledgements(void **state)
{
	static const uint32_t each[] = { START, STOP, DONE };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(each); i++) {
		balloon_reset(&fx.balloon);
		fx_activate(FEATURES);
		ask();
		balloon_report_done(&fx.balloon);
		acknowledge((START | STOP | DONE) & ~each[i]);
		fx_command(SIGN);
		assert_int_equal(bits(), each[i]);
		assert_false(fx.balloon.report.sign_due);

		ask();
		assert_true(fx.balloon.report.deferred);
		assert_int_equal(bits(), each[i]);
		assert_int_equal(cmd_id_reg(), id() - 1);
		acknowledge(BALLOONING);
		assert_int_equal(cmd_id_reg(), id() - 1);
		acknowledge(each[i]);
		assert_int_equal(bits(), START);
		assert_int_equal(cmd_id_reg(), id());
		assert_int_equal(seen.cmd_reg, START);
	}
}

static void test_d3_start_waits_for_both(void **state)
{
	accept_report();
	balloon_report_done(&fx.balloon);
	ask();
	acknowledge(STOP | DONE);
	assert_int_equal(bits(), 0);
	fx_command(SIGN);
	assert_int_equal(bits(), START);
}

static void test_d3_a_balloon_request_does_not_hold_it_up(void **state)
{
	balloon_set_target(&fx.balloon, 5);
	ask();
	assert_int_equal(bits(), BALLOONING | START);
}

static void test_d3_a_waiting_start_is_dropped(void **state)
{
	static void (*const drop[])(struct balloon *balloon) = {
		balloon_report_close, balloon_pause, balloon_report_done,
		balloon_reset,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(drop); i++) {
		balloon_reset(&fx.balloon);
		fx_activate(FEATURES);
		leave_sign_due();
		ask();
		drop[i](&fx.balloon);
		assert_int_equal(bits() & (START | STOP), 0);
		acknowledge(UINT32_MAX);
		if (fx.balloon.running)
			fx_command(SIGN);
		assert_int_equal(bits(), 0);
		assert_int_not_equal(cmd_id_reg(), id());
	}
}

static void test_d3_dropped_with_nothing_due_leaves_it_idle(void **state)
{
	ask();
	balloon_report_done(&fx.balloon);
	fx_command(SIGN);
	ask();
	assert_true(fx.balloon.report.deferred);
	balloon_report_close(&fx.balloon);
	assert_int_equal(now(), REPORT_IDLE);
}

/* A driver that guesses the id, which it was not told. */
static void test_d3_a_waiting_report_does_not_open(void **state)
{
	leave_sign_due();
	ask();
	fx_command(id());
	fx_hint(HIGH, PAGE);
	assert_int_equal(now(), REPORT_REQUESTED);
	assert_true(page_set_is_empty(&fx.hinted));
	assert_int_equal(counters()->uncounted, 1);
}

static void test_d3_stop_while_idle_does_nothing(void **state)
{
	balloon_report_close(&fx.balloon);
	balloon_pause(&fx.balloon);
	accept_report();
	fx_command(SIGN);
	fx.config_changes = 0;
	balloon_report_close(&fx.balloon);
	balloon_report_close(&fx.balloon);
	balloon_pause(&fx.balloon);
	assert_int_equal(bits(), 0);
	assert_int_equal(fx.config_changes, 0);
}

static void test_d3_one_stop_a_start(void **state)
{
	accept_report();
	balloon_pause(&fx.balloon);
	assert_int_equal(bits(), STOP);
	acknowledge(STOP);
	balloon_report_close(&fx.balloon);
	assert_int_equal(bits(), 0);
	balloon_report_done(&fx.balloon);
	assert_int_equal(bits(), DONE);
	/* And the next one gets its own. */
	acknowledge(DONE);
	fx_command(SIGN);
	accept_report();
	balloon_report_close(&fx.balloon);
	assert_int_equal(bits(), STOP);
}

/*
 * D-4: ids
 */

static void test_d4_ids_are_new_and_at_least_two(void **state)
{
	static const uint32_t before[] = {
		0, 1, 2, UINT32_MAX - 1, UINT32_MAX,
	};
	uint32_t last, first;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(before); i++) {
		fx.balloon.report.id = before[i];
		start_report();
		first = cmd_id_reg();
		assert_true(first >= 2 && first != before[i]);
		fx_command(SIGN);
		balloon_report_close(&fx.balloon);
	}
	for (last = first, i = 0; i < 100; i++, last = first) {
		start_report();
		first = cmd_id_reg();
		assert_true(first > last);
		fx_command(SIGN);
		balloon_report_close(&fx.balloon);
	}
}

static void test_d4_a_dropped_start_uses_up_its_id(void **state)
{
	uint32_t dropped;

	leave_sign_due();
	ask();
	dropped = id();
	balloon_report_close(&fx.balloon);
	fx_command(SIGN);
	start_report();
	assert_int_equal(cmd_id_reg(), dropped + 1);
}

static void test_d4_the_count_survives_reset_and_migration(void **state)
{
	uint32_t last;

	start_report();
	last = cmd_id_reg();
	balloon_reset(&fx.balloon);
	fx_activate(FEATURES);
	start_report();
	assert_int_equal(cmd_id_reg(), last + 1);
	fx_migrate();
	fx_command(SIGN);
	start_report();
	assert_int_equal(cmd_id_reg(), last + 2);
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_what_is_offered),
		UNIT(test_off_unless_asked_for),
		UNIT(test_what_a_driver_must_take_along),
		UNIT(test_the_standard_register_reads_done_for_ever),
		UNIT(test_a_stock_driver_gets_the_standard_protocol),
		UNIT(test_d1_register_and_bit_come_before_the_interrupt),
		UNIT(test_d1_requests_of_all_kinds_stand_side_by_side),
		UNIT(test_d1_nothing_before_driver_ok),
		UNIT(test_d1_nothing_to_a_broken_device),
		UNIT(test_d1_a_second_target_before_the_acknowledgement),
		UNIT(test_d1_each_request_is_seen_once_between_threads),
		UNIT(test_d2_only_aligned_words_act),
		UNIT(test_d2_clears_what_is_written_and_no_more),
		UNIT(test_d2_a_driver_cannot_command),
		UNIT(test_d3_start_waits_for_the_sign),
		UNIT(test_d3_start_waits_for_acknowledgements),
		UNIT(test_d3_start_waits_for_both),
		UNIT(test_d3_a_balloon_request_does_not_hold_it_up),
		UNIT(test_d3_a_waiting_start_is_dropped),
		UNIT(test_d3_dropped_with_nothing_due_leaves_it_idle),
		UNIT(test_d3_a_waiting_report_does_not_open),
		UNIT(test_d3_stop_while_idle_does_nothing),
		UNIT(test_d3_one_stop_a_start),
		UNIT(test_d4_ids_are_new_and_at_least_two),
		UNIT(test_d4_a_dropped_start_uses_up_its_id),
		UNIT(test_d4_the_count_survives_reset_and_migration),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
