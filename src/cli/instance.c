// SPDX-License-Identifier: MIT
/*
 * The process of one machine: its main loop from birth to end.
 *
 * A guest that is moved here comes in on a thread of its own, so that the
 * control socket answers meanwhile. The main thread connects the console when
 * that thread has made the machine, and takes over when the guest is here.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/instance.h"
#include "machine/console.h"
#include "machine/machine.h"
#include "machine/move.h"
#include "migration/channel.h"
#include "qmp/server.h"

struct instance {
	const struct instance_options *options;
	sd_event *event;
	struct machine machine;
	bool has_machine;
	struct console console;
	struct outgoing outgoing;
	struct qmp_server *server; /* NULL without --control */
	struct error failure;	   /* why the loop ended with a fault */

	/* Coming in. */
	int listen_fd, incoming_fd;
	sd_event_source *listener;
	pthread_t thread;
	bool thread_started;
	int wake_fd; /* the thread to the main loop */
	pthread_mutex_t lock; /* of the rest */
	pthread_cond_t attached_changed;
	bool created, attached, ended, arrived;
	struct error incoming_error;
};

static void fail(struct instance *instance)
{
	sd_event_exit(instance->event, 1);
}

static void on_quit(void *owner)
{
	struct instance *instance = owner;

	sd_event_exit(instance->event, 0);
}

/* ----------------------------------------------- a machine that lives --- */

static void on_failed(struct instance *instance)
{
	pthread_mutex_lock(&instance->machine.lock);
	error_set(&instance->failure, "%s", instance->machine.failure);
	pthread_mutex_unlock(&instance->machine.lock);
	fail(instance);
}

static void on_reset(struct instance *instance)
{
	if (machine_reset(&instance->machine, &instance->failure) < 0) {
		fail(instance);
		return;
	}
	if (instance->server)
		qmp_server_event_simple(instance->server, "RESET");
}

static void on_poweroff(struct instance *instance)
{
	if (instance->server)
		qmp_server_event_simple(instance->server, "SHUTDOWN");
	sd_event_exit(instance->event, 0);
}

static void on_migration_over(struct instance *instance)
{
	struct migration_status status;

	outgoing_end(&instance->outgoing);
	outgoing_status(&instance->outgoing, &status);
	if (instance->server)
		qmp_server_event_migration(instance->server);
	switch (status.state) {
	case MIGRATION_COMPLETED:
		sd_event_exit(instance->event, 0);
		break;
	case MIGRATION_UNKNOWN:
		error_set(&instance->failure, "%s", status.error);
		fail(instance);
		break;
	default:
		log_line("migration", "%s; the guest runs on here",
			 status.error);
		break;
	}
}

/* What the guest asked for itself. */
static void serve_guest(struct instance *instance, unsigned int events)
{
	if (events & MACHINE_EVENT_POWEROFF)
		on_poweroff(instance);
	else if (events & MACHINE_EVENT_RESET)
		on_reset(instance);
}

static int on_machine_event(sd_event_source *source, int fd, uint32_t revents,
			    void *userdata)
{
	struct instance *instance = userdata;
	unsigned int events;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0)
		return 0;
	events = machine_take_events(&instance->machine);
	/* Of several ends the one said last is the process's: a failure is
	 * more than a power-off, and a move that is over more than both. */
	serve_guest(instance, events);
	if (events & MACHINE_EVENT_FAILED)
		on_failed(instance);
	/* Whatever it was: a guest that has come in, or whose move failed, is
	 * told of without a bit of its own. */
	console_serve(&instance->console);
	if ((events & MACHINE_EVENT_BALLOON) && instance->server)
		qmp_server_event_balloon(instance->server);
	if (events & MACHINE_EVENT_MIGRATION)
		on_migration_over(instance);
	return 0;
}

/* The machine exists: connect it. Return: 0, or -1 with @err */
static int attach(struct instance *instance, struct error *err)
{
	int rc;

	instance->has_machine = true;
	console_attach(&instance->console, &instance->machine);
	rc = sd_event_add_io(instance->event, NULL, instance->machine.event_fd,
			     EPOLLIN, on_machine_event, instance);
	if (rc < 0)
		return error_set_errno(err, -rc, "no event for the machine");
	return 0;
}

/* ---------------------------------------------------------- coming in --- */

static void wake(struct instance *instance)
{
	uint64_t one = 1;

	while (write(instance->wake_fd, &one, sizeof(one)) < 0 &&
	       errno == EINTR)
		;
}

/* On the incoming thread: the main thread connects the console first. */
static void on_created(void *owner)
{
	struct instance *instance = owner;

	pthread_mutex_lock(&instance->lock);
	instance->created = true;
	wake(instance);
	while (!instance->attached)
		pthread_cond_wait(&instance->attached_changed, &instance->lock);
	pthread_mutex_unlock(&instance->lock);
}

static void *incoming_main(void *argument)
{
	struct instance *instance = argument;
	struct error err = { "" };
	int rc;

	pthread_setname_np(pthread_self(), "incoming");
	rc = machine_incoming(&instance->machine, instance->incoming_fd,
			      &instance->options->config,
			      instance->options->paused, on_created, instance,
			      &err);
	pthread_mutex_lock(&instance->lock);
	instance->ended = true;
	instance->arrived = rc == 0;
	instance->incoming_error = err;
	pthread_mutex_unlock(&instance->lock);
	wake(instance);
	return NULL;
}

static void set_attached(struct instance *instance)
{
	scoped_lock(&instance->lock);
	instance->attached = true;
	pthread_cond_broadcast(&instance->attached_changed);
}

static void on_incoming_ended(struct instance *instance, bool arrived,
			      const struct error *why)
{
	pthread_join(instance->thread, NULL);
	instance->thread_started = false;
	if (!arrived) {
		error_set(&instance->failure, "no guest came in: %.400s",
			  why->message);
		fail(instance);
		return;
	}
	if (instance->server)
		qmp_server_set_machine(instance->server, &instance->machine);
	log_debug("migration", "the guest is here");
}

static int on_wake(sd_event_source *source, int fd, uint32_t revents,
		   void *userdata)
{
	struct instance *instance = userdata;
	bool created, ended, arrived;
	struct error why;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0)
		return 0;
	pthread_mutex_lock(&instance->lock);
	created = instance->created && !instance->attached;
	ended = instance->ended;
	arrived = instance->arrived;
	why = instance->incoming_error;
	pthread_mutex_unlock(&instance->lock);
	if (created) {
		if (attach(instance, &instance->failure) < 0)
			fail(instance);
		set_attached(instance);
	}
	if (ended)
		on_incoming_ended(instance, arrived, &why);
	return 0;
}

/* @fd: consumed */
static int start_incoming(struct instance *instance, int fd, struct error *err)
{
	int rc;

	instance->incoming_fd = fd;
	rc = pthread_create(&instance->thread, NULL, incoming_main, instance);
	if (rc) {
		close(fd);
		return error_set_errno(err, rc, "incoming thread");
	}
	instance->thread_started = true;
	return 0;
}

static void stop_listening(struct instance *instance)
{
	const char *uri = instance->options->incoming;

	instance->listener = sd_event_source_disable_unref(instance->listener);
	if (instance->listen_fd < 0)
		return;
	close(instance->listen_fd);
	instance->listen_fd = -1;
	if (!strncmp(uri, "unix:", 5))
		unlink(uri + 5);
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents,
			 void *userdata)
{
	struct instance *instance = userdata;
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	if (peer < 0)
		return 0;
	/* One guest, one connection. */
	stop_listening(instance);
	if (start_incoming(instance, peer, &instance->failure) < 0)
		fail(instance);
	return 0;
}

/* What the incoming thread rings. */
static int add_wake(struct instance *instance, struct error *err)
{
	int rc;

	instance->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = instance->wake_fd < 0 ? -errno :
	     sd_event_add_io(instance->event, NULL, instance->wake_fd, EPOLLIN,
			     on_wake, instance);
	if (rc < 0)
		return error_set_errno(err, -rc,
				       "no event for the incoming guest");
	return 0;
}

static int listen_for_guest(struct instance *instance, struct error *err)
{
	cleanup_fd int fd = -1;
	bool connected;
	int rc;

	fd = channel_listen(instance->options->incoming, &connected, err);
	if (fd < 0)
		return error_prefix(err, "--incoming");
	/* Whatever fails now, the end stops the listening. */
	if (!connected)
		instance->listen_fd = steal_fd(&fd);
	if (add_wake(instance, err) < 0)
		return -1;
	if (connected)
		return start_incoming(instance, steal_fd(&fd), err);
	rc = sd_event_add_io(instance->event, &instance->listener,
			     instance->listen_fd, EPOLLIN, on_connection,
			     instance);
	if (rc < 0)
		return error_set_errno(err, -rc,
				       "no event for the incoming guest");
	return 0;
}

static void end_incoming(struct instance *instance)
{
	stop_listening(instance);
	if (instance->thread_started) {
		shutdown(instance->incoming_fd, SHUT_RDWR);
		set_attached(instance);
		pthread_join(instance->thread, NULL);
		instance->has_machine |= instance->created;
	}
	if (instance->wake_fd >= 0)
		close(instance->wake_fd);
}

/* --------------------------------------------------------------- life --- */

/* SIGINT, SIGTERM, SIGHUP: end in order. Blocked everywhere, read by the
 * loop. Return: 0 or more, or a negative errno */
static int add_signals(struct instance *instance)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	sigset_t set;
	size_t i;
	int rc = 0;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaddset(&set, signals[i]);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]) && rc >= 0; i++)
		rc = sd_event_add_signal(instance->event, NULL, signals[i],
					 NULL, NULL);
	return rc;
}

static int open_control(struct instance *instance, struct error *err)
{
	struct qmp_context context = {
		.event = instance->event,
		.machine = instance->has_machine ? &instance->machine : NULL,
		.outgoing = &instance->outgoing,
		.quit = on_quit,
		.owner = instance,
	};

	if (!instance->options->control)
		return 0;
	return qmp_server_open(&instance->server, instance->options->control,
			       &context, err);
}

static int start(struct instance *instance, struct error *err)
{
	const struct instance_options *options = instance->options;

	if (console_open(&instance->console, options->serial, instance->event,
			 err) < 0)
		return -1;
	if (options->incoming)
		return open_control(instance, err) < 0 ?
			       -1 : listen_for_guest(instance, err);
	if (machine_create(&instance->machine, &options->config, NULL, false,
			   err) < 0)
		return -1;
	if (attach(instance, err) < 0 || open_control(instance, err) < 0)
		return -1;
	return options->paused ? 0 : machine_run(&instance->machine, err);
}

static void end(struct instance *instance)
{
	end_incoming(instance);
	outgoing_cancel(&instance->outgoing);
	outgoing_destroy(&instance->outgoing);
	if (instance->server)
		qmp_server_close(instance->server);
	console_close(&instance->console);
	if (instance->has_machine)
		machine_destroy(&instance->machine);
	sd_event_unref(instance->event);
}

int instance_run(struct instance_options *options, struct error *err)
{
	static struct instance instance;
	int rc;

	instance.options = options;
	instance.listen_fd = instance.incoming_fd = instance.wake_fd = -1;
	instance.console.out_fd = instance.console.listen_fd = -1;
	pthread_mutex_init(&instance.lock, NULL);
	pthread_cond_init(&instance.attached_changed, NULL);
	rc = sd_event_new(&instance.event);
	if (rc >= 0)
		rc = add_signals(&instance);
	if (rc < 0)
		return error_set_errno(err, -rc, "no event loop");
	rc = start(&instance, err);
	if (rc == 0) {
		sd_notify(0, "READY=1");
		rc = sd_event_loop(instance.event);
		if (rc < 0)
			error_set_errno(err, -rc, "event loop");
		else if (rc)
			error_set(err, "%s", instance.failure.message);
	}
	end(&instance);
	return rc ? -1 : 0;
}
