// SPDX-License-Identifier: MIT
/*
 * The control socket: clients, their bytes in and out, events.
 *
 * A client is dropped by marking it: a handler may raise an event, an event
 * may drop the very client whose request is being handled. Marked clients are
 * freed by reap(), on entry from the event loop and on the way back to it.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/socket.h"
#include "qmp/answers.h"
#include "qmp/commands.h"
#include "qmp/framing.h"

#define MAX_CLIENTS 16
#define MAX_WAITING (1u << 20) /* bytes a client may leave unread */
#define READ_SIZE 4096 /* bytes a client may have handled at a time */
#define CLOSE_PATIENCE_MS 1000
/* Between two BALLOON_CHANGE on the way to a target: a guest writes `actual` a
 * thousand times a GiB. */
#define BALLOON_EVENT_US 1000000

struct client {
	struct qmp_server *server;
	int fd;
	sd_event_source *source;
	bool negotiated, dropped;
	struct buffer out; /* waits to be sent */
	size_t out_sent;   /* of it */
	struct qmp_framing framing;
};

struct qmp_server {
	struct qmp_context context;
	int fd;
	char *path;
	sd_event_source *listener;
	sd_event_source *balloon_timer; /* NULL: no BALLOON_CHANGE was lately */
	bool balloon_changed;		/* since the last one */
	uint64_t balloon_told;		/* `actual` of the last one */
	struct client *client[MAX_CLIENTS];
};

/* -------------------------------------------------------------- bytes --- */

static size_t waiting(const struct client *client)
{
	return client->out.used - client->out_sent;
}

static void drop(struct client *client)
{
	client->dropped = true;
	client->source = sd_event_source_disable_unref(client->source);
}

static void send_waiting(struct client *client)
{
	ssize_t n;

	while (waiting(client)) {
		n = send(client->fd, client->out.data + client->out_sent,
			 waiting(client), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			drop(client);
			return;
		}
		client->out_sent += n;
	}
	client->out.used = client->out_sent = 0;
}

static void queue(struct client *client, const char *text, size_t length)
{
	struct buffer *out = &client->out;

	/* Without this, a client that always lags a little would have the
	 * buffer grow for ever. */
	if (client->out_sent) {
		memmove(out->data, out->data + client->out_sent,
			waiting(client));
		out->used -= client->out_sent;
		client->out_sent = 0;
	}
	if (out->used + length + 1 > MAX_WAITING) {
		log_limited("control", "dropped a client that does not read");
		drop(client);
		return;
	}
	buffer_put(out, text, length);
	buffer_put(out, "\n", 1);
	if (out->failed)
		drop(client);
}

/* Send now what the socket takes, and the rest when it takes more. */
static void deliver(struct client *client, const json_t *object)
{
	cleanup_free char *text = NULL;
	uint32_t events = EPOLLIN;

	if (client->dropped)
		return;
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	if (!text) {
		drop(client); /* no memory: silence would be misread */
		return;
	}
	queue(client, text, strlen(text));
	if (!client->dropped)
		send_waiting(client);
	if (waiting(client))
		events |= EPOLLOUT;
	if (!client->dropped)
		sd_event_source_set_io_events(client->source, events);
}

static void deliver_new(struct client *client, json_t *object)
{
	deliver(client, object);
	json_decref(object);
}

/* ------------------------------------------------------------ clients --- */

static void free_client(struct client *client)
{
	sd_event_source_disable_unref(client->source);
	close(client->fd);
	buffer_free(&client->out);
	free(client);
}

static void reap(struct qmp_server *server)
{
	unsigned int i;

	for (i = 0; i < MAX_CLIENTS; i++) {
		if (!server->client[i] || !server->client[i]->dropped)
			continue;
		free_client(server->client[i]);
		server->client[i] = NULL;
	}
}

static void handle_text(struct client *client)
{
	json_t *request, *reply;
	json_error_t fault;

	request = json_loadb(client->framing.text, client->framing.used,
			     JSON_REJECT_DUPLICATES, &fault);
	if (request)
		reply = qmp_execute(client->server, &client->server->context,
				    &client->negotiated, request);
	else
		reply = qmp_error_reply("GenericError", fault.text);
	json_decref(request);
	deliver_new(client, reply);
}

static void handle_input(struct client *client, const char *data, size_t left)
{
	const char *fault = NULL;

	while (!client->dropped) {
		switch (qmp_framing_next(&client->framing, &data, &left,
					 &fault)) {
		case QMP_FRAME_MORE:
			return;
		case QMP_FRAME_OBJECT:
			handle_text(client);
			break;
		case QMP_FRAME_FAULT:
			deliver_new(client, qmp_error_reply("GenericError",
							    fault));
			break;
		}
	}
}

static void receive(struct client *client)
{
	char data[READ_SIZE];
	ssize_t n;

	n = recv(client->fd, data, sizeof(data), MSG_DONTWAIT);
	if (n > 0)
		handle_input(client, data, n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		drop(client);
}

static int on_client(sd_event_source *source, int fd, uint32_t revents,
		     void *userdata)
{
	struct client *client = userdata;
	struct qmp_server *server = client->server;

	if (revents & EPOLLOUT) {
		send_waiting(client);
		if (!client->dropped && !waiting(client))
			sd_event_source_set_io_events(source, EPOLLIN);
	}
	if (!client->dropped && revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive(client);
	reap(server);
	return 0;
}

static void greet(struct client *client)
{
	deliver_new(client, json_pack("{s:{s:o,s:[]}}", "QMP", "version",
				      qmp_version(), "capabilities"));
}

/* A newcomer that finds no place is told so and sent away. */
static void refuse(int fd)
{
	static const char text[] =
		"{\"error\":{\"class\":\"GenericError\",\"desc\":\"there are "
		"16 clients already\"}}\n";

	if (send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_limited("control", "cannot tell a client that it is one "
			    "too many");
}

static int on_connect(sd_event_source *source, int fd, uint32_t revents,
		      void *userdata)
{
	struct qmp_server *server = userdata;
	struct client *client;
	cleanup_fd int peer = -1;
	unsigned int i = 0;

	reap(server);
	peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (peer < 0)
		return 0;
	while (i < MAX_CLIENTS && server->client[i])
		i++;
	client = i < MAX_CLIENTS ? calloc(1, sizeof(*client)) : NULL;
	if (!client) {
		refuse(peer);
		return 0;
	}
	client->server = server;
	client->fd = steal_fd(&peer);
	if (sd_event_add_io(server->context.event, &client->source, client->fd,
			    EPOLLIN, on_client, client) < 0) {
		free_client(client);
		return 0;
	}
	server->client[i] = client;
	greet(client);
	return 0;
}

/* ------------------------------------------------------------- server --- */

int qmp_server_open(struct qmp_server **server, const char *path,
		    const struct qmp_context *context, struct error *err)
{
	struct qmp_server *new = calloc(1, sizeof(*new));
	int rc;

	if (!new)
		return error_set(err, "control socket: no memory");
	new->context = *context;
	new->fd = socket_listen_unix(path, err);
	if (new->fd < 0) {
		free(new);
		return error_prefix(err, "control socket");
	}
	new->path = strdup(path);
	rc = !new->path ? -ENOMEM :
	     sd_event_add_io(context->event, &new->listener, new->fd, EPOLLIN,
			     on_connect, new);
	if (rc < 0) {
		qmp_server_close(new);
		return error_set_errno(err, -rc, "no event for the control "
				       "socket");
	}
	*server = new;
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ll + now.tv_nsec / 1000000;
}

/* What the socket does not take at once, for at most the time given. */
static void flush(struct client *client, int64_t until)
{
	struct pollfd pollfd = { .fd = client->fd, .events = POLLOUT };
	int64_t left;

	while (!client->dropped && waiting(client)) {
		left = until - now_ms();
		if (left <= 0 || poll(&pollfd, 1, left) <= 0)
			return;
		send_waiting(client);
	}
}

void qmp_server_close(struct qmp_server *server)
{
	int64_t until = now_ms() + CLOSE_PATIENCE_MS;
	unsigned int i;

	if (!server)
		return;
	reap(server);
	for (i = 0; i < MAX_CLIENTS; i++) {
		if (!server->client[i])
			continue;
		flush(server->client[i], until);
		free_client(server->client[i]);
	}
	sd_event_source_disable_unref(server->balloon_timer);
	sd_event_source_disable_unref(server->listener);
	close(server->fd);
	if (server->path)
		unlink(server->path);
	free(server->path);
	free(server);
}

void qmp_server_set_machine(struct qmp_server *server,
			    struct machine *machine)
{
	server->context.machine = machine;
}

/* ------------------------------------------------------------- events --- */

/* @data: consumed; NULL for an event without */
static void raise_event(struct qmp_server *server, const char *name,
			json_t *data)
{
	struct timespec now;
	json_t *event;
	unsigned int i;

	clock_gettime(CLOCK_REALTIME, &now);
	event = json_pack("{s:s,s:o*,s:{s:I,s:I}}", "event", name, "data",
			  data, "timestamp", "seconds",
			  (json_int_t)now.tv_sec, "microseconds",
			  (json_int_t)now.tv_nsec / 1000);
	for (i = 0; i < MAX_CLIENTS; i++)
		if (server->client[i] && server->client[i]->negotiated)
			deliver(server->client[i], event);
	json_decref(event);
}

void qmp_server_event_simple(struct qmp_server *server, const char *name)
{
	if (server)
		raise_event(server, name, NULL);
}

static void tell_balloon(struct qmp_server *server);

static int on_balloon_timer(sd_event_source *source, uint64_t usec,
			    void *userdata)
{
	struct qmp_server *server = userdata;

	server->balloon_timer = sd_event_source_disable_unref(source);
	if (server->balloon_changed)
		tell_balloon(server);
	return 0;
}

/* At once, and then no more for a while. */
static void tell_balloon(struct qmp_server *server)
{
	const struct machine *machine = server->context.machine;

	server->balloon_changed = false;
	if (!machine)
		return;
	server->balloon_told = balloon_device_size(&machine->balloon).actual;
	raise_event(server, "BALLOON_CHANGE",
		    json_pack("{s:I}", "actual",
			      (json_int_t)server->balloon_told));
	/* Without a timer each change is told, which is only more of them. */
	if (server->balloon_timer)
		return;
	sd_event_add_time_relative(server->context.event,
				   &server->balloon_timer, CLOCK_MONOTONIC,
				   BALLOON_EVENT_US, 0, on_balloon_timer,
				   server);
}

/* What a request waits for is told when it is there, if it is news. */
static bool has_settled(const struct qmp_server *server)
{
	struct balloon_size size =
		balloon_device_size(&server->context.machine->balloon);

	return size.actual == size.target && size.actual != server->balloon_told;
}

void qmp_server_event_balloon(struct qmp_server *server)
{
	if (!server || !server->context.machine ||
	    !server->context.machine->config.balloon)
		return;
	server->balloon_changed = true;
	if (!server->balloon_timer || has_settled(server))
		tell_balloon(server);
}

void qmp_server_event_migration(struct qmp_server *server)
{
	if (server)
		raise_event(server, "MIGRATION",
			    qmp_answer_migration(server->context.outgoing));
}
