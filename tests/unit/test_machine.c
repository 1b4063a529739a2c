// SPDX-License-Identifier: MIT
/* What a guest asks of its machine, between the machine's threads. */
#include "unit.h"

#include "machine/machine.h"

static struct machine machine;

static int setup(void **state)
{
	memset(&machine, 0, sizeof(machine));
	machine.event_fd = -1;
	pthread_mutex_init(&machine.change, NULL);
	pthread_mutex_init(&machine.lock, NULL);
	pthread_cond_init(&machine.changed, NULL);
	machine.state = MACHINE_RUNNING;
	return 0;
}

/* A reset that is taken on has to be carried out, or a move waits for it for
 * ever: see lock_without_reset(). */
static void test_a_machine_that_ends_is_not_reset(void **state)
{
	static const unsigned int ends[] = { MACHINE_EVENT_POWEROFF,
					     MACHINE_EVENT_FAILED };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		setup(state);
		machine_post(&machine, MACHINE_EVENT_RESET);
		machine_post(&machine, (enum machine_event)ends[i]);
		assert_int_equal(machine_take_events(&machine), ends[i]);
		assert_false(machine.resetting);
	}
}

static void test_a_reset_is_taken_on(void **state)
{
	machine_post(&machine, MACHINE_EVENT_RESET);
	assert_int_equal(machine_take_events(&machine), MACHINE_EVENT_RESET);
	assert_true(machine.resetting);
}

static void test_no_move_of_a_guest_that_has_powered_off(void **state)
{
	struct error err = { "" };

	machine_post(&machine, MACHINE_EVENT_RESET);
	machine_post(&machine, MACHINE_EVENT_POWEROFF);
	machine_take_events(&machine);
	assert_int_equal(machine_finish_begin(&machine, &err), -1);
	assert_string_equal(err.message, "the guest has powered off");
	assert_int_equal(machine.state, MACHINE_RUNNING);
}

/* While the guest stands still for a move its wishes wait: they go along, or
 * are looked at again. */
static void test_wishes_wait_for_the_end_of_a_move(void **state)
{
	machine.state = MACHINE_FINISHING;
	machine_post(&machine, MACHINE_EVENT_RESET);
	machine_post(&machine, MACHINE_EVENT_POWEROFF);
	machine_post(&machine, MACHINE_EVENT_BALLOON);
	assert_int_equal(machine_take_events(&machine), MACHINE_EVENT_BALLOON);
	assert_int_equal(atomic_load(&machine.events),
			 MACHINE_EVENT_RESET | MACHINE_EVENT_POWEROFF);
	machine.state = MACHINE_MOVED;
	assert_int_equal(machine_take_events(&machine), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_machine_that_ends_is_not_reset,
				       setup),
		cmocka_unit_test_setup(test_a_reset_is_taken_on, setup),
		cmocka_unit_test_setup(
			test_no_move_of_a_guest_that_has_powered_off, setup),
		cmocka_unit_test_setup(test_wishes_wait_for_the_end_of_a_move,
				       setup),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
