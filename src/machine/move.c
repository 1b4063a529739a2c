// SPDX-License-Identifier: MIT
/* Moving a machine: the source's thread, and arriving at the destination. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "machine/move.h"
#include "machine/state.h"
#include "memory/backing.h"
#include "migration/destination.h"

#define BACKGROUND_SLICE_NS 20000000 /* 20 ms */

/* struct sched_attr of sched_setattr(2), whose header and <sched.h> exclude each
 * other; its first version. */
struct thread_policy {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

/*
 * Where CPUs are short, guests come first: this thread, and those it starts from
 * now on, do not interrupt others when they wake, and are interrupted by others.
 * The length of its slice tells Linux 6.12 and later as much. Who chose another
 * policy for the whole process has it.
 */
static void work_in_background(void)
{
	struct thread_policy thread = { .size = sizeof(thread) };

	if (syscall(SYS_sched_getattr, 0, &thread, sizeof(thread), 0) < 0 ||
	    thread.policy != SCHED_OTHER)
		return;
	thread.policy = SCHED_BATCH;
	thread.runtime = BACKGROUND_SLICE_NS;
	if (syscall(SYS_sched_setattr, 0, &thread, 0) < 0)
		log_debug("migration", "no background: %s", strerror(errno));
}

/* ------------------------------------------------------------- source --- */

static void guest_save_config(void *guest, struct buffer *config,
			      struct buffer *cpuid)
{
	machine_save_config(guest, config, cpuid);
}

static int guest_stop(void *guest, struct error *err)
{
	return machine_finish_begin(guest, err);
}

static bool guest_was_running(void *guest)
{
	struct machine *machine = guest;

	return machine->was_running;
}

static int guest_save_state(void *guest, struct state_writer *writer,
			    struct error *err)
{
	return machine_save_state(guest, writer, err);
}

static void guest_go_on(void *guest)
{
	machine_finish_abort(guest);
}

static void guest_leave(void *guest)
{
	machine_finish_commit(guest);
}

static const struct migration_guest_ops guest_ops = {
	.save_config = guest_save_config,
	.stop = guest_stop,
	.was_running = guest_was_running,
	.save_state = guest_save_state,
	.go_on = guest_go_on,
	.leave = guest_leave,
};

static void *outgoing_main(void *argument)
{
	struct outgoing *outgoing = argument;

	pthread_setname_np(pthread_self(), "migration");
	work_in_background();
	migration_source_run(&outgoing->source, outgoing->uri);
	machine_post(outgoing->machine, MACHINE_EVENT_MIGRATION);
	return NULL;
}

static int check_start(struct outgoing *outgoing, struct machine *machine,
		       const char *uri, struct error *err)
{
	enum machine_state state = machine_state(machine);

	if (outgoing->active)
		return error_set(err, "a migration is under way already");
	if (state != MACHINE_RUNNING && state != MACHINE_PAUSED)
		return error_set(err, "cannot migrate: the machine is in "
				 "state %s", machine_state_name(state));
	if (strlen(uri) >= sizeof(outgoing->uri))
		return error_set(err, "the URI is too long");
	return channel_check_uri(uri, err);
}

int outgoing_start(struct outgoing *outgoing, struct machine *machine,
		   const char *uri, const struct migration_options *options,
		   struct error *err)
{
	struct migration_source *source = &outgoing->source;
	int rc;

	if (check_start(outgoing, machine, uri, err) < 0)
		return -1;
	outgoing_destroy(outgoing);
	if (migration_source_init(source, &machine->memory, err) < 0)
		return -1;
	outgoing->used = true;
	outgoing->machine = machine;
	snprintf(outgoing->uri, sizeof(outgoing->uri), "%s", uri);
	source->dirty_log = &machine->dirty_log.log;
	source->free_pages = machine->config.balloon &&
					     machine->config.balloon_options.hinting ?
				     &machine->balloon.source : NULL;
	source->ops = &guest_ops;
	source->guest = machine;
	source->options = *options;
	rc = pthread_create(&outgoing->thread, NULL, outgoing_main, outgoing);
	if (rc)
		return error_set_errno(err, rc, "migration thread");
	outgoing->active = true;
	return 0;
}

void outgoing_cancel(struct outgoing *outgoing)
{
	if (outgoing->active)
		migration_source_cancel(&outgoing->source);
}

void outgoing_status(struct outgoing *outgoing,
		     struct migration_status *status)
{
	memset(status, 0, sizeof(*status));
	if (outgoing->used)
		migration_source_status(&outgoing->source, status);
}

void outgoing_end(struct outgoing *outgoing)
{
	if (!outgoing->active)
		return;
	pthread_join(outgoing->thread, NULL);
	outgoing->active = false;
	/* Sets, connection, and what is still lent through it: a guest that
	 * stays does not keep them until the next move. */
	migration_source_destroy(&outgoing->source);
}

void outgoing_destroy(struct outgoing *outgoing)
{
	outgoing_end(outgoing);
	if (outgoing->used)
		migration_source_destroy(&outgoing->source);
	outgoing->used = false;
}

/* -------------------------------------------------------- destination --- */

struct arrival {
	struct machine *machine;
	const struct machine_config *here; /* what replaces the stream's */
	bool paused;
	struct machine_states states;
	void (*on_created)(void *owner);
	void *owner;
};

/* The file lies elsewhere here; its content is still the stream's. */
static void replace_path(struct machine_file *file,
			 const struct machine_file *here)
{
	if (file->path[0] && here->path[0])
		memcpy(file->path, here->path, sizeof(file->path));
}

/* What the user of the destination said comes before what the stream says. */
static void prefer(struct machine_config *config,
		   const struct machine_config *here)
{
	replace_path(&config->kernel, &here->kernel);
	replace_path(&config->initrd, &here->initrd);
	if (here->backing < BACKING_KINDS)
		config->backing = here->backing;
}

static struct guest_memory *host_create(void *host,
					struct buffer_reader *config_from,
					struct buffer_reader *cpuid_from,
					struct error *err)
{
	struct arrival *arrival = host;
	cleanup_free struct machine_config *config = malloc(sizeof(*config));
	struct x86_cpuid cpuid;
	uint32_t tsc_khz;

	if (!config) {
		error_set(err, "no memory for a configuration");
		return NULL;
	}
	if (machine_config_load(config, config_from, err) < 0 ||
	    machine_load_cpuid(&cpuid, &tsc_khz, cpuid_from, err) < 0)
		return NULL;
	prefer(config, arrival->here);
	if (machine_create(arrival->machine, config, &cpuid, true, err) < 0)
		return NULL;
	/* Not before: its vCPUs' threads would inherit it. */
	work_in_background();
	if (arrival->on_created)
		arrival->on_created(arrival->owner);
	if (machine_set_tsc_khz(arrival->machine, tsc_khz, err) < 0)
		return NULL;
	return &arrival->machine->memory;
}

static int host_load_state(void *host, uint32_t kind, uint32_t instance,
			   struct buffer_reader *payload, struct error *err)
{
	struct arrival *arrival = host;

	if (machine_load_state(arrival->machine, kind, instance, payload,
			       err) < 0)
		return -1;
	return machine_states_add(&arrival->states, kind, instance, err);
}

static int host_loaded(void *host, struct error *err)
{
	struct arrival *arrival = host;

	return machine_states_check(&arrival->states, &arrival->machine->config,
				    err);
}

static void host_arrive(void *host, bool run)
{
	struct arrival *arrival = host;

	if (arrival->machine->config.balloon)
		balloon_device_arrived(&arrival->machine->balloon);
	machine_arrive(arrival->machine, run && !arrival->paused);
}

static const struct migration_host_ops host_ops = {
	.create = host_create,
	.load_state = host_load_state,
	.loaded = host_loaded,
	.arrive = host_arrive,
};

int machine_incoming(struct machine *machine, int fd,
		     const struct machine_config *config, bool paused,
		     void (*created)(void *owner), void *owner,
		     struct error *err)
{
	struct arrival arrival = { .machine = machine, .here = config,
				   .paused = paused, .on_created = created,
				   .owner = owner };
	struct channel channel;
	int rc;

	channel_open(&channel, fd);
	rc = migration_destination_run(&channel, &host_ops, &arrival, err);
	channel_close(&channel);
	return rc;
}
