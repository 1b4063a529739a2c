// SPDX-License-Identifier: MIT
/*
 * The command-register protocol, driver half by itself: what it is told, and
 * what it must do. docs/spec/command-register.md, G-1 to G-8.
 */
#include "unit.h"

#include <linux/virtio_balloon.h>

#include "balloon/command_driver.h"
#include "base/endian.h"

#define BALLOONING BALLOON_CMD_BALLOONING
#define START BALLOON_CMD_REPORT_START
#define STOP BALLOON_CMD_REPORT_STOP
#define DONE BALLOON_CMD_REPORT_DONE
#define UNKNOWN (1u << 4 | 1u << 31)

#define NUM_PAGES offsetof(struct virtio_balloon_config, num_pages)
#define ID 0x80000000u

static struct command_driver one;

struct access {
	enum command_access access;
	uint32_t offset, value;
};

static struct access accesses[8];
static unsigned int accesses_made;

/* One access of the handler on registers that stand still. */
static bool handle_step(uint32_t *value, uint32_t cmd_reg, uint32_t cmd_id,
			uint32_t num_pages)
{
	struct access *a = &accesses[accesses_made];

	a->access = command_driver_handle(&one, &a->offset, value);
	a->value = *value;
	if (a->access == COMMAND_ACCESS_END)
		return false;
	accesses_made++;
	assert_true(accesses_made < ARRAY_SIZE(accesses));
	if (a->access == COMMAND_ACCESS_READ)
		*value = a->offset == BALLOON_CMD_REG	     ? cmd_reg
			 : a->offset == BALLOON_CMD_ID_REG ? cmd_id
			 : a->offset == NUM_PAGES	     ? num_pages
							     : 0xeeeeeeee;
	return true;
}

static void handle_with(uint32_t cmd_reg, uint32_t cmd_id, uint32_t num_pages)
{
	uint32_t value = 0xdddddddd;

	accesses_made = 0;
	while (handle_step(&value, cmd_reg, cmd_id, num_pages))
		;
}

static void handle(uint32_t cmd_reg)
{
	handle_with(cmd_reg, ID, 0);
}

static void handle_start(uint32_t id)
{
	handle_with(START, id, 0);
}

static void assert_access(unsigned int n, enum command_access access,
			  uint32_t offset)
{
	assert_true(n < accesses_made);
	assert_int_equal(accesses[n].access, access);
	assert_int_equal(accesses[n].offset, offset);
}

#define assert_step(step) \
	assert_int_equal(command_driver_next(&one, 16), REPORT_STEP_##step)

static void assert_id(uint32_t id)
{
	assert_step(SEND_ID);
	assert_int_equal(le32_get(one.id_word), id);
	assert_int_equal(one.active_id, id);
}

/* After the first run of the handler. */
static int setup_one(void **state)
{
	command_driver_init(&one);
	handle(0);
	return 0;
}

static void begin_report(uint32_t id)
{
	handle_start(id);
	assert_id(id);
	assert_step(SEND_BLOCK);
}

static void test_g1_acknowledges_before_it_reads(void **state)
{
	handle_with(BALLOONING | START | STOP, ID, 5);
	assert_int_equal(accesses_made, 4);
	assert_access(0, COMMAND_ACCESS_READ, BALLOON_CMD_REG);
	assert_access(1, COMMAND_ACCESS_WRITE, BALLOON_CMD_REG);
	assert_int_equal(accesses[1].value, BALLOONING | START | STOP);
	assert_access(2, COMMAND_ACCESS_READ, NUM_PAGES);
	assert_access(3, COMMAND_ACCESS_READ, BALLOON_CMD_ID_REG);
	assert_int_equal(one.target, 5);
}

static void test_g1_reads_only_what_is_asked_for(void **state)
{
	handle_with(BALLOONING, ID, 7);
	assert_int_equal(accesses_made, 3);
	assert_access(2, COMMAND_ACCESS_READ, NUM_PAGES);
	handle_with(START, ID, 8);
	assert_int_equal(accesses_made, 3);
	assert_access(2, COMMAND_ACCESS_READ, BALLOON_CMD_ID_REG);
	handle_with(STOP | DONE, ID, 8);
	assert_int_equal(accesses_made, 2);
	assert_int_equal(one.target, 7);
	/* An interrupt for something else, or handled already. */
	handle(0);
	assert_int_equal(accesses_made, 1);
	assert_access(0, COMMAND_ACCESS_READ, BALLOON_CMD_REG);
}

static void test_g1_unknown_bits_stay_pending(void **state)
{
	handle(UNKNOWN);
	assert_int_equal(accesses_made, 1);
	handle(UNKNOWN | STOP);
	assert_int_equal(accesses_made, 2);
	assert_int_equal(accesses[1].value, STOP);
	assert_step(NOTHING);
}

/* A device that has one balloon request, and gets the next before the handler's
 * access number @when. */
static void second_request_before(unsigned int when)
{
	uint32_t cmd_reg = BALLOONING, num_pages = 1, value = 0;
	unsigned int n = 0;
	bool more;

	do {
		if (n++ == when) {
			cmd_reg |= BALLOONING;
			num_pages = 2;
		}
		accesses_made = 0;
		more = handle_step(&value, cmd_reg, ID, num_pages);
		if (more && accesses[0].access == COMMAND_ACCESS_WRITE)
			cmd_reg &= ~value;
	} while (more || cmd_reg);
}

static void test_g1_no_second_balloon_request_is_lost(void **state)
{
	unsigned int when;

	for (when = 0; when < 4; when++) {
		setup_one(NULL);
		second_request_before(when);
		assert_int_equal(one.target, 2);
	}
}

static void test_g1_takes_effect_at_its_end(void **state)
{
	uint32_t value = 0;

	begin_report(ID);
	accesses_made = 0;
	do
		assert_step(SEND_BLOCK);
	while (handle_step(&value, STOP, 0, 0));
	assert_step(SEND_SIGN);
	accesses_made = 0;
	do
		assert_step(NOTHING);
	while (handle_step(&value, START, ID + 1, 0));
	assert_id(ID + 1);
}

static void test_g2_id_then_pages_then_the_sign(void **state)
{
	assert_step(NOTHING);
	assert_false(command_driver_busy(&one));
	handle_start(ID + 3);
	assert_true(command_driver_busy(&one));
	assert_id(ID + 3);
	assert_step(SEND_BLOCK);
	assert_step(SEND_BLOCK);
	assert_true(command_driver_busy(&one));
	command_driver_exhausted(&one);
	assert_step(SEND_SIGN);
	assert_false(command_driver_busy(&one));
	assert_step(NOTHING);
	assert_step(NOTHING);
	/* The next one is not exhausted. */
	begin_report(ID + 4);
}

static void test_g3_stop_between_pages(void **state)
{
	begin_report(ID);
	handle(STOP);
	assert_step(SEND_SIGN);
	assert_step(NOTHING);
	begin_report(ID + 1);
	assert_step(SEND_BLOCK);
}

static void test_g3_stop_crosses_the_end(void **state)
{
	begin_report(ID);
	command_driver_exhausted(&one);
	handle(STOP);
	assert_step(SEND_SIGN);
	assert_step(NOTHING);

	begin_report(ID + 1);
	command_driver_exhausted(&one);
	assert_step(SEND_SIGN);
	handle(STOP);
	assert_step(NOTHING);
	begin_report(ID + 2);
}

static void test_g3_stop_with_nothing_open_is_ignored(void **state)
{
	handle(STOP);
	assert_step(NOTHING);
	begin_report(ID);
	assert_step(SEND_BLOCK);
}

/* The handler clears the flag, with the START it accepts, and the worker does
 * not when it begins. */
static void test_g3_stop_before_the_worker_took_the_start(void **state)
{
	handle_start(ID);
	handle(STOP);
	assert_step(SEND_SIGN);
	assert_step(NOTHING);
	assert_false(command_driver_busy(&one));
}

static void test_g3_stop_right_after_the_id(void **state)
{
	handle_start(ID);
	assert_id(ID);
	handle(STOP);
	assert_step(SEND_SIGN);
	assert_step(NOTHING);
}

static void test_g4_start_and_stop_in_one_read(void **state)
{
	handle(START | STOP);
	assert_true(command_driver_busy(&one));
	assert_step(SEND_SIGN);
	assert_step(NOTHING);
	begin_report(ID + 1);
}

static void test_g4_an_older_stop_is_not_of_the_same_read(void **state)
{
	begin_report(ID);
	command_driver_exhausted(&one);
	assert_step(SEND_SIGN);
	handle(STOP);
	handle_start(ID + 1);
	assert_id(ID + 1);
	assert_step(SEND_BLOCK);
}

static void test_g5_nothing_is_released_without_done(void **state)
{
	begin_report(ID);
	command_driver_exhausted(&one);
	assert_step(SEND_SIGN);
	handle(STOP | BALLOONING | UNKNOWN);
	assert_step(NOTHING);
	begin_report(ID + 1);
	handle(STOP);
	assert_step(SEND_SIGN);
	assert_step(NOTHING);
	handle(DONE);
	assert_step(RELEASE);
}

static void test_g6_id_and_sign_have_buffers_of_their_own(void **state)
{
	assert_ptr_not_equal(&one.id_word, &one.sign_word);
	begin_report(ID);
	handle(STOP);
	assert_step(SEND_SIGN);
	/* Both may still be in the ring. */
	assert_int_equal(le32_get(one.id_word), ID);
	assert_int_equal(le32_get(one.sign_word), VIRTIO_BALLOON_CMD_ID_STOP);
	handle_start(ID + 1);
	assert_int_equal(le32_get(one.id_word), ID);
	assert_id(ID + 1);
	assert_int_equal(le32_get(one.sign_word), VIRTIO_BALLOON_CMD_ID_STOP);
}

static void test_g6_a_slot_is_kept_for_the_sign(void **state)
{
	handle_start(ID);
	assert_int_equal(command_driver_next(&one, 0), REPORT_STEP_NOTHING);
	assert_int_equal(command_driver_next(&one, 1), REPORT_STEP_NOTHING);
	assert_int_equal(command_driver_next(&one, 2), REPORT_STEP_SEND_ID);
	assert_int_equal(command_driver_next(&one, 1), REPORT_STEP_NOTHING);
	assert_true(command_driver_busy(&one));
	assert_int_equal(command_driver_next(&one, 2), REPORT_STEP_SEND_BLOCK);
	assert_int_equal(command_driver_next(&one, 1), REPORT_STEP_NOTHING);
	handle(STOP);
	assert_int_equal(command_driver_next(&one, 0), REPORT_STEP_NOTHING);
	assert_true(command_driver_busy(&one));
	assert_int_equal(command_driver_next(&one, 1), REPORT_STEP_SEND_SIGN);
	handle(DONE);
	assert_int_equal(command_driver_next(&one, 0), REPORT_STEP_RELEASE);
	command_driver_released(&one);
	handle_start(ID + 1);
	handle(STOP);
	assert_int_equal(command_driver_next(&one, 0), REPORT_STEP_NOTHING);
	assert_int_equal(command_driver_next(&one, 1), REPORT_STEP_SEND_SIGN);
}

static void test_g7_done_implies_stop_and_releases_after_the_sign(void **state)
{
	begin_report(ID);
	handle(DONE);
	assert_step(SEND_SIGN);
	assert_step(RELEASE);
	assert_step(RELEASE);
	command_driver_released(&one);
	assert_step(NOTHING);
}

static void test_g7_stop_and_done_in_one_read(void **state)
{
	begin_report(ID);
	handle(STOP | DONE);
	assert_step(SEND_SIGN);
	assert_step(RELEASE);
	command_driver_released(&one);
	assert_step(NOTHING);
}

static void test_g7_start_and_done_in_one_read(void **state)
{
	begin_report(ID);
	handle(STOP);
	assert_step(SEND_SIGN);
	handle_with(START | DONE, ID + 1, 0);
	assert_step(SEND_SIGN);
	assert_step(RELEASE);
	command_driver_released(&one);
	assert_step(NOTHING);
}

/* What was held is given back before the next report holds more. */
static void test_g7_start_after_done(void **state)
{
	begin_report(ID);
	handle(STOP);
	assert_step(SEND_SIGN);
	handle(DONE);
	handle_start(ID + 1);
	assert_step(RELEASE);
	command_driver_released(&one);
	assert_id(ID + 1);
	assert_step(SEND_BLOCK);
	command_driver_exhausted(&one);
	assert_step(SEND_SIGN);
	assert_step(NOTHING);
}

static void test_g7_done_with_nothing_held_is_not_remembered(void **state)
{
	handle(DONE);
	begin_report(ID);
	command_driver_exhausted(&one);
	assert_step(SEND_SIGN);
	assert_step(NOTHING);
	handle(DONE);
	assert_step(RELEASE);
	command_driver_released(&one);
	assert_step(NOTHING);
}

static void test_g8_reads_the_target_once_by_itself(void **state)
{
	command_driver_init(&one);
	handle_with(0, 0, 9);
	assert_int_equal(accesses_made, 2);
	assert_access(0, COMMAND_ACCESS_READ, BALLOON_CMD_REG);
	assert_access(1, COMMAND_ACCESS_READ, NUM_PAGES);
	assert_int_equal(one.target, 9);
	handle_with(0, 0, 10);
	assert_int_equal(accesses_made, 1);

	command_driver_init(&one);
	handle_with(START, ID, 9);
	assert_int_equal(accesses_made, 4);
	assert_access(1, COMMAND_ACCESS_WRITE, BALLOON_CMD_REG);
	assert_access(2, COMMAND_ACCESS_READ, NUM_PAGES);
	assert_id(ID);
}

static void test_g8_leaves_nothing_behind(void **state)
{
	begin_report(ID);
	command_driver_leave(&one);
	assert_step(RELEASE);
	command_driver_released(&one);
	assert_step(NOTHING);

	command_driver_init(&one);
	handle_start(ID);
	command_driver_leave(&one);
	assert_step(NOTHING);
}

#define ALONE(test) cmocka_unit_test_setup(test, setup_one)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ALONE(test_g1_acknowledges_before_it_reads),
		ALONE(test_g1_reads_only_what_is_asked_for),
		ALONE(test_g1_unknown_bits_stay_pending),
		ALONE(test_g1_no_second_balloon_request_is_lost),
		ALONE(test_g1_takes_effect_at_its_end),
		ALONE(test_g2_id_then_pages_then_the_sign),
		ALONE(test_g3_stop_between_pages),
		ALONE(test_g3_stop_crosses_the_end),
		ALONE(test_g3_stop_with_nothing_open_is_ignored),
		ALONE(test_g3_stop_before_the_worker_took_the_start),
		ALONE(test_g3_stop_right_after_the_id),
		ALONE(test_g4_start_and_stop_in_one_read),
		ALONE(test_g4_an_older_stop_is_not_of_the_same_read),
		ALONE(test_g5_nothing_is_released_without_done),
		ALONE(test_g6_id_and_sign_have_buffers_of_their_own),
		ALONE(test_g6_a_slot_is_kept_for_the_sign),
		ALONE(test_g7_done_implies_stop_and_releases_after_the_sign),
		ALONE(test_g7_stop_and_done_in_one_read),
		ALONE(test_g7_start_and_done_in_one_read),
		ALONE(test_g7_start_after_done),
		ALONE(test_g7_done_with_nothing_held_is_not_remembered),
		ALONE(test_g8_reads_the_target_once_by_itself),
		ALONE(test_g8_leaves_nothing_behind),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
