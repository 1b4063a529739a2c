// SPDX-License-Identifier: MIT
/* COM1 as Linux's 8250 driver, a boot loader and a hostile guest use it. */
#include "unit.h"

#include <linux/serial_reg.h>

#include "x86/serial.h"

static struct serial serial;
static char output[64];
static unsigned int output_used, edges, rooms;
static bool line;

static void on_output(void *owner, uint8_t byte)
{
	assert_true(output_used < sizeof(output));
	output[output_used++] = byte;
}

/* Called at a change only. */
static void on_interrupt(void *owner, bool level)
{
	assert_int_not_equal(line, level);
	edges += level;
	line = level;
}

static void on_room(void *owner)
{
	rooms++;
}

static const struct serial_ops ops = {
	.output = on_output,
	.interrupt = on_interrupt,
	.room = on_room,
};

static int setup(void **state)
{
	output_used = edges = rooms = 0;
	line = false;
	serial_init(&serial, &ops, NULL);
	return 0;
}

static void out(unsigned int reg, uint8_t value)
{
	serial_write(&serial, reg, value);
}

static uint8_t in(unsigned int reg)
{
	return serial_read(&serial, reg);
}

static size_t type(const char *text)
{
	return serial_input(&serial, (const uint8_t *)text, strlen(text));
}

static void test_power_on(void **state)
{
	assert_int_equal(in(UART_IER), 0);
	assert_int_equal(in(UART_IIR), UART_IIR_NO_INT);
	assert_int_equal(in(UART_LCR), 0);
	assert_int_equal(in(UART_MCR), 0);
	assert_int_equal(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	assert_int_equal(in(UART_MSR), UART_MSR_DCD | UART_MSR_DSR |
					       UART_MSR_CTS);
	assert_int_equal(in(UART_RX), 0);
	assert_false(line);
}

static void test_registers(void **state)
{
	out(UART_SCR, 0xa5);
	assert_int_equal(in(UART_SCR), 0xa5);
	out(UART_LCR, UART_LCR_WLEN8 | UART_LCR_DLAB);
	assert_int_equal(in(UART_LCR), UART_LCR_WLEN8 | UART_LCR_DLAB);
	assert_int_equal(in(UART_DLL), 1);
	out(UART_DLL, 0x0c);
	out(UART_DLM, 0x02);
	assert_int_equal(in(UART_DLL), 0x0c);
	assert_int_equal(in(UART_DLM), 0x02);
	/* No byte went out, no interrupt was enabled. */
	out(UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(output_used, 0);
	assert_int_equal(in(UART_IER), 0);
	/* Bits that are not there; registers that are read-only. */
	out(UART_MCR, 0xff);
	assert_int_equal(in(UART_MCR), 0x1f);
	out(UART_MCR, 0);
	out(UART_IER, 0xff);
	assert_int_equal(in(UART_IER), 0x0f);
	out(UART_LSR, 0xff);
	out(UART_MSR, 0xff);
	assert_int_equal(in(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
}

static void test_output(void **state)
{
	out(UART_TX, 'h');
	out(UART_TX, 'i');
	assert_memory_equal(output, "hi", 2);
	assert_int_equal(output_used, 2);
	assert_false(line);
	assert_true(in(UART_LSR) & UART_LSR_THRE);
}

static void test_transmitter_interrupt(void **state)
{
	out(UART_IER, UART_IER_THRI);
	assert_true(line); /* it is empty */
	assert_int_equal(in(UART_IIR), UART_IIR_THRI);
	assert_false(line); /* told once */
	assert_int_equal(in(UART_IIR), UART_IIR_NO_INT);
	/* Setting what is set raises nothing, clearing and setting does. */
	out(UART_IER, UART_IER_THRI);
	assert_false(line);
	out(UART_IER, 0);
	out(UART_IER, UART_IER_THRI);
	assert_true(line);
	/* Each byte that leaves is an edge. */
	edges = 0;
	out(UART_TX, 'a');
	out(UART_TX, 'b');
	assert_int_equal(edges, 2);
	assert_true(line);
	out(UART_IER, 0);
	assert_false(line);
	/* Not asked for: remembered, as the hardware does. */
	in(UART_IIR);
	out(UART_TX, 'c');
	assert_false(line);
}

static void test_input(void **state)
{
	assert_int_equal(type("abc"), 3);
	assert_false(line);
	out(UART_IER, UART_IER_RDI);
	assert_true(line);
	assert_int_equal(in(UART_IIR), UART_IIR_RDI);
	assert_true(line); /* until it is read */
	assert_true(in(UART_LSR) & UART_LSR_DR);
	assert_int_equal(in(UART_RX), 'a');
	assert_int_equal(in(UART_RX), 'b');
	assert_true(line);
	assert_int_equal(in(UART_RX), 'c');
	assert_false(line);
	assert_false(in(UART_LSR) & UART_LSR_DR);
	assert_int_equal(in(UART_RX), 0);
	assert_int_equal(edges, 1);
	assert_int_equal(rooms, 0);
}

/* Input comes first; then what the transmitter has to say. */
static void test_both_interrupts(void **state)
{
	out(UART_FCR, UART_FCR_ENABLE_FIFO);
	out(UART_IER, UART_IER_RDI | UART_IER_THRI);
	type("x");
	assert_int_equal(in(UART_IIR), 0xc0 | UART_IIR_RDI);
	out(UART_TX, 'y');
	assert_true(line);
	assert_int_equal(in(UART_RX), 'x');
	assert_true(line);
	assert_int_equal(in(UART_IIR), 0xc0 | UART_IIR_THRI);
	assert_false(line);
	assert_int_equal(in(UART_IIR), 0xc0 | UART_IIR_NO_INT);
	out(UART_FCR, 0);
	assert_int_equal(in(UART_IIR), UART_IIR_NO_INT);
}

static void test_full_fifo(void **state)
{
	char text[SERIAL_FIFO + 11];
	unsigned int i;

	memset(text, 'f', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(type(text), SERIAL_FIFO);
	assert_int_equal(type("g"), 0);
	assert_int_equal(rooms, 0);
	/* Told once, when it has run empty. */
	for (i = 0; i < SERIAL_FIFO; i++) {
		assert_int_equal(rooms, 0);
		assert_int_equal(in(UART_RX), 'f');
	}
	assert_int_equal(rooms, 1);
	assert_int_equal(in(UART_RX), 0);
	assert_int_equal(rooms, 1);
	/* All was taken: nobody waits. */
	assert_int_equal(type("ok"), 2);
	in(UART_RX);
	in(UART_RX);
	assert_int_equal(rooms, 1);
}

static void test_fifo_that_is_cleared(void **state)
{
	char text[SERIAL_FIFO + 2];

	memset(text, 'f', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	out(UART_IER, UART_IER_RDI);
	assert_int_equal(type(text), SERIAL_FIFO);
	assert_true(line);
	out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	assert_false(line);
	assert_int_equal(rooms, 1);
	assert_false(in(UART_LSR) & UART_LSR_DR);
}

static void test_loopback(void **state)
{
	unsigned int i;

	/* Linux looks for a port by this. */
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(in(UART_MSR), UART_MSR_DCD | UART_MSR_CTS);
	out(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1 | UART_MCR_DTR);
	assert_int_equal(in(UART_MSR), UART_MSR_RI | UART_MSR_DSR);
	out(UART_TX, 'l');
	assert_int_equal(output_used, 0);
	assert_true(in(UART_LSR) & UART_LSR_DR);
	assert_int_equal(in(UART_RX), 'l');
	/* More than fits is lost. */
	for (i = 0; i < SERIAL_FIFO + 5; i++)
		out(UART_TX, i);
	for (i = 0; i < SERIAL_FIFO; i++)
		assert_int_equal(in(UART_RX), i);
	assert_false(in(UART_LSR) & UART_LSR_DR);
	/* Nothing comes in from outside until it ends. */
	assert_int_equal(type("in"), 0);
	in(UART_LSR);
	assert_int_equal(rooms, 0);
	out(UART_MCR, 0);
	assert_int_equal(rooms, 1);
	assert_int_equal(type("in"), 2);
}

static void test_reset(void **state)
{
	out(UART_IER, UART_IER_RDI);
	out(UART_LCR, 3);
	type("abc");
	assert_true(line);
	serial_reset(&serial);
	assert_false(line);
	assert_int_equal(in(UART_LCR), 0);
	assert_int_equal(in(UART_IER), 0);
	assert_false(in(UART_LSR) & UART_LSR_DR);
	out(UART_LCR, UART_LCR_DLAB);
	assert_int_equal(in(UART_DLL), 1);
}

static void test_load(void **state)
{
	struct serial_state s;

	out(UART_IER, UART_IER_RDI);
	out(UART_LCR, 3);
	out(UART_SCR, 9);
	type("abc");
	s = serial.state;
	setup(NULL);
	assert_int_equal(serial_load(&serial, &s), 0);
	/* The line is raised again at the destination. */
	assert_true(line);
	assert_int_equal(in(UART_LCR), 3);
	assert_int_equal(in(UART_SCR), 9);
	assert_int_equal(in(UART_RX), 'a');
	assert_int_equal(in(UART_RX), 'b');
	assert_int_equal(in(UART_RX), 'c');
	assert_false(line);
}

static void test_load_of_what_cannot_be(void **state)
{
	struct serial_state s, before;
	unsigned int used;

	type("abc");
	before = s = serial.state;
	for (used = SERIAL_FIFO + 1; used < 256; used++) {
		s.fifo_used = used;
		assert_int_equal(serial_load(&serial, &s), -1);
	}
	assert_memory_equal(&serial.state, &before, sizeof(before));
	/* Any other bits are only odd. */
	memset(&s, 0xff, sizeof(s));
	s.transmit_empty_pending = true;
	s.fifo_used = SERIAL_FIFO;
	assert_int_equal(serial_load(&serial, &s), 0);
	for (used = 0; used < 8; used++)
		in(used);
}

/* Whatever a guest and a terminal do together. */
static void test_random_use(void **state)
{
	struct rng rng = rng_start("random use");
	unsigned int i, taken = 0, sent = 0;
	uint8_t bytes[100];

	for (i = 0; i < 200000; i++) {
		unsigned int reg = rng_below(&rng, 8);

		output_used = 0;
		if (rng_chance(&rng, 1, 20)) {
			size_t count = rng_below(&rng, sizeof(bytes));

			memset(bytes, i, sizeof(bytes));
			sent += count;
			taken += serial_input(&serial, bytes, count);
		} else if (rng_chance(&rng, 1, 2)) {
			in(reg);
		} else {
			out(reg, rng_next(&rng));
		}
		assert_true(serial.state.fifo_used <= SERIAL_FIFO);
		assert_int_equal(serial.level, line);
		assert_true(output_used <= 1);
	}
	assert_true(taken <= sent);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_power_on),
		TEST(test_registers),
		TEST(test_output),
		TEST(test_transmitter_interrupt),
		TEST(test_input),
		TEST(test_both_interrupts),
		TEST(test_full_fifo),
		TEST(test_fifo_that_is_cleared),
		TEST(test_loopback),
		TEST(test_reset),
		TEST(test_load),
		TEST(test_load_of_what_cannot_be),
		TEST(test_random_use),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
