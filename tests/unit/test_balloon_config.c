// SPDX-License-Identifier: MIT
/*
 * The balloon device: its configuration space, the target in it, and the
 * features it offers.
 */
#include "balloon_fixture.h"

#include "balloon/balloon_driver.h"

/*
 * The target
 */

static void test_target_is_told_once(void **state)
{
	balloon_set_target(&fx.balloon, 10);
	assert_int_equal(fx_register(0), 10);
	assert_int_equal(fx.config_changes, 1);
	balloon_set_target(&fx.balloon, 10);
	assert_int_equal(fx.config_changes, 1);
}

static void test_target_before_activation_is_told_with_it(void **state)
{
	balloon_reset(&fx.balloon);
	balloon_set_target(&fx.balloon, 10);
	assert_int_equal(fx.config_changes, 0);
	fx_activate(HINT);
	assert_int_equal(fx.config_changes, 1);
}

static void test_no_target_is_not_told(void **state)
{
	assert_int_equal(fx.config_changes, 0);
}

static void test_driver_adjust(void **state)
{
	assert_int_equal(balloon_driver_adjust(5, 3), 2);
	assert_int_equal(balloon_driver_adjust(3, 5), -2);
	assert_int_equal(balloon_driver_adjust(7, 7), 0);
	assert_int_equal(balloon_driver_adjust(UINT32_MAX, 0), UINT32_MAX);
	assert_int_equal(balloon_driver_adjust(0, UINT32_MAX),
			 -(int64_t)UINT32_MAX);
}

/*
 * Configuration space
 */

/* 0x04030201, 0x14131211 and so on. */
static void set_registers(void)
{
	fx.balloon.config.num_pages = 0x04030201;
	fx.balloon.config.actual = 0x14131211;
	fx.balloon.config.free_page_hint_cmd_id = 0x24232221;
	fx.balloon.config.poison_val = 0x34333231;
}

/* Size 8, 12 or 16. */
static void start_with_config(uint32_t size)
{
	struct balloon_options options = fx_options();

	fx_teardown(NULL);
	options.hinting = size >= 12;
	options.poison = size == 16;
	fx_init(options);
	set_registers();
	assert_int_equal(balloon_config_size(&fx.balloon), size);
}

static uint8_t expected_byte(uint64_t offset, uint32_t size)
{
	return offset < size
		       ? (uint8_t)(offset / 4 * 16 + offset % 4 + 1)
		       : 0;
}

/* L3: little-endian, whatever was negotiated. */
static void check_reads(uint32_t size)
{
	uint32_t offset, length, i;
	uint8_t got[34];

	start_with_config(size);
	for (offset = 0; offset < 24; offset++) {
		for (length = 0; length <= 32; length++) {
			memset(got, 0xee, sizeof(got));
			balloon_config_read(&fx.balloon, offset, got + 1,
					    length);
			assert_int_equal(got[0], 0xee);
			for (i = 0; i < length; i++)
				assert_int_equal(got[1 + i],
						 expected_byte(offset + i,
							       size));
			assert_int_equal(got[1 + length], 0xee);
		}
	}
	for (length = 1; length <= 8; length++) {
		memset(got, 0xee, sizeof(got));
		balloon_config_read(&fx.balloon, UINT32_MAX - 3, got, length);
		for (i = 0; i < length; i++)
			assert_int_equal(got[i], 0);
		assert_int_equal(got[length], 0xee);
	}
}

static void test_config_reads(void **state)
{
	check_reads(8);
	check_reads(12);
	check_reads(16);
}

/* L5, L6: `actual` changes by a write of all of it, and by no other. */
static void check_writes(uint32_t size)
{
	const uint8_t bytes[8] = { 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7 };
	uint32_t offset, length;
	bool changed;

	start_with_config(size);
	for (offset = 0; offset < 24; offset++) {
		for (length = 0; length <= 8; length++) {
			set_registers();
			changed = balloon_config_write(&fx.balloon, offset,
						       bytes, length);
			assert_int_equal(changed, offset == 4 && length == 4);
			assert_int_equal(fx.balloon.config.actual,
					 changed ? 0xa4a3a2a1 : 0x14131211);
			assert_int_equal(fx.balloon.config.poison_val,
					 offset == 12 && length == 4 &&
							 size == 16
						 ? 0xa4a3a2a1
						 : 0x34333231);
			assert_int_equal(fx.balloon.config.num_pages,
					 0x04030201);
			assert_int_equal(
				fx.balloon.config.free_page_hint_cmd_id,
				0x24232221);
		}
	}
	assert_false(balloon_config_write(&fx.balloon, UINT32_MAX - 3, bytes,
					  4));
}

static void test_config_writes(void **state)
{
	check_writes(8);
	check_writes(12);
	check_writes(16);
}

static void test_config_write_of_the_same_is_no_change(void **state)
{
	const uint8_t zero[4] = { 0 };

	assert_false(balloon_config_write(&fx.balloon, 4, zero, 4));
}

/* V1: no driver is refused for want of must-tell-host. */
static void test_features_follow_the_options(void **state)
{
	struct balloon_options options = fx_options();
	bool *const switches[] = {
		&options.must_tell_host, &options.statistics,
		&options.deflate_on_oom, &options.hinting,
		&options.poison,	 &options.reporting,
	}; /* by feature bit, 0 to 5 */
	unsigned int set, bit;

	for (set = 0; set < 64; set++) {
		for (bit = 0; bit < 6; bit++)
			*switches[bit] = set >> bit & 1;
		fx_teardown(NULL);
		fx_init(options);
		assert_int_equal(balloon_features(&fx.balloon), set);
		assert_true(balloon_accepts(&fx.balloon, set));
	}
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, fx_setup, fx_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_target_is_told_once),
		UNIT(test_target_before_activation_is_told_with_it),
		UNIT(test_no_target_is_not_told),
		UNIT(test_driver_adjust),
		UNIT(test_config_reads),
		UNIT(test_config_writes),
		UNIT(test_config_write_of_the_same_is_no_change),
		UNIT(test_features_follow_the_options),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
