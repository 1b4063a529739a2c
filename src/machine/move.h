/* SPDX-License-Identifier: MIT */
/* Moving a machine: the source's thread, and arriving at the destination. */
#ifndef MACHINE_MOVE_H
#define MACHINE_MOVE_H

#include "machine/machine.h"
#include "migration/source.h"

struct outgoing {
	struct machine *machine;
	struct migration_source source;
	char uri[512];
	pthread_t thread;
	bool used;   /* source holds something; started at least once */
	bool active; /* a thread is there, to be joined */
};

/**
 * outgoing_start() - Begin to move the machine to @uri, on a thread
 *
 * When it is over MACHINE_EVENT_MIGRATION is posted; the main thread then
 * calls outgoing_end(). A second start after that is fine.
 *
 * Return: 0, or -1 with @err when one is under way or the state forbids it
 */
int outgoing_start(struct outgoing *outgoing, struct machine *machine,
		   const char *uri, const struct migration_options *options,
		   struct error *err);

/* Ask it to end; harmless when none is under way. */
void outgoing_cancel(struct outgoing *outgoing);

/* How the last one stands; state MIGRATION_NONE before the first. */
void outgoing_status(struct outgoing *outgoing,
		     struct migration_status *status);

/* After MACHINE_EVENT_MIGRATION, or at exit (waits for the thread). */
void outgoing_end(struct outgoing *outgoing);

/* Free what the last one left. */
void outgoing_destroy(struct outgoing *outgoing);

/**
 * machine_incoming() - Take a guest in
 * @fd:		connection to the source; owned by the callee. The main thread
 *		may shut it down to end this early.
 * @config:	the paths of kernel and initrd in it, where not empty, and the
 *		backing replace those of the stream
 * @paused:	leave the guest paused when it has come
 * @created:	called when @machine exists, still empty; may be NULL
 *
 * Creates @machine from the stream, loads it, and lets it run at the source's
 * commit. Blocks: for a thread of its own.
 *
 * Return: 0 with the guest here, or -1 with @err. In either case @machine is
 * the caller's to destroy if @created was called.
 */
int machine_incoming(struct machine *machine, int fd,
		     const struct machine_config *config, bool paused,
		     void (*created)(void *owner), void *owner,
		     struct error *err);

#endif
