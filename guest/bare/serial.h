/* SPDX-License-Identifier: MIT */
/* The serial port, polled: neither direction waits. */
#ifndef BARE_SERIAL_H
#define BARE_SERIAL_H

#include <stdbool.h>
#include <stddef.h>

#define SERIAL_LINE 256

void serial_init(void);

/* Move some bytes each way. Return: true when there were any */
bool serial_step(void);

/* The next line without its end, in a buffer that lasts until the next call;
 * NULL when there is none. */
char *serial_line(void);

/* "@ " before it and an end of line behind it. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void serial_put(const char *bytes, size_t count);

/* Wait until everything is out. */
void serial_flush(void);

#endif
