// SPDX-License-Identifier: MIT
/*
 * COM1, a 16550A, polled. Each access to it leaves the guest and is expensive,
 * so the transmitter is asked once per FIFO's worth of bytes.
 */
#include "serial.h"

#include <linux/serial_reg.h>

#include "clock.h"
#include "lib.h"
#include "machine.h"

#define COM1 0x3f8
#define FIFO 16
#define POLL_MICROSECONDS 1000
#define OUTPUT_SIZE 65536

static char output[OUTPUT_SIZE];
static size_t output_head, output_tail; /* written, sent; both only grow */
static char input[SERIAL_LINE];
static size_t input_used;
static bool input_complete;
static struct timer poll_timer;

void serial_init(void)
{
	out8(COM1 + UART_IER, 0);
	out8(COM1 + UART_LCR, UART_LCR_DLAB);
	out8(COM1 + UART_DLL, 1); /* 115200 baud */
	out8(COM1 + UART_DLM, 0);
	out8(COM1 + UART_LCR, UART_LCR_WLEN8);
	out8(COM1 + UART_FCR, UART_FCR_ENABLE_FIFO);
	out8(COM1 + UART_MCR, UART_MCR_DTR | UART_MCR_RTS);
}

static bool send_some(void)
{
	unsigned int i;

	if (output_tail == output_head ||
	    !(in8(COM1 + UART_LSR) & UART_LSR_THRE))
		return false;
	for (i = 0; i < FIFO && output_tail != output_head; i++)
		out8(COM1 + UART_TX,
		     (uint8_t)output[output_tail++ % OUTPUT_SIZE]);
	return true;
}

static void accept(char byte)
{
	if (byte == '\n' || byte == '\r') {
		input[input_used] = '\0';
		input_complete = input_used > 0;
		return;
	}
	/* A line that is too long is cut: no command is. */
	if (input_used < SERIAL_LINE - 1)
		input[input_used++] = byte;
}

static bool receive_some(void)
{
	bool any = false;

	if (input_complete || !timer_due(&poll_timer, POLL_MICROSECONDS))
		return false;
	while (!input_complete && in8(COM1 + UART_LSR) & UART_LSR_DR) {
		accept((char)in8(COM1 + UART_RX));
		any = true;
	}
	return any;
}

bool serial_step(void)
{
	bool sent = send_some();

	return receive_some() || sent;
}

char *serial_line(void)
{
	if (!input_complete)
		return NULL;
	input_complete = false;
	input_used = 0;
	return input;
}

void serial_put(const char *bytes, size_t count)
{
	while (count--) {
		while (output_head - output_tail == OUTPUT_SIZE)
			send_some();
		output[output_head++ % OUTPUT_SIZE] = *bytes++;
	}
}

void say(const char *format, ...)
{
	char line[1024];
	va_list args;
	size_t length;

	va_start(args, format);
	length = format_text(line, sizeof(line), format, args);
	va_end(args);
	serial_put("@ ", 2);
	serial_put(line, length);
	serial_put("\n", 1);
}

void serial_flush(void)
{
	while (output_tail != output_head)
		send_some();
	while (!(in8(COM1 + UART_LSR) & UART_LSR_TEMT))
		relax();
}
