/* SPDX-License-Identifier: MIT */
/*
 * The control socket: QMP, as QEMU's clients speak it, for what aerostat does.
 * Runs on the main loop; every read and write is bounded and non-blocking.
 */
#ifndef QMP_SERVER_H
#define QMP_SERVER_H

#include <systemd/sd-event.h>

#include "base/error.h"
#include "machine/machine.h"
#include "machine/move.h"

struct qmp_server;

struct qmp_context {
	sd_event *event;
	struct machine *machine; /* NULL while a guest is still coming in */
	struct outgoing *outgoing;
	/* "quit": end the process in order. */
	void (*quit)(void *owner);
	void *owner;
};

/**
 * qmp_server_open() - Listen at @path (mode 0600)
 *
 * Return: 0 with *@server, or -1 with @err
 */
int qmp_server_open(struct qmp_server **server, const char *path,
		    const struct qmp_context *context, struct error *err);

/* Send what waits (for at most a second), close all, remove the socket. */
void qmp_server_close(struct qmp_server *server);

/* The guest has come in. */
void qmp_server_set_machine(struct qmp_server *server,
			    struct machine *machine);

/* Events to every client that is past capabilities negotiation. */
void qmp_server_event_simple(struct qmp_server *server, const char *name);
/* BALLOON_CHANGE with the guest's actual size. */
void qmp_server_event_balloon(struct qmp_server *server);
/* MIGRATION with all that query-migrate tells, at the end of a move. */
void qmp_server_event_migration(struct qmp_server *server);

#endif
