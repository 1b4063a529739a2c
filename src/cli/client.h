/* SPDX-License-Identifier: MIT */
/* The client's end of a control socket, for the commands that use one. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include <jansson.h>

#include "cli/cli.h"
#include "qmp/framing.h"

/* What all of these commands take. A command's own argp has client_argp as a
 * child, and gives it this as input. */
struct client_options {
	const char *control; /* path of the socket */
	bool json;
};

extern const struct argp client_argp;

struct client {
	const char *path;
	int fd;
	struct qmp_framing framing;
	char data[4096]; /* read, not yet looked at */
	const char *next;
	size_t left;
	json_t *end; /* data of the last event MIGRATION, or NULL */
};

enum client_message {
	CLIENT_FAILED = -1,
	CLIENT_NOTHING,	 /* in the time given */
	CLIENT_RECEIVED,
	CLIENT_CLOSED,	 /* the machine's process has ended */
};

/**
 * client_open() - Connect, check who answers, negotiate
 * @path:	kept as it is, for messages
 *
 * To be undone by client_close() in any case.
 *
 * Return: 0, or -1 with @err
 */
int client_open(struct client *client, const char *path, struct error *err);
void client_close(struct client *client);

/* @arguments: consumed; NULL for none. Return: 0, or -1 with @err */
int client_send(struct client *client, const char *command, json_t *arguments,
		struct error *err);

/**
 * client_receive() - Wait for a message
 * @timeout_ms:	-1: as long as it takes
 * @message:	filled for CLIENT_RECEIVED; the caller's
 *
 * The event MIGRATION is kept in client->end as well. A signal ends the wait
 * as the timeout does.
 */
enum client_message client_receive(struct client *client, int timeout_ms,
				   json_t **message, struct error *err);

/**
 * client_call() - Have one command carried out
 * @arguments:	consumed; NULL for none
 * @result:	filled with what it returns, the caller's; may be NULL
 *
 * Return: 0, or -1 with @err: the machine's own words where it refuses
 */
int client_call(struct client *client, const char *command, json_t *arguments,
		json_t **result, struct error *err);

/* Print one object and a newline on stdout. */
void client_print(const json_t *object);

int64_t client_now_ms(void);

#endif
