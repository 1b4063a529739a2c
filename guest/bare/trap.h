/* SPDX-License-Identifier: MIT */
/* Faults, and the ends of the machine. */
#ifndef BARE_TRAP_H
#define BARE_TRAP_H

#include <stdint.h>

void trap_init(void);

void power_off(void) __attribute__((noreturn));
void reset(void) __attribute__((noreturn));

#endif
