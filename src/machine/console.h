/* SPDX-License-Identifier: MIT */
/*
 * Where the serial port ends: the terminal, a file, a Unix socket or nowhere.
 * Input is read by the main loop; output is written by the vCPU thread that
 * sends it.
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

/* Connect it to a machine, once there is one. Main thread. */
void console_attach(struct console *console, struct machine *machine);

/* Before the machine is destroyed. */
void console_close(struct console *console);

/* The guest made room for input. Main thread. */
void console_feed(struct console *console);

#endif
