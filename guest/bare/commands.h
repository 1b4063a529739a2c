/* SPDX-License-Identifier: MIT */
/* Commands over the serial port, one a line, as of guest/agent. */
#ifndef BARE_COMMANDS_H
#define BARE_COMMANDS_H

#include <stdbool.h>

void commands_init(const char *command_line);

/* Obey the next line, carry a job on, beat. Return: true when there was work */
bool commands_step(void);

#endif
