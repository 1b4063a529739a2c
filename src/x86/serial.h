/* SPDX-License-Identifier: MIT */
/*
 * COM1: a 16550A as far as Linux, boot loaders and tests use it. Output goes
 * to a function, input comes from serial_input(). No I/O of its own; the
 * caller holds one lock around every call.
 */
#ifndef X86_SERIAL_H
#define X86_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERIAL_FIFO 64

struct serial_ops {
	void (*output)(void *owner, uint8_t byte);
	void (*interrupt)(void *owner, bool level);
	/* The guest made room after serial_input() had taken less than all. */
	void (*room)(void *owner);
};

/* All there is to it; saved and loaded as it is, field by field. */
struct serial_state {
	uint8_t ier, lcr, mcr, scr, dll, dlm, fcr;
	bool transmit_empty_pending;
	uint8_t fifo[SERIAL_FIFO];
	uint8_t fifo_used;
};

struct serial {
	struct serial_state state;
	const struct serial_ops *ops;
	void *owner;
	bool level, wants_room;
};

void serial_init(struct serial *serial, const struct serial_ops *ops,
		 void *owner);
void serial_reset(struct serial *serial);

/* @reg: offset from the base port, 0 to 7 */
uint8_t serial_read(struct serial *serial, unsigned int reg);
void serial_write(struct serial *serial, unsigned int reg, uint8_t value);

/* Return: how many of the bytes were taken */
size_t serial_input(struct serial *serial, const uint8_t *bytes, size_t count);

/* Return (load): 0, or -1 when a value cannot be */
int serial_load(struct serial *serial, const struct serial_state *state);

#endif
