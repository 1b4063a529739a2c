// SPDX-License-Identifier: MIT
/* Where the serial port ends. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/socket.h"
#include "machine/console.h"

#define CTRL_A 1
#define WRITE_MOST 512	  /* bytes at a time, to what may be slow */
#define LAST_WORDS_MS 200 /* for a reader, when the machine ends */

/* A socket never makes its writer wait. Return: false when it has no room */
static bool send_at_once(struct console *console, uint8_t byte)
{
	return console->listen_fd >= 0 &&
	       send(console->out_fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) ==
		       1;
}

/* The guest's byte; called under the device lock. */
static void on_output(void *owner, uint8_t byte)
{
	struct console *console = owner;
	uint32_t used = console->output_head - console->output_tail;

	if (console->out_fd < 0 || used == CONSOLE_OUTPUT)
		return;
	if (!used && send_at_once(console, byte))
		return;
	console->output[console->output_head++ % CONSOLE_OUTPUT] = byte;
	if (!used)
		machine_post(console->machine, MACHINE_EVENT_CONSOLE);
}

static void on_room(void *owner)
{
	struct console *console = owner;

	machine_post(console->machine, MACHINE_EVENT_CONSOLE);
}

/* A guest that comes in brings its serial port, and one that a move has stopped
 * has it saved, or taken along already: what it got here would be lost. */
static bool takes_input(enum machine_state state)
{
	return state == MACHINE_PAUSED || state == MACHINE_RUNNING;
}

/* Under the lock of the state, so that a move's stop comes before or after.
 * Return: how much of what is pending it took */
static size_t feed_machine(struct console *console, struct machine *machine)
{
	size_t taken;

	scoped_lock(&machine->lock);
	if (!takes_input(machine->state))
		return 0;
	pthread_mutex_lock(&machine->device_lock);
	taken = serial_input(&machine->serial, console->pending,
			     console->pending_used);
	pthread_mutex_unlock(&machine->device_lock);
	return taken;
}

static void feed(struct console *console)
{
	size_t taken = 0;

	if (console->machine)
		taken = feed_machine(console, console->machine);
	console->pending_used -= taken;
	memmove(console->pending, console->pending + taken,
		console->pending_used);
	/* The guest sets the pace; and to read into no room looks like the end
	 * of the input. */
	if (console->input)
		sd_event_source_set_enabled(console->input,
					    console->pending_used ==
							    CONSOLE_PENDING ?
						    SD_EVENT_OFF :
						    SD_EVENT_ON);
}

static uint32_t output_left(struct console *console)
{
	scoped_lock(&console->machine->device_lock);
	return console->output_head - console->output_tail;
}

static void output_taken(struct console *console, uint32_t count)
{
	scoped_lock(&console->machine->device_lock);
	console->output_tail += count;
}

/* Pass on some of what is left. @timeout_ms: for a reader to make room
 * Return: how much, 0 when there is no room, -1 when nobody reads any more */
static ssize_t write_some(struct console *console, uint32_t left,
			  int timeout_ms)
{
	uint32_t start = console->output_tail % CONSOLE_OUTPUT;
	struct pollfd room = { .fd = console->out_fd, .events = POLLOUT };
	ssize_t count;

	if (left > CONSOLE_OUTPUT - start)
		left = CONSOLE_OUTPUT - start;
	/* A terminal or pipe that says it has room has that much. */
	if (console->writable) {
		if (left > WRITE_MOST)
			left = WRITE_MOST;
		if (poll(&room, 1, timeout_ms) <= 0)
			return 0;
	}
	count = console->listen_fd >= 0 ?
			send(console->out_fd, console->output + start, left,
			     MSG_DONTWAIT | MSG_NOSIGNAL) :
			write(console->out_fd, console->output + start, left);
	if (count < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	return count;
}

static void want_room(struct console *console, bool want)
{
	if (console->writable)
		sd_event_source_set_enabled(console->writable,
					    want ? SD_EVENT_ON : SD_EVENT_OFF);
}

/* What was left when it was called, if the reader takes it. */
static void drain(struct console *console, int timeout_ms)
{
	uint32_t left = output_left(console);
	ssize_t count = 1;

	while (left && count > 0 && console->out_fd >= 0) {
		count = write_some(console, left, timeout_ms);
		if (count < 0)
			count = left;
		output_taken(console, count);
		left -= count;
	}
	want_room(console, output_left(console));
	if (!console->writable && output_left(console))
		machine_post(console->machine, MACHINE_EVENT_CONSOLE);
}

static int on_writable(sd_event_source *source, int fd, uint32_t events,
		       void *userdata)
{
	drain(userdata, 0);
	return 0;
}

void console_serve(struct console *console)
{
	if (!console->machine)
		return;
	feed(console);
	drain(console, 0);
}

/* Removes escapes from what was typed. Return: bytes left; ends the loop at
 * Ctrl-A x */
static size_t filter_escapes(struct console *console, uint8_t *bytes,
			     size_t count)
{
	size_t i, kept = 0;

	for (i = 0; i < count; i++) {
		if (console->escape) {
			console->escape = false;
			if (bytes[i] == 'x')
				sd_event_exit(console->event, 0);
			if (bytes[i] != CTRL_A)
				continue;
		} else if (bytes[i] == CTRL_A) {
			console->escape = true;
			continue;
		}
		bytes[kept++] = bytes[i];
	}
	return kept;
}

/* The next reader gets what comes from now on. */
static void set_out_fd(struct console *console, int fd)
{
	pthread_mutex_t *lock = console->machine ?
					&console->machine->device_lock : NULL;
	int old;

	if (lock)
		pthread_mutex_lock(lock);
	old = console->out_fd;
	console->out_fd = fd;
	console->output_tail = console->output_head;
	if (lock)
		pthread_mutex_unlock(lock);
	console->writable = sd_event_source_disable_unref(console->writable);
	if (old > STDERR_FILENO)
		close(old);
	/* Fails for a plain file. */
	if (fd >= 0 && sd_event_add_io(console->event, &console->writable, fd,
				       EPOLLOUT, on_writable, console) == 0)
		want_room(console, false);
}

static void drop_client(struct console *console)
{
	console->input = sd_event_source_disable_unref(console->input);
	if (console->listen_fd >= 0)
		set_out_fd(console, -1);
}

static int on_input(sd_event_source *source, int fd, uint32_t events,
		    void *userdata)
{
	struct console *console = userdata;
	uint8_t *bytes = console->pending + console->pending_used;
	ssize_t count;

	count = read(fd, bytes, CONSOLE_PENDING - console->pending_used);
	if (count < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (count <= 0) {
		drop_client(console);
		return 0;
	}
	if (console->terminal)
		count = filter_escapes(console, bytes, count);
	console->pending_used += count;
	feed(console);
	return 0;
}

static int on_client(sd_event_source *source, int fd, uint32_t events,
		     void *userdata)
{
	struct console *console = userdata;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int out;

	if (client < 0)
		return 0;
	drop_client(console); /* the newest one has it */
	console->pending_used = 0;
	/* One epoll takes a descriptor once. */
	out = fcntl(client, F_DUPFD_CLOEXEC, 0);
	if (out < 0 || sd_event_add_io(console->event, &console->input, client,
				       EPOLLIN, on_input, console) < 0) {
		close(client);
		if (out >= 0)
			close(out);
		return 0;
	}
	sd_event_source_set_io_fd_own(console->input, true);
	set_out_fd(console, out);
	return 0;
}

static int open_stdio(struct console *console, struct error *err)
{
	struct termios raw;

	set_out_fd(console, STDOUT_FILENO);
	if (isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &console->saved)) {
		raw = console->saved;
		cfmakeraw(&raw);
		raw.c_oflag |= OPOST; /* our own messages keep their shape */
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
		console->terminal = true;
	}
	/* Fails for a plain file, which has nothing to wait for. */
	if (sd_event_add_io(console->event, &console->input, STDIN_FILENO,
			    EPOLLIN, on_input, console) < 0)
		console->input = NULL;
	return 0;
}

static int open_file(struct console *console, const char *path,
		     struct error *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return error_set_errno(err, errno, "serial file %s", path);
	set_out_fd(console, fd);
	return 0;
}

static int open_unix(struct console *console, const char *path,
		     struct error *err)
{
	int rc;

	console->listen_fd = socket_listen_unix(path, err);
	if (console->listen_fd < 0)
		return error_prefix(err, "serial port");
	snprintf(console->path, sizeof(console->path), "%s", path);
	rc = sd_event_add_io(console->event, &console->listener,
			     console->listen_fd, EPOLLIN, on_client, console);
	if (rc < 0)
		return error_set_errno(err, -rc,
				       "no event for the serial port");
	return 0;
}

int console_open(struct console *console, const char *spec, sd_event *event,
		 struct error *err)
{
	int rc = 0;

	memset(console, 0, sizeof(*console));
	console->event = event;
	console->out_fd = console->listen_fd = -1;
	if (!strcmp(spec, "stdio"))
		rc = open_stdio(console, err);
	else if (!strncmp(spec, "file:", 5))
		rc = open_file(console, spec + 5, err);
	else if (!strncmp(spec, "unix:", 5))
		rc = open_unix(console, spec + 5, err);
	else if (strcmp(spec, "none"))
		rc = error_set(err, "serial port '%s': it can be stdio, "
			       "file:PATH, unix:PATH or none", spec);
	if (rc < 0)
		console_close(console);
	return rc;
}

void console_attach(struct console *console, struct machine *machine)
{
	console->machine = machine;
	scoped_lock(&machine->device_lock);
	machine->serial_output = on_output;
	machine->serial_room = on_room;
	machine->serial_owner = console;
}

static void detach(struct console *console)
{
	scoped_lock(&console->machine->device_lock);
	console->machine->serial_output = NULL;
	console->machine->serial_room = NULL;
}

void console_close(struct console *console)
{
	console->input = sd_event_source_disable_unref(console->input);
	console->listener = sd_event_source_disable_unref(console->listener);
	if (console->machine) {
		drain(console, LAST_WORDS_MS);
		detach(console);
	}
	console->machine = NULL;
	set_out_fd(console, -1);
	if (console->listen_fd >= 0)
		close(console->listen_fd);
	console->listen_fd = -1;
	if (console->path[0])
		unlink(console->path);
	console->path[0] = '\0';
	if (console->terminal)
		tcsetattr(STDIN_FILENO, TCSANOW, &console->saved);
	console->terminal = false;
}
