// SPDX-License-Identifier: MIT
/* What is typed waits for a guest that can take it. */
#include "unit.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/socket.h"
#include "machine/console.h"

#define TYPED 1000 /* more than the console keeps and the FIFO holds */

/* A serial port whose far end is a Unix socket with a client, and as much of a
 * machine as that needs. */
struct port {
	struct machine machine;
	struct console console;
	sd_event *event;
	int client;
	uint8_t got[TYPED + SERIAL_FIFO]; /* by the guest */
	size_t count;
};

static char directory[] = "/tmp/aerostat-console-XXXXXX";
static struct port port;

static void on_output(void *owner, uint8_t byte)
{
}

static void on_interrupt(void *owner, bool level)
{
}

static void on_room(void *owner)
{
	struct machine *machine = owner;

	machine->serial_room(machine->serial_owner);
}

static const struct serial_ops serial_ops = {
	.output = on_output,
	.interrupt = on_interrupt,
	.room = on_room,
};

/* As the main loop does, until there is nothing to do. */
static void settle(void)
{
	do {
		if (atomic_exchange(&port.machine.events, 0))
			console_serve(&port.console);
	} while (sd_event_run(port.event, 0) > 0 ||
		 atomic_load(&port.machine.events));
}

static void type(const uint8_t *bytes, size_t count)
{
	assert_int_equal(send(port.client, bytes, count, 0), count);
	settle();
}

/* The guest reads what there is, and goes on while more comes. */
static void guest_reads(void)
{
	struct serial *serial = &port.machine.serial;

	while (serial_read(serial, UART_LSR) & UART_LSR_DR) {
		assert_true(port.count < sizeof(port.got));
		port.got[port.count++] = serial_read(serial, UART_RX);
		settle();
	}
}

static void assert_connected(void)
{
	char byte;

	assert_int_equal(recv(port.client, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void go_to(enum machine_state state)
{
	port.machine.state = state;
	console_serve(&port.console);
	settle();
}

static int setup(void **state)
{
	char spec[64];
	struct error err;

	memset(&port, 0, sizeof(port));
	pthread_mutex_init(&port.machine.lock, NULL);
	pthread_mutex_init(&port.machine.device_lock, NULL);
	port.machine.event_fd = eventfd(0, EFD_NONBLOCK);
	serial_init(&port.machine.serial, &serial_ops, &port.machine);
	assert_true(sd_event_new(&port.event) >= 0);
	snprintf(spec, sizeof(spec), "unix:%s/serial", directory);
	assert_int_equal(console_open(&port.console, spec, port.event, &err),
			 0);
	port.client = socket_connect_unix(spec + 5, &err);
	assert_true(port.client >= 0);
	settle();
	return 0;
}

static int teardown(void **state)
{
	console_close(&port.console);
	close(port.client);
	close(port.machine.event_fd);
	sd_event_unref(port.event);
	return 0;
}

static void fill(uint8_t *bytes, size_t count)
{
	struct rng rng = rng_start("what is typed");
	size_t i;

	for (i = 0; i < count; i++)
		bytes[i] = rng_next(&rng);
}

/* More than is kept comes before the guest does; its own input, which it brings
 * along, is not touched and is first. */
static void test_typed_before_the_guest_comes_in(void **state)
{
	struct serial_state brought = { .fifo = "ab", .fifo_used = 2 };
	uint8_t typed[TYPED];

	fill(typed, sizeof(typed));
	type(typed, sizeof(typed));
	assert_connected();
	port.machine.state = MACHINE_INCOMING;
	console_attach(&port.console, &port.machine);
	go_to(MACHINE_INCOMING);
	assert_int_equal(port.machine.serial.state.fifo_used, 0);
	assert_int_equal(serial_load(&port.machine.serial, &brought), 0);
	go_to(MACHINE_RUNNING);
	guest_reads();
	assert_int_equal(port.count, 2 + TYPED);
	assert_memory_equal(port.got, "ab", 2);
	assert_memory_equal(port.got + 2, typed, TYPED);
	assert_connected();
}

/* What the serial port would take then is not in what was saved of it. */
static void test_typed_while_a_move_ends(void **state)
{
	uint8_t typed[TYPED];

	fill(typed, sizeof(typed));
	port.machine.state = MACHINE_RUNNING;
	console_attach(&port.console, &port.machine);
	type(typed, 10);
	assert_int_equal(port.machine.serial.state.fifo_used, 10);
	go_to(MACHINE_FINISHING);
	type(typed + 10, TYPED - 10);
	assert_int_equal(port.machine.serial.state.fifo_used, 10);
	assert_connected();

	/* The move fails. */
	go_to(MACHINE_RUNNING);
	guest_reads();
	assert_int_equal(port.count, TYPED);
	assert_memory_equal(port.got, typed, TYPED);

	/* Another does not. */
	go_to(MACHINE_FINISHING);
	go_to(MACHINE_MOVED);
	type(typed, 10);
	assert_int_equal(port.machine.serial.state.fifo_used, 0);
}

/* A paused machine's serial port goes along with all it has. */
static void test_typed_while_paused(void **state)
{
	static const uint8_t typed[SERIAL_FIFO + 1];

	port.machine.state = MACHINE_PAUSED;
	console_attach(&port.console, &port.machine);
	type(typed, sizeof(typed));
	assert_int_equal(port.machine.serial.state.fifo_used, SERIAL_FIFO);
	guest_reads();
	assert_int_equal(port.count, sizeof(typed));
}

/* A new client does not inherit what the last one typed, and can type. */
static void test_next_client(void **state)
{
	uint8_t typed[TYPED];
	struct error err;

	fill(typed, sizeof(typed));
	type(typed, sizeof(typed));
	close(port.client);
	port.client = socket_connect_unix(port.console.path, &err);
	assert_true(port.client >= 0);
	settle();
	type(typed, 20);
	port.machine.state = MACHINE_RUNNING;
	console_attach(&port.console, &port.machine);
	go_to(MACHINE_RUNNING);
	guest_reads();
	assert_int_equal(port.count, 20);
	assert_memory_equal(port.got, typed, 20);
}

static int make_directory(void **state)
{
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	return rmdir(directory);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_typed_before_the_guest_comes_in),
		TEST(test_typed_while_a_move_ends),
		TEST(test_typed_while_paused),
		TEST(test_next_client),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
