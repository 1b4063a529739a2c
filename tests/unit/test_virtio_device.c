// SPDX-License-Identifier: MIT
/* Status and features of a virtio device: VIRTIO 1.3 sections 2.1, 2.2, 3.1. */
#include "unit.h"

#include <linux/virtio_config.h>

#include "virtio/device.h"

#define ACK VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER VIRTIO_CONFIG_S_DRIVER
#define DRIVER_OK VIRTIO_CONFIG_S_DRIVER_OK
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define FAILED VIRTIO_CONFIG_S_FAILED
#define VERSION_1 (1ull << VIRTIO_F_VERSION_1)
#define OFFERED (VERSION_1 | 0x7)

static struct virtio_device device;
static unsigned int changes;
static bool refuse;

static bool accepts(void *owner, uint64_t features)
{
	assert_int_equal(features & ~OFFERED, 0);
	return !refuse;
}

static void status_changed(void *owner)
{
	assert_ptr_equal(owner, &changes);
	changes++;
}

static const struct virtio_device_ops ops = {
	.accepts = accepts,
	.status_changed = status_changed,
};

static int setup(void **state)
{
	virtio_device_init(&device, 5, OFFERED, 5, 128, &ops, &changes);
	changes = 0;
	refuse = false;
	return 0;
}

static void set_features(uint64_t features)
{
	virtio_device_set_features(&device, 0, features);
	virtio_device_set_features(&device, 1, features >> 32);
}

/* Up to FEATURES_OK, as a driver should. */
static void negotiate(uint64_t features)
{
	virtio_device_set_status(&device, ACK);
	virtio_device_set_status(&device, ACK | DRIVER);
	set_features(features);
	virtio_device_set_status(&device, ACK | DRIVER | FEATURES_OK);
}

static void go(void)
{
	negotiate(VERSION_1);
	virtio_device_set_status(&device, ACK | DRIVER | FEATURES_OK |
						  DRIVER_OK);
}

static void test_power_on(void **state)
{
	unsigned int i;

	assert_int_equal(device.status, 0);
	assert_int_equal(device.accepted, 0);
	assert_int_equal(device.config_vector, VIRTIO_NO_VECTOR);
	for (i = 0; i < VIRTIO_DEVICE_MAX_QUEUES; i++) {
		assert_int_equal(device.queue[i].layout.size, 128);
		assert_int_equal(device.queue[i].vector, VIRTIO_NO_VECTOR);
		assert_false(device.queue[i].enabled);
	}
	assert_int_equal(virtio_device_take_event(&device),
			 VIRTIO_EVENT_NONE);
}

static void test_a_driver_that_does_all_right(void **state)
{
	negotiate(OFFERED);
	assert_int_equal(device.status, ACK | DRIVER | FEATURES_OK);
	assert_int_equal(device.accepted, OFFERED);
	assert_int_equal(changes, 0);
	virtio_device_set_status(&device, ACK | DRIVER | FEATURES_OK |
						  DRIVER_OK);
	assert_int_equal(changes, 1);
	assert_int_equal(virtio_device_take_event(&device),
			 VIRTIO_EVENT_ACTIVATE);
	/* Once. */
	assert_int_equal(virtio_device_take_event(&device),
			 VIRTIO_EVENT_NONE);
	/* Nothing new in this. */
	virtio_device_set_status(&device, ACK | DRIVER | FEATURES_OK |
						  DRIVER_OK);
	assert_int_equal(changes, 1);
}

static void test_features_that_are_refused(void **state)
{
	/* Without VERSION_1; not offered; not liked by the device. */
	negotiate(0x7);
	assert_int_equal(device.status, ACK | DRIVER);
	set_features(VERSION_1 | 0x8);
	virtio_device_set_status(&device, ACK | DRIVER | FEATURES_OK);
	assert_int_equal(device.status, ACK | DRIVER);
	set_features(VERSION_1 | 1ull << 63);
	virtio_device_set_status(&device, ACK | DRIVER | FEATURES_OK);
	assert_int_equal(device.status, ACK | DRIVER);
	refuse = true;
	set_features(VERSION_1);
	virtio_device_set_status(&device, ACK | DRIVER | FEATURES_OK);
	assert_int_equal(device.status, ACK | DRIVER);
	/* Going on all the same is of no use. */
	virtio_device_set_status(&device, ACK | DRIVER | FEATURES_OK |
						  DRIVER_OK);
	assert_int_equal(device.status, ACK | DRIVER);
	assert_int_equal(changes, 0);
	/* A second try with less may be. */
	refuse = false;
	virtio_device_set_status(&device, ACK | DRIVER | FEATURES_OK);
	assert_int_equal(device.status, ACK | DRIVER | FEATURES_OK);
}

static void test_features_after_features_ok(void **state)
{
	negotiate(VERSION_1 | 1);
	set_features(VERSION_1 | 6);
	assert_int_equal(device.accepted, VERSION_1 | 1);
	/* There are 64 of them. */
	setup(NULL);
	virtio_device_set_features(&device, 2, 0xffffffff);
	virtio_device_set_features(&device, UINT32_MAX, 0xffffffff);
	assert_int_equal(device.accepted, 0);
	/* Each half by itself, and again. */
	virtio_device_set_features(&device, 1, 0xffffffff);
	virtio_device_set_features(&device, 0, 5);
	virtio_device_set_features(&device, 1, 1);
	assert_int_equal(device.accepted, 1ull << 32 | 5);
}

static void test_driver_ok_without_features_ok(void **state)
{
	virtio_device_set_status(&device, ACK | DRIVER | DRIVER_OK);
	assert_int_equal(device.status & DRIVER_OK, 0);
	assert_int_equal(changes, 0);
	assert_int_equal(virtio_device_take_event(&device),
			 VIRTIO_EVENT_NONE);
}

static void test_bits_are_never_cleared(void **state)
{
	negotiate(VERSION_1);
	virtio_device_set_status(&device, ACK);
	assert_int_equal(device.status, ACK | DRIVER | FEATURES_OK);
	virtio_device_set_status(&device, FAILED);
	assert_int_equal(device.status, ACK | DRIVER | FEATURES_OK | FAILED);
}

static void test_reset_before_anybody_serves(void **state)
{
	negotiate(VERSION_1);
	device.queue[2].enabled = true;
	virtio_device_set_status(&device, 0);
	assert_true(device.reset_pending);
	assert_int_equal(changes, 1);
	assert_int_equal(virtio_device_take_event(&device),
			 VIRTIO_EVENT_RESET);
	virtio_device_reset_done(&device);
	assert_int_equal(device.status, 0);
	assert_int_equal(device.accepted, 0);
	assert_false(device.queue[2].enabled);

	/* Of a device that is reset already: done at once. */
	virtio_device_set_status(&device, 0);
	assert_false(device.reset_pending);
	assert_int_equal(changes, 1);

	/* DRIVER_OK was posted but not taken yet: there was no activation. */
	go();
	virtio_device_set_status(&device, 0);
	assert_int_equal(virtio_device_take_event(&device),
			 VIRTIO_EVENT_RESET);
	virtio_device_reset_done(&device);
	assert_int_equal(virtio_device_take_event(&device),
			 VIRTIO_EVENT_NONE);
	/* And again: the thread sees one activation, the last. */
	go();
	assert_int_equal(virtio_device_take_event(&device),
			 VIRTIO_EVENT_ACTIVATE);
}

static void test_reset_of_a_device_that_runs(void **state)
{
	uint8_t running = ACK | DRIVER | FEATURES_OK | DRIVER_OK;

	go();
	assert_int_equal(virtio_device_take_event(&device),
			 VIRTIO_EVENT_ACTIVATE);
	device.queue[0].enabled = true;
	virtio_device_set_status(&device, 0);
	/* The driver polls until it reads 0. */
	assert_true(device.reset_pending);
	assert_int_equal(device.status, running);
	assert_int_equal(changes, 2);
	/* Nothing counts meanwhile, not even another reset. */
	virtio_device_set_status(&device, 0);
	virtio_device_set_status(&device, ACK);
	virtio_device_set_status(&device, 0xff);
	virtio_device_set_features(&device, 0, 7);
	assert_int_equal(device.status, running);
	assert_int_equal(device.accepted, VERSION_1);
	assert_int_equal(changes, 2);
	assert_int_equal(virtio_device_take_event(&device),
			 VIRTIO_EVENT_RESET);
	assert_int_equal(virtio_device_take_event(&device),
			 VIRTIO_EVENT_RESET);
	virtio_device_reset_done(&device);
	assert_int_equal(device.status, 0);
	assert_false(device.queue[0].enabled);
	assert_int_equal(virtio_device_take_event(&device),
			 VIRTIO_EVENT_NONE);
	go();
	assert_int_equal(virtio_device_take_event(&device),
			 VIRTIO_EVENT_ACTIVATE);
}

static void test_broken_device(void **state)
{
	uint8_t generation = device.generation;

	go();
	virtio_device_take_event(&device);
	virtio_device_break(&device);
	assert_true(device.status & NEEDS_RESET);
	assert_int_not_equal(device.generation, generation);
	/* The driver's write does not mend it; a reset does. */
	virtio_device_set_status(&device, ACK | DRIVER | FEATURES_OK |
						  DRIVER_OK);
	assert_true(device.status & NEEDS_RESET);
	virtio_device_set_status(&device, 0);
	virtio_device_reset_done(&device);
	assert_int_equal(device.status, 0);
}

/* Any order of anything: what must hold always. */
static void test_random_drivers(void **state)
{
	struct rng rng = rng_start("random drivers");
	unsigned int i;

	for (i = 0; i < 200000; i++) {
		uint8_t before = device.status;
		uint64_t accepted = device.accepted;
		bool pending = device.reset_pending;

		refuse = rng_chance(&rng, 1, 8);
		switch (rng_below(&rng, 4)) {
		case 0:
			virtio_device_set_features(&device, rng_below(&rng, 3),
						   rng_next(&rng) & 0xf);
			if (before & FEATURES_OK)
				assert_int_equal(device.accepted, accepted);
			break;
		case 1:
			if (virtio_device_take_event(&device) ==
			    VIRTIO_EVENT_RESET)
				virtio_device_reset_done(&device);
			break;
		default:
			virtio_device_set_status(
				&device, rng_chance(&rng, 1, 4) ?
						 0 : rng_next(&rng) & 0x8f);
			if (pending)
				assert_int_equal(device.status, before);
			break;
		}
		if (device.status & FEATURES_OK) {
			assert_true(device.accepted & VERSION_1);
			assert_int_equal(device.accepted & ~OFFERED, 0);
		}
		if (device.status & DRIVER_OK)
			assert_true(device.status & FEATURES_OK);
		if (device.activated)
			assert_true(device.status & DRIVER_OK);
		if (device.reset_pending)
			assert_true(device.status);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_power_on, setup),
		cmocka_unit_test_setup(test_a_driver_that_does_all_right,
				       setup),
		cmocka_unit_test_setup(test_features_that_are_refused, setup),
		cmocka_unit_test_setup(test_features_after_features_ok,
				       setup),
		cmocka_unit_test_setup(test_driver_ok_without_features_ok,
				       setup),
		cmocka_unit_test_setup(test_bits_are_never_cleared, setup),
		cmocka_unit_test_setup(test_reset_before_anybody_serves,
				       setup),
		cmocka_unit_test_setup(test_reset_of_a_device_that_runs,
				       setup),
		cmocka_unit_test_setup(test_broken_device, setup),
		cmocka_unit_test_setup(test_random_drivers, setup),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
