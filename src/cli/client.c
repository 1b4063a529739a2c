// SPDX-License-Identifier: MIT
/* The client's end of a control socket. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/socket.h"
#include "cli/client.h"

#define PATIENCE_MS 10000 /* for a reply */

enum {
	OPTION_CONTROL = 0x1000,
	OPTION_JSON,
};

static const struct argp_option options[] = {
	{ "control", OPTION_CONTROL, "PATH", 0,
	  "Control socket of the machine, as given to 'aerostat run'", 0 },
	{ "json", OPTION_JSON, NULL, 0,
	  "Print one JSON object, and nothing else, on stdout", 0 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct client_options *o = state->input;

	switch (key) {
	case OPTION_CONTROL:
		o->control = arg;
		break;
	case OPTION_JSON:
		o->json = true;
		break;
	case ARGP_KEY_END:
		if (!o->control)
			cli_usage_error(state, "--control PATH is needed");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

const struct argp client_argp = { options, parse_option, NULL, NULL, NULL,
				  NULL, NULL };

int64_t client_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ll + now.tv_nsec / 1000000;
}

void client_print(const json_t *object)
{
	json_dumpf(object, stdout, JSON_INDENT(2));
	putchar('\n');
}

/* ----------------------------------------------------------- messages --- */

int client_send(struct client *client, const char *command, json_t *arguments,
		struct error *err)
{
	json_t *request = json_pack("{s:s,s:o*}", "execute", command,
				    "arguments", arguments);
	cleanup_free char *text = json_dumps(request, JSON_COMPACT);
	size_t length, sent = 0;
	ssize_t n;

	json_decref(request);
	if (!text)
		return error_set(err, "%s: an argument is not UTF-8", command);
	length = strlen(text);
	text[length++] = '\n'; /* in place of the zero byte */
	while (sent < length) {
		n = send(client->fd, text + sent, length - sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, errno, "%s",
					       client->path);
		sent += n;
	}
	return 0;
}

static int not_ours(const struct client *client, struct error *err)
{
	return error_set(err, "%s does not answer as a control socket of "
			 "aerostat does: give the path that 'aerostat run "
			 "--control' got", client->path);
}

/* An object out of what is here already. Return: NULL when there is none, or
 * with *@bad set */
static json_t *next_message(struct client *client, bool *bad)
{
	const char *fault;
	json_t *message;

	switch (qmp_framing_next(&client->framing, &client->next,
				 &client->left, &fault)) {
	case QMP_FRAME_OBJECT:
		message = json_loadb(client->framing.text,
				     client->framing.used, 0, NULL);
		*bad = !message;
		return message;
	case QMP_FRAME_FAULT:
		*bad = true;
		return NULL;
	case QMP_FRAME_MORE:
		break;
	}
	return NULL;
}

/* Wait for bytes. */
static enum client_message read_more(struct client *client, int timeout_ms,
				     struct error *err)
{
	struct pollfd pollfd = { .fd = client->fd, .events = POLLIN };
	ssize_t n;

	if (poll(&pollfd, 1, timeout_ms) <= 0)
		return CLIENT_NOTHING;
	n = recv(client->fd, client->data, sizeof(client->data), MSG_DONTWAIT);
	/* A process that ends with our last question unread resets us. */
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return CLIENT_CLOSED;
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		error_set_errno(err, errno, "%s", client->path);
		return CLIENT_FAILED;
	}
	client->next = client->data;
	client->left = n > 0 ? n : 0;
	return n > 0 ? CLIENT_RECEIVED : CLIENT_NOTHING;
}

static void keep_end(struct client *client, json_t *message)
{
	const char *name = json_string_value(json_object_get(message, "event"));

	if (!name || strcmp(name, "MIGRATION"))
		return;
	json_decref(client->end);
	client->end = json_incref(json_object_get(message, "data"));
}

enum client_message client_receive(struct client *client, int timeout_ms,
				   json_t **message, struct error *err)
{
	enum client_message got = CLIENT_RECEIVED;
	int64_t until = client_now_ms() + timeout_ms, left;
	bool bad = false;

	for (;;) {
		*message = next_message(client, &bad);
		if (bad) {
			not_ours(client, err);
			return CLIENT_FAILED;
		}
		if (*message) {
			keep_end(client, *message);
			return CLIENT_RECEIVED;
		}
		if (got != CLIENT_RECEIVED)
			return got;
		left = until - client_now_ms();
		got = read_more(client, timeout_ms < 0 ? -1 :
				left > 0 ? left : 0, err);
	}
}

/* As client_receive(), but all that is not a message is a failure. */
static int receive_soon(struct client *client, int64_t until, json_t **message,
			struct error *err)
{
	int64_t left;

	for (;;) {
		left = until - client_now_ms();
		switch (client_receive(client, left > 0 ? left : 0, message,
				       err)) {
		case CLIENT_RECEIVED:
			return 0;
		case CLIENT_FAILED:
			return -1;
		case CLIENT_CLOSED:
			return error_set(err, "%s: the machine's process has "
					 "ended", client->path);
		case CLIENT_NOTHING:
			break; /* a signal, perhaps */
		}
		if (left <= 0)
			return error_set(err, "%s: no answer within %d s",
					 client->path, PATIENCE_MS / 1000);
	}
}

/* Is @reply one, and what does it say? Return: 0, -1 with @err, or 1 when it
 * is no reply */
static int take_reply(const struct client *client, const char *command,
		      json_t *reply, json_t **result, struct error *err)
{
	json_t *error = json_object_get(reply, "error"),
	       *value = json_object_get(reply, "return");
	const char *text = json_string_value(json_object_get(error, "desc"));

	if (error)
		return error_set(err, "%s: %s", client->path,
				 text ? text : command);
	if (!value)
		return 1;
	if (result)
		*result = json_incref(value);
	return 0;
}

int client_call(struct client *client, const char *command, json_t *arguments,
		json_t **result, struct error *err)
{
	int64_t until = client_now_ms() + PATIENCE_MS;
	json_t *message;
	int rc;

	if (client_send(client, command, arguments, err) < 0)
		return -1;
	do {
		if (receive_soon(client, until, &message, err) < 0)
			return -1;
		rc = take_reply(client, command, message, result, err);
		json_decref(message);
	} while (rc > 0);
	return rc;
}

/* --------------------------------------------------------------- open --- */

/* Return: 0 when @greeting is aerostat's, or -1 with @err */
static int check_greeting(const struct client *client, json_t *greeting,
			  struct error *err)
{
	const char *package = NULL;

	/* Sent in place of a greeting: too many clients. */
	if (json_object_get(greeting, "error"))
		return take_reply(client, "greeting", greeting, NULL, err);
	json_unpack(greeting, "{s:{s:{s:s}}}", "QMP", "version", "package",
		    &package);
	if (!package || strncmp(package, "aerostat ", 9))
		return not_ours(client, err);
	return 0;
}

static int negotiate(struct client *client, struct error *err)
{
	json_t *greeting;
	int rc;

	/* Silence and a closed door are no aerostat, either. */
	if (receive_soon(client, client_now_ms() + PATIENCE_MS, &greeting,
			 NULL) < 0)
		return not_ours(client, err);
	rc = check_greeting(client, greeting, err);
	json_decref(greeting);
	if (rc < 0)
		return -1;
	return client_call(client, "qmp_capabilities", NULL, NULL, err);
}

int client_open(struct client *client, const char *path, struct error *err)
{
	memset(client, 0, sizeof(*client));
	client->path = path;
	client->fd = socket_connect_unix(path, err);
	if (client->fd < 0) {
		struct error why = *err;

		return error_set(err, "%.400s; is there an 'aerostat run "
				 "--control' with this path?", why.message);
	}
	return negotiate(client, err);
}

void client_close(struct client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	json_decref(client->end);
	client->end = NULL;
}
