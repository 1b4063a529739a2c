/* SPDX-License-Identifier: MIT */
/*
 * The destination of a migration: makes a guest out of a stream. The peer is
 * not trusted: every length is bounded before room is made, every frame is
 * translated, and a fault ends the connection, never the process.
 */
#ifndef MIGRATION_DESTINATION_H
#define MIGRATION_DESTINATION_H

#include "base/buffer.h"
#include "memory/guest_memory.h"
#include "migration/channel.h"

/* All members mandatory, called on the thread of migration_destination_run(),
 * in this order. Those that return int: 0, or -1 with @err. */
struct migration_host_ops {
	/* Make a machine of this shape, stopped.
	 * Return: its memory, or NULL with @err */
	struct guest_memory *(*create)(void *host, struct buffer_reader *config,
				       struct buffer_reader *cpuid,
				       struct error *err);
	/* One STATE record; in the order of the stream. */
	int (*load_state)(void *host, uint32_t kind, uint32_t instance,
			  struct buffer_reader *payload, struct error *err);
	/* All memory and state is here: can it run? */
	int (*loaded)(void *host, struct error *err);
	/* The source has committed: the guest is ours. */
	void (*arrive)(void *host, bool run);
};

/**
 * migration_destination_run() - Take a guest in from @channel
 *
 * Return: 0 when the guest is here, or -1 with @err when it is not; the source
 * has been told why where it still listened. What create() made is the
 * caller's to destroy in either case.
 */
int migration_destination_run(struct channel *channel,
			      const struct migration_host_ops *ops, void *host,
			      struct error *err);

#endif
