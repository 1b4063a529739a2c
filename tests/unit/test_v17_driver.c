// SPDX-License-Identifier: MIT
/*
 * The v17 protocol, driver half by itself: what it is told, and what it must
 * do. docs/spec/v17.md, W-10 to W-15.
 */
#include "unit.h"

#include <linux/virtio_balloon.h>

#include "balloon/v17_driver.h"

#define BALLOONING BALLOON_V17_BALLOONING
#define START BALLOON_V17_REPORT_START
#define STOP BALLOON_V17_REPORT_STOP
#define UNKNOWN (1u << 3 | 1u << 31)

#define NUM_PAGES offsetof(struct virtio_balloon_config, num_pages)
#define ID 0x80000000u

static struct v17_driver one;
static uint32_t registers[3]; /* requests, id, num_pages */

static struct access {
	enum command_access access;
	uint32_t offset, value;
} accesses[8];
static unsigned int accesses_made;

/* One access of the handler. Return: false when it has ended */
static bool handle_step(uint32_t *value)
{
	struct access *a = &accesses[accesses_made];

	a->access = v17_driver_handle(&one, &a->offset, value);
	a->value = *value;
	if (a->access == COMMAND_ACCESS_END)
		return false;
	accesses_made++;
	assert_true(accesses_made < ARRAY_SIZE(accesses));
	if (a->access == COMMAND_ACCESS_READ)
		*value = a->offset == BALLOON_V17_HOST2GUEST_CMD ?
				 registers[0] :
			 a->offset == BALLOON_V17_FREE_PAGE_CMD_ID ?
				 registers[1] :
			 a->offset == NUM_PAGES ? registers[2] : 0xeeeeeeee;
	return true;
}

static void handle_with(uint32_t bits, uint32_t id, uint32_t num_pages)
{
	uint32_t value = 0xdddddddd;

	registers[0] = bits;
	registers[1] = id;
	registers[2] = num_pages;
	accesses_made = 0;
	while (handle_step(&value))
		;
}

static void handle(uint32_t bits)
{
	handle_with(bits, ID, 0);
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

static enum report_step next(unsigned int room, uint32_t *id)
{
	*id = 0;
	return v17_driver_next(&one, room, id);
}

static void assert_step(enum report_step step)
{
	uint32_t id;

	assert_int_equal(next(16, &id), step);
}

static void assert_id(uint32_t wanted)
{
	uint32_t id;

	assert_int_equal(next(16, &id), REPORT_STEP_SEND_ID);
	assert_int_equal(id, wanted);
	assert_int_equal(one.active_id, wanted);
}

static void assert_released(void)
{
	assert_step(REPORT_STEP_RELEASE);
	assert_step(REPORT_STEP_RELEASE);
	v17_driver_released(&one);
}

/* After the first run of the handler. */
static int setup_one(void **state)
{
	v17_driver_init(&one);
	handle(0);
	return 0;
}

static void begin_report(uint32_t id)
{
	handle_start(id);
	assert_id(id);
	assert_step(REPORT_STEP_SEND_BLOCK);
}

static void test_w10_acknowledges_before_it_reads(void **state)
{
	handle_with(BALLOONING | START, ID, 5);
	assert_int_equal(accesses_made, 4);
	assert_access(0, COMMAND_ACCESS_READ, BALLOON_V17_HOST2GUEST_CMD);
	assert_access(1, COMMAND_ACCESS_WRITE, BALLOON_V17_GUEST2HOST_CMD);
	assert_int_equal(accesses[1].value, BALLOONING | START);
	assert_access(2, COMMAND_ACCESS_READ, NUM_PAGES);
	assert_access(3, COMMAND_ACCESS_READ, BALLOON_V17_FREE_PAGE_CMD_ID);
	assert_int_equal(one.target, 5);
}

static void test_w10_reads_only_what_is_asked_for(void **state)
{
	handle_with(BALLOONING, ID, 7);
	assert_int_equal(accesses_made, 3);
	assert_access(2, COMMAND_ACCESS_READ, NUM_PAGES);
	handle_with(START, ID, 8);
	assert_int_equal(accesses_made, 3);
	assert_access(2, COMMAND_ACCESS_READ, BALLOON_V17_FREE_PAGE_CMD_ID);
	handle_with(STOP, ID, 8);
	assert_int_equal(accesses_made, 2);
	handle_with(START | STOP, ID, 8);
	assert_int_equal(accesses_made, 2);
	assert_int_equal(one.target, 7);
	handle(0);
	assert_int_equal(accesses_made, 1);
}

static void test_w10_unknown_bits_stay_pending(void **state)
{
	handle(UNKNOWN);
	assert_int_equal(accesses_made, 1);
	handle(UNKNOWN | STOP);
	assert_int_equal(accesses_made, 2);
	assert_int_equal(accesses[1].value, STOP);
	assert_step(REPORT_STEP_NOTHING);
}

static void test_w10_num_pages_once_unasked(void **state)
{
	v17_driver_init(&one);
	handle_with(0, ID, 9);
	assert_int_equal(accesses_made, 2);
	assert_access(1, COMMAND_ACCESS_READ, NUM_PAGES);
	assert_int_equal(one.target, 9);
}

static void test_w11_a_report(void **state)
{
	assert_step(REPORT_STEP_NOTHING);
	begin_report(ID);
	assert_step(REPORT_STEP_SEND_BLOCK);
	v17_driver_exhausted(&one);
	assert_step(REPORT_STEP_SEND_SIGN);
	assert_released();
	assert_step(REPORT_STEP_NOTHING);
	begin_report(ID + 1);
}

static void test_w11_nothing_to_hand_over(void **state)
{
	handle_start(ID);
	assert_id(ID);
	v17_driver_exhausted(&one);
	assert_step(REPORT_STEP_SEND_SIGN);
	assert_step(REPORT_STEP_NOTHING);
}

/* STOP needs no slot. */
static void test_w11_a_full_ring(void **state)
{
	uint32_t id;

	handle_start(ID);
	assert_int_equal(next(0, &id), REPORT_STEP_NOTHING);
	assert_int_equal(next(1, &id), REPORT_STEP_SEND_ID);
	assert_int_equal(id, ID);
	assert_int_equal(next(0, &id), REPORT_STEP_NOTHING);
	assert_int_equal(next(1, &id), REPORT_STEP_SEND_BLOCK);
	v17_driver_exhausted(&one);
	assert_int_equal(next(0, &id), REPORT_STEP_SEND_SIGN);
	assert_int_equal(next(0, &id), REPORT_STEP_RELEASE);
}

/* It is said by the acknowledgement, and not once more. */
static void test_w12_stopped_by_the_host(void **state)
{
	begin_report(ID);
	handle(STOP);
	assert_int_equal(accesses[1].value, STOP);
	assert_released();
	assert_step(REPORT_STEP_NOTHING);
}

/* A worker that is asked while the handler writes. */
static void test_w12_no_block_behind_the_write(void **state)
{
	uint32_t value = 0;

	begin_report(ID);
	registers[0] = STOP;
	accesses_made = 0;
	assert_true(handle_step(&value));
	assert_step(REPORT_STEP_SEND_BLOCK);
	assert_true(handle_step(&value));
	assert_access(1, COMMAND_ACCESS_WRITE, BALLOON_V17_GUEST2HOST_CMD);
	assert_released();
	assert_step(REPORT_STEP_NOTHING);
	assert_false(handle_step(&value));
	assert_step(REPORT_STEP_NOTHING);
}

static void test_w12_stop_before_the_worker_began(void **state)
{
	handle_start(ID);
	handle(STOP);
	assert_step(REPORT_STEP_NOTHING);
	/* Nor when there is none. */
	handle(STOP);
	assert_step(REPORT_STEP_NOTHING);
	begin_report(ID + 1);
}

static void test_w12_start_and_stop_in_one_read(void **state)
{
	handle_with(START | STOP, ID, 0);
	assert_step(REPORT_STEP_NOTHING);
	/* Made behind the acknowledgement, when the id could be seen already:
	 * it is not the one that was stopped. */
	begin_report(ID);
	handle_with(START | STOP, ID + 2, 0);
	assert_released();
	assert_step(REPORT_STEP_NOTHING);
}

static void test_w13_start_ends_the_report_before(void **state)
{
	begin_report(ID);
	handle_start(ID + 1);
	assert_released();
	assert_id(ID + 1);
	assert_step(REPORT_STEP_SEND_BLOCK);
	/* Not with a STOP either, when it had no more to give. */
	v17_driver_exhausted(&one);
	handle_start(ID + 2);
	assert_released();
	assert_id(ID + 2);
	assert_step(REPORT_STEP_SEND_BLOCK);
}

static void test_w13_only_the_last_start_counts(void **state)
{
	handle_start(ID);
	handle_start(ID + 1);
	assert_id(ID + 1);
	assert_step(REPORT_STEP_SEND_BLOCK);
}

/* Its id was read with the START before, which the host had given up. */
static void test_w13_the_same_start_again(void **state)
{
	begin_report(ID);
	handle_start(ID);
	assert_step(REPORT_STEP_SEND_BLOCK);
	v17_driver_exhausted(&one);
	assert_step(REPORT_STEP_SEND_SIGN);
	assert_released();
	handle_start(ID);
	assert_step(REPORT_STEP_NOTHING);
}

static void test_w14_blocks_taken_back_once(void **state)
{
	begin_report(ID);
	v17_driver_exhausted(&one);
	assert_step(REPORT_STEP_SEND_SIGN);
	assert_released();
	handle(STOP);
	assert_step(REPORT_STEP_NOTHING);
}

#define UNIT(test) cmocka_unit_test_setup(test, setup_one)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_w10_acknowledges_before_it_reads),
		UNIT(test_w10_reads_only_what_is_asked_for),
		UNIT(test_w10_unknown_bits_stay_pending),
		UNIT(test_w10_num_pages_once_unasked),
		UNIT(test_w11_a_report),
		UNIT(test_w11_nothing_to_hand_over),
		UNIT(test_w11_a_full_ring),
		UNIT(test_w12_stopped_by_the_host),
		UNIT(test_w12_no_block_behind_the_write),
		UNIT(test_w12_stop_before_the_worker_began),
		UNIT(test_w12_start_and_stop_in_one_read),
		UNIT(test_w13_start_ends_the_report_before),
		UNIT(test_w13_only_the_last_start_counts),
		UNIT(test_w13_the_same_start_again),
		UNIT(test_w14_blocks_taken_back_once),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
