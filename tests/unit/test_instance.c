// SPDX-License-Identifier: MIT
/* The main loop of a machine's process: what it ends with. */
#include "unit.h"

#include <sys/resource.h>

#undef fail /* of cmocka; instance.c has its own */
#include "cli/instance.c" /* what is looked at is local to it */

static struct instance instance;

static int setup(void **state)
{
	memset(&instance, 0, sizeof(instance));
	instance.listen_fd = instance.incoming_fd = instance.wake_fd = -1;
	pthread_mutex_init(&instance.lock, NULL);
	pthread_mutex_init(&instance.machine.lock, NULL);
	instance.machine.state = MACHINE_RUNNING;
	instance.machine.event_fd = eventfd(0, EFD_NONBLOCK);
	return sd_event_new(&instance.event) < 0;
}

static int teardown(void **state)
{
	close(instance.machine.event_fd);
	sd_event_unref(instance.event);
	return 0;
}

static int exit_status(void)
{
	int status = -1;

	on_machine_event(NULL, instance.machine.event_fd, EPOLLIN, &instance);
	sd_event_get_exit_code(instance.event, &status);
	return status;
}

static void test_power_off(void **state)
{
	machine_post(&instance.machine, MACHINE_EVENT_POWEROFF);
	assert_int_equal(exit_status(), 0);
}

/* One CPU fails and another powers off before the main loop looks. */
static void test_failure_and_power_off(void **state)
{
	machine_fail(&instance.machine, "vCPU 1 cannot go on");
	machine_post(&instance.machine, MACHINE_EVENT_POWEROFF);
	assert_int_equal(exit_status(), 1);
	assert_string_equal(instance.failure.message, "vCPU 1 cannot go on");
}

/* The descriptor that is given out next. */
static int next_fd(void)
{
	int fd = dup(STDIN_FILENO);

	assert_true(fd >= 0);
	close(fd);
	return fd;
}

/* There is a descriptor to listen with, and none beside it: what was made goes
 * away again, and the reason is told. */
static void test_no_descriptor_to_wait_for_a_guest(void **state)
{
	static char directory[] = "/tmp/aerostat-instance-XXXXXX";
	struct instance_options options = { 0 };
	struct rlimit before, few;
	struct error err = { "" };
	char uri[64];
	int fd, rc;

	assert_non_null(mkdtemp(directory));
	snprintf(uri, sizeof(uri), "unix:%s/move", directory);
	options.incoming = uri;
	instance.options = &options;
	fd = next_fd();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = fd + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	rc = listen_for_guest(&instance, &err);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(rc, -1);
	assert_non_null(strstr(err.message, strerror(EMFILE)));
	end_incoming(&instance);
	assert_int_equal(next_fd(), fd);
	assert_int_equal(access(uri + 5, F_OK), -1);
	assert_int_equal(rmdir(directory), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_power_off),
		TEST(test_failure_and_power_off),
		TEST(test_no_descriptor_to_wait_for_a_guest),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
