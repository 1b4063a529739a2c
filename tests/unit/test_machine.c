// SPDX-License-Identifier: MIT
/* What a guest asks of its machine, between the machine's threads. */
#include "unit.h"

#include "machine/machine.h"
#include "machine/state.h"

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

/* ------------------------------------------- what a stream must bring --- */

static const struct {
	uint32_t kind, instance;
} whole[] = {
	{ STATE_MACHINE, 0 }, { STATE_IRQCHIP, 0 }, { STATE_VCPU, 0 },
	{ STATE_VCPU, 1 }, { STATE_SERIAL, 0 }, { STATE_BALLOON, 0 },
	{ STATE_CLOCK, 0 },
};

static const struct machine_config two_cpus = { .cpus = 2, .balloon = true };

/* All but @without. */
static struct machine_states states_but(size_t without)
{
	struct machine_states states = { 0 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(whole); i++)
		if (i != without)
			assert_int_equal(machine_states_add(&states,
							    whole[i].kind,
							    whole[i].instance,
							    NULL), 0);
	return states;
}

static void test_every_state_has_to_come(void **state)
{
	struct machine_config no_balloon = two_cpus;
	struct machine_states states = states_but(SIZE_MAX);
	size_t i;

	assert_int_equal(machine_states_check(&states, &two_cpus, NULL), 0);
	no_balloon.balloon = false;
	assert_int_equal(machine_states_check(&states, &no_balloon, NULL), -1);
	for (i = 0; i < ARRAY_SIZE(whole); i++) {
		states = states_but(i);
		assert_int_equal(machine_states_check(&states, &two_cpus,
						      NULL), -1);
	}
}

/* CPU 0 twice is not CPU 0 and CPU 1. */
static void test_no_state_comes_twice_or_behind_the_clock(void **state)
{
	struct machine_states states;
	size_t i, last = ARRAY_SIZE(whole) - 1;

	for (i = 0; i < ARRAY_SIZE(whole); i++) {
		states = states_but(last);
		assert_int_equal(machine_states_add(&states, whole[i].kind,
						    whole[i].instance, NULL),
				 i == last ? 0 : -1);
		states = states_but(i == last ? SIZE_MAX : i);
		assert_int_equal(machine_states_add(&states, whole[i].kind,
						    whole[i].instance, NULL),
				 -1);
	}
	memset(&states, 0, sizeof(states));
	assert_int_equal(machine_states_add(&states, STATE_SERIAL, 1, NULL),
			 -1);
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
		cmocka_unit_test(test_every_state_has_to_come),
		cmocka_unit_test(
			test_no_state_comes_twice_or_behind_the_clock),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
