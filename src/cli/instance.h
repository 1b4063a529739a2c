/* SPDX-License-Identifier: MIT */
/* The process of one machine: its main loop from birth to end. */
#ifndef CLI_INSTANCE_H
#define CLI_INSTANCE_H

#include "base/error.h"
#include "machine/config.h"

struct instance_options {
	struct machine_config config;
	const char *control;  /* path of the control socket, or NULL */
	const char *serial;   /* where the serial port ends */
	const char *incoming; /* URI to take a guest in from, or NULL */
	bool paused;	      /* do not run at once */
};

/**
 * instance_run() - Be that machine until it ends
 *
 * Return: 0 when the guest powered off, moved away, or was told to quit;
 * -1 with @err when it could not start or failed
 */
int instance_run(struct instance_options *options, struct error *err);

#endif
