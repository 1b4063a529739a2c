/* SPDX-License-Identifier: MIT */
/*
 * Where the serial port ends: the terminal, a file, a Unix socket or nowhere.
 * A vCPU sends its bytes itself as long as the socket takes them at once, which
 * spares two switches of threads a byte. What it does not take, or another kind of
 * end might make it wait for, goes into a buffer that the main loop passes on: a
 * vCPU never waits for a reader. What does not fit is lost.
 */
#ifndef MACHINE_CONSOLE_H
#define MACHINE_CONSOLE_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include <termios.h>

#include "base/error.h"
#include "machine/machine.h"

#define CONSOLE_PENDING 256
#define CONSOLE_OUTPUT 65536 /* a power of two */

struct console {
	struct machine *machine; /* NULL until attached */
	sd_event *event;
	int out_fd, listen_fd;
	char path[108]; /* of the socket, to be removed; "" for none */
	bool terminal, escape;
	struct termios saved;
	sd_event_source *input, *listener;
	uint8_t pending[CONSOLE_PENDING]; /* read, not yet taken by the guest */
	size_t pending_used;
	sd_event_source *writable; /* NULL where one can always write: a file */
	/* Written by the guest, not yet passed on. Indices run freely; the
	 * device lock is held to look at the other side's. */
	uint8_t output[CONSOLE_OUTPUT];
	uint32_t output_head; /* a vCPU's */
	uint32_t output_tail; /* the main thread's */
};

/**
 * console_open() - Open the far end of a serial port
 * @spec:	"stdio", "file:PATH", "unix:PATH" or "none"
 *
 * On stdio a terminal is put into raw mode until console_close(); Ctrl-A x
 * ends the event loop, Ctrl-A Ctrl-A sends one Ctrl-A.
 *
 * Return: 0, or -1 with @err
 */
int console_open(struct console *console, const char *spec, sd_event *event,
		 struct error *err);

/* Connect it to a machine, once there is one. What came before waits until
 * console_serve() finds it paused or running. Main thread. */
void console_attach(struct console *console, struct machine *machine);

/* Before the machine is destroyed. */
void console_close(struct console *console);

/* The guest made room for input, left output, or may take input again: it has
 * come in, or its move has failed. Main thread. */
void console_serve(struct console *console);

#endif
