// SPDX-License-Identifier: MIT
/* COM1: a 16550A. */
#include <linux/serial_reg.h>
#include <string.h>

#include "x86/serial.h"

void serial_init(struct serial *serial, const struct serial_ops *ops,
		 void *owner)
{
	memset(serial, 0, sizeof(*serial));
	serial->ops = ops;
	serial->owner = owner;
	serial->state.dll = 1; /* 115200 baud */
}

static void update_interrupt(struct serial *serial)
{
	const struct serial_state *s = &serial->state;
	bool level = ((s->ier & UART_IER_RDI) && s->fifo_used) ||
		     ((s->ier & UART_IER_THRI) && s->transmit_empty_pending);

	if (level == serial->level)
		return;
	serial->level = level;
	serial->ops->interrupt(serial->owner, level);
}

void serial_reset(struct serial *serial)
{
	memset(&serial->state, 0, sizeof(serial->state));
	serial->state.dll = 1;
	update_interrupt(serial);
}

static uint8_t take_input(struct serial *serial)
{
	struct serial_state *s = &serial->state;
	uint8_t byte;

	if (!s->fifo_used)
		return 0;
	byte = s->fifo[0];
	s->fifo_used--;
	memmove(s->fifo, s->fifo + 1, s->fifo_used);
	return byte;
}

/* Input waits and can come again: the FIFO ran empty, or loopback ended. */
static void offer_room(struct serial *serial)
{
	const struct serial_state *s = &serial->state;

	if (!serial->wants_room || s->fifo_used || (s->mcr & UART_MCR_LOOP))
		return;
	serial->wants_room = false;
	serial->ops->room(serial->owner);
}

/* Why the line is raised; reading it ends a transmitter interrupt. */
static uint8_t identify(struct serial *serial)
{
	struct serial_state *s = &serial->state;
	uint8_t fifo = s->fcr & UART_FCR_ENABLE_FIFO ? 0xc0 : 0;

	if ((s->ier & UART_IER_RDI) && s->fifo_used)
		return fifo | UART_IIR_RDI;
	if ((s->ier & UART_IER_THRI) && s->transmit_empty_pending) {
		s->transmit_empty_pending = false;
		return fifo | UART_IIR_THRI;
	}
	return fifo | UART_IIR_NO_INT;
}

/* Modem lines: a peer that is always there, or the lines looped back. */
static uint8_t modem_status(const struct serial_state *s)
{
	uint8_t msr = 0;

	if (!(s->mcr & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	if (s->mcr & UART_MCR_RTS)
		msr |= UART_MSR_CTS;
	if (s->mcr & UART_MCR_DTR)
		msr |= UART_MSR_DSR;
	if (s->mcr & UART_MCR_OUT1)
		msr |= UART_MSR_RI;
	if (s->mcr & UART_MCR_OUT2)
		msr |= UART_MSR_DCD;
	return msr;
}

static uint8_t read_register(struct serial *serial, unsigned int reg)
{
	struct serial_state *s = &serial->state;
	bool divisor = s->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_RX:
		return divisor ? s->dll : take_input(serial);
	case UART_IER:
		return divisor ? s->dlm : s->ier;
	case UART_IIR:
		return identify(serial);
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		return UART_LSR_THRE | UART_LSR_TEMT |
		       (s->fifo_used ? UART_LSR_DR : 0);
	case UART_MSR:
		return modem_status(s);
	default:
		return s->scr;
	}
}

uint8_t serial_read(struct serial *serial, unsigned int reg)
{
	uint8_t value = read_register(serial, reg);

	update_interrupt(serial);
	offer_room(serial);
	return value;
}

static void transmit(struct serial *serial, uint8_t byte)
{
	struct serial_state *s = &serial->state;

	if (s->mcr & UART_MCR_LOOP) {
		if (s->fifo_used < SERIAL_FIFO)
			s->fifo[s->fifo_used++] = byte;
	} else {
		serial->ops->output(serial->owner, byte);
	}
	s->transmit_empty_pending = true;
	/* The line falls and rises again: the I/O APIC looks for edges. */
	if (serial->level && !((s->ier & UART_IER_RDI) && s->fifo_used)) {
		serial->level = false;
		serial->ops->interrupt(serial->owner, false);
	}
}

static void write_fifo_control(struct serial_state *s, uint8_t value)
{
	if (value & UART_FCR_CLEAR_RCVR)
		s->fifo_used = 0;
	s->fcr = value & ~(UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
}

static void write_interrupt_enable(struct serial_state *s, uint8_t value)
{
	/* Enabling it while the transmitter is empty raises it at once. */
	if ((value & UART_IER_THRI) && !(s->ier & UART_IER_THRI))
		s->transmit_empty_pending = true;
	s->ier = value & 0x0f;
}

void serial_write(struct serial *serial, unsigned int reg, uint8_t value)
{
	struct serial_state *s = &serial->state;
	bool divisor = s->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (divisor)
			s->dll = value;
		else
			transmit(serial, value);
		break;
	case UART_IER:
		if (divisor)
			s->dlm = value;
		else
			write_interrupt_enable(s, value);
		break;
	case UART_FCR:
		write_fifo_control(s, value);
		break;
	case UART_LCR:
		s->lcr = value;
		break;
	case UART_MCR:
		s->mcr = value & 0x1f;
		break;
	case UART_SCR:
		s->scr = value;
		break;
	default: /* line and modem status are read-only */
		break;
	}
	update_interrupt(serial);
	offer_room(serial);
}

size_t serial_input(struct serial *serial, const uint8_t *bytes, size_t count)
{
	struct serial_state *s = &serial->state;
	size_t room = SERIAL_FIFO - s->fifo_used;

	if (s->mcr & UART_MCR_LOOP)
		room = 0;
	serial->wants_room = count > room;
	if (count > room)
		count = room;
	memcpy(s->fifo + s->fifo_used, bytes, count);
	s->fifo_used += count;
	update_interrupt(serial);
	return count;
}

int serial_load(struct serial *serial, const struct serial_state *state)
{
	if (state->fifo_used > SERIAL_FIFO)
		return -1;
	serial->state = *state;
	serial->level = false;
	update_interrupt(serial);
	return 0;
}
