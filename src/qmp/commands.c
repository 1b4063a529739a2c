// SPDX-License-Identifier: MIT
/*
 * The table of commands. What is the same for all of them, negotiation, the
 * state that allows a command and the check of its arguments, is done before
 * a handler runs.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "qmp/answers.h"
#include "qmp/commands.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MAX_ARGUMENTS 6
#define DOWNTIME_DEFAULT_MS 300
#define DOWNTIME_MOST_MS 2000000

static const char generic_error[] = "GenericError";
static const char not_found[] = "CommandNotFound";
static const char not_active[] = "DeviceNotActive";

/* One request under way. */
struct call {
	struct qmp_server *server;
	const struct qmp_context *context;
	bool *negotiated;
	const json_t *arguments; /* as the table says; may be NULL */
	const char *error_class; /* filled on failure */
	struct error err;
};

enum argument_type {
	ARGUMENT_NUMBER, /* not negative */
	ARGUMENT_STRING,
	ARGUMENT_BOOL,
	ARGUMENT_LIST,
};

static const char *const type_names[] = {
	[ARGUMENT_NUMBER] = "a number, 0 or more",
	[ARGUMENT_STRING] = "a string",
	[ARGUMENT_BOOL] = "true or false",
	[ARGUMENT_LIST] = "a list",
};

struct argument {
	const char *name;
	enum argument_type type;
	bool required;
};

struct command {
	const char *name;
	/* Return: what stands behind "return", or NULL with @call->err */
	json_t *(*handler)(struct call *call);
	bool early; /* allowed while the guest is still coming in */
	struct argument argument[MAX_ARGUMENTS]; /* up to a NULL name */
};

static json_t *fail(struct call *call, const char *class, const char *format,
		    ...) __attribute__((format(printf, 3, 4)));

static json_t *fail(struct call *call, const char *class, const char *format,
		    ...)
{
	va_list args;

	call->error_class = class;
	va_start(args, format);
	vsnprintf(call->err.message, sizeof(call->err.message), format, args);
	va_end(args);
	return NULL;
}

static json_t *argument(const struct call *call, const char *name)
{
	return json_object_get(call->arguments, name);
}

static uint64_t number(const struct call *call, const char *name,
		       uint64_t otherwise)
{
	json_t *value = argument(call, name);

	return value ? (uint64_t)json_integer_value(value) : otherwise;
}

static bool truth(const struct call *call, const char *name, bool otherwise)
{
	json_t *value = argument(call, name);

	return value ? json_is_true(value) : otherwise;
}

/* ---------------------------------------------------------- the server --- */

json_t *qmp_version(void)
{
	int major = 0, minor = 0, micro = 0;

	sscanf(AEROSTAT_VERSION, "%d.%d.%d", &major, &minor, &micro);
	/* Clients of QEMU's look for this key. */
	return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", major,
			 "minor", minor, "micro", micro, "package",
			 "aerostat " AEROSTAT_VERSION);
}

static json_t *do_capabilities(struct call *call)
{
	if (*call->negotiated)
		return fail(call, not_found, "capabilities are negotiated "
			    "already");
	if (json_array_size(argument(call, "enable")))
		return fail(call, generic_error, "there are no capabilities "
			    "to enable");
	*call->negotiated = true;
	return json_object();
}

static json_t *do_query_version(struct call *call)
{
	return qmp_version();
}

static json_t *do_query_commands(struct call *call);

static json_t *do_quit(struct call *call)
{
	qmp_server_event_simple(call->server, "SHUTDOWN");
	call->context->quit(call->context->owner);
	return json_object();
}

/* --------------------------------------------------------- the machine --- */

static json_t *do_query_name(struct call *call)
{
	const char *name = call->context->machine->config.name;

	return name[0] ? json_pack("{s:o}", "name", qmp_string(name)) :
			 json_object();
}

static json_t *do_query_status(struct call *call)
{
	struct machine *machine = call->context->machine;
	enum machine_state state = machine ? machine_state(machine) :
					     MACHINE_INCOMING;

	return json_pack("{s:s,s:b}", "status", machine_state_name(state),
			 "running", state == MACHINE_RUNNING);
}

static json_t *do_x_query_status(struct call *call)
{
	return qmp_answer_status(call->context->machine);
}

/* Let it run, or pause it; a change is told to all clients. */
static json_t *change(struct call *call, enum machine_state to,
		      int (*function)(struct machine *machine,
				      struct error *err), const char *event)
{
	struct machine *machine = call->context->machine;
	bool changes = machine_state(machine) != to;

	if (function(machine, &call->err) < 0)
		return NULL;
	if (changes)
		qmp_server_event_simple(call->server, event);
	return json_object();
}

static json_t *do_stop(struct call *call)
{
	return change(call, MACHINE_PAUSED, machine_pause, "STOP");
}

static json_t *do_cont(struct call *call)
{
	return change(call, MACHINE_RUNNING, machine_run, "RESUME");
}

/* True when the machine is the user's to change: not on its way elsewhere. */
static bool is_here(struct call *call, const char *what)
{
	enum machine_state state = machine_state(call->context->machine);

	if (state == MACHINE_RUNNING || state == MACHINE_PAUSED)
		return true;
	fail(call, generic_error, "cannot %s: the machine is in state %s",
	     what, machine_state_name(state));
	return false;
}

static json_t *do_system_reset(struct call *call)
{
	if (!is_here(call, "reset"))
		return NULL;
	/* Goes the way of a reset that the guest asks for, event included. */
	machine_post(call->context->machine, MACHINE_EVENT_RESET);
	return json_object();
}

static json_t *do_system_powerdown(struct call *call)
{
	return fail(call, generic_error, "the machine has no power button: "
		    "shut the guest down from inside, or use quit");
}

/* --------------------------------------------------------- the balloon --- */

static bool has_balloon(struct call *call)
{
	if (call->context->machine->config.balloon)
		return true;
	fail(call, not_active, "the machine has no balloon");
	return false;
}

static json_t *do_balloon(struct call *call)
{
	struct machine *machine = call->context->machine;
	uint64_t bytes = number(call, "value", 0), most = machine->memory.size;

	if (!has_balloon(call))
		return NULL;
	if (machine_balloon_check(most, bytes, &call->err) < 0)
		return NULL;
	if (machine_set_balloon(machine, machine_balloon_pages(most, bytes),
				&call->err) < 0)
		return NULL;
	return json_object();
}

static json_t *do_query_balloon(struct call *call)
{
	struct balloon_size size;

	if (!has_balloon(call))
		return NULL;
	size = balloon_device_size(&call->context->machine->balloon);
	return json_pack("{s:I}", "actual", (json_int_t)size.actual);
}

static json_t *do_x_query_statistics(struct call *call)
{
	if (!has_balloon(call))
		return NULL;
	return qmp_answer_statistics(call->context->machine,
				     truth(call, "request", true));
}

/* ----------------------------------------------------------- migration --- */

static json_t *do_migrate(struct call *call)
{
	const char *uri = json_string_value(argument(call, "uri"));
	struct migration_options options = {
		.downtime_ms = number(call, "downtime-limit",
				      DOWNTIME_DEFAULT_MS),
		.bandwidth = number(call, "max-bandwidth", 0),
		.hinting = truth(call, "x-hinting", true),
		.verify = truth(call, "x-verify", false),
	};

	if (options.downtime_ms < 1 || options.downtime_ms > DOWNTIME_MOST_MS)
		return fail(call, generic_error, "downtime-limit is %llu ms: "
			    "it can be 1 to %u",
			    (unsigned long long)options.downtime_ms,
			    DOWNTIME_MOST_MS);
	if (strlen(uri) >= sizeof(call->context->outgoing->uri))
		return fail(call, generic_error, "uri is longer than %zu bytes",
			    sizeof(call->context->outgoing->uri) - 1);
	if (outgoing_start(call->context->outgoing, call->context->machine,
			   uri, &options, &call->err) < 0)
		return NULL;
	return json_object();
}

static json_t *do_migrate_cancel(struct call *call)
{
	outgoing_cancel(call->context->outgoing);
	return json_object();
}

static json_t *do_query_migrate(struct call *call)
{
	return qmp_answer_migration(call->context->outgoing);
}

/* ----------------------------------------------------------- the table --- */

static const struct command commands[] = {
	{ "qmp_capabilities", do_capabilities, true,
	  { { "enable", ARGUMENT_LIST, false } } },
	{ "query-version", do_query_version, true, {} },
	{ "query-commands", do_query_commands, true, {} },
	{ "query-name", do_query_name, false, {} },
	{ "query-status", do_query_status, true, {} },
	{ "x-query-status", do_x_query_status, true, {} },
	{ "stop", do_stop, false, {} },
	{ "cont", do_cont, false, {} },
	{ "system_reset", do_system_reset, false, {} },
	{ "system_powerdown", do_system_powerdown, false, {} },
	{ "quit", do_quit, true, {} },
	{ "balloon", do_balloon, false,
	  { { "value", ARGUMENT_NUMBER, true } } },
	{ "query-balloon", do_query_balloon, false, {} },
	{ "x-query-statistics", do_x_query_statistics, false,
	  { { "request", ARGUMENT_BOOL, false } } },
	{ "migrate", do_migrate, false,
	  { { "uri", ARGUMENT_STRING, true },
	    { "downtime-limit", ARGUMENT_NUMBER, false },
	    { "max-bandwidth", ARGUMENT_NUMBER, false },
	    { "x-hinting", ARGUMENT_BOOL, false },
	    { "x-verify", ARGUMENT_BOOL, false } } },
	{ "migrate_cancel", do_migrate_cancel, false, {} },
	{ "query-migrate", do_query_migrate, true, {} },
};

static json_t *do_query_commands(struct call *call)
{
	json_t *array = json_array();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		json_array_append_new(array, json_pack("{s:s}", "name",
						       commands[i].name));
	return array;
}

static const struct command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

/* ----------------------------------------------------------- a request --- */

static bool has_type(const json_t *value, enum argument_type type)
{
	switch (type) {
	case ARGUMENT_NUMBER:
		return json_is_integer(value) && json_integer_value(value) >= 0;
	case ARGUMENT_STRING:
		return json_is_string(value);
	case ARGUMENT_BOOL:
		return json_is_boolean(value);
	case ARGUMENT_LIST:
		return json_is_array(value);
	}
	return false;
}

static bool is_argument(const struct command *command, const char *name)
{
	unsigned int i;

	for (i = 0; i < MAX_ARGUMENTS && command->argument[i].name; i++)
		if (!strcmp(command->argument[i].name, name))
			return true;
	return false;
}

/* Return: true, or false with @call->err */
static bool check_value(struct call *call, const struct command *command,
			const struct argument *known, const json_t *value)
{
	if (!value && known->required)
		fail(call, generic_error, "%s needs the argument '%s'",
		     command->name, known->name);
	else if (value && !has_type(value, known->type))
		fail(call, generic_error, "argument '%s' of %s must be %s",
		     known->name, command->name, type_names[known->type]);
	else
		return true;
	return false;
}

/* Are @arguments what @command takes? Return: true, or false with @call->err */
static bool check_arguments(struct call *call, const struct command *command,
			    json_t *arguments)
{
	const struct argument *known = command->argument;
	const char *name;
	json_t *value;

	if (arguments && !json_is_object(arguments)) {
		fail(call, generic_error, "'arguments' is not an object");
		return false;
	}
	json_object_foreach(arguments, name, value) {
		if (!is_argument(command, name)) {
			fail(call, generic_error, "%s has no argument '%.64s'",
			     command->name, name);
			return false;
		}
	}
	for (; known < command->argument + MAX_ARGUMENTS && known->name;
	     known++)
		if (!check_value(call, command, known,
				 json_object_get(arguments, known->name)))
			return false;
	call->arguments = arguments;
	return true;
}

/* Return: the name of the command, or NULL with @call->err */
static const char *check_request(struct call *call, json_t *request)
{
	json_t *execute = json_object_get(request, "execute");
	const char *key;
	json_t *value;

	json_object_foreach(request, key, value) {
		if (strcmp(key, "execute") && strcmp(key, "arguments") &&
		    strcmp(key, "id")) {
			fail(call, generic_error, "a request has no member "
			     "'%.64s'", key);
			return NULL;
		}
	}
	if (!json_is_string(execute))
		fail(call, generic_error, "a request needs a string 'execute'");
	return json_string_value(execute);
}

/* Return: what stands behind "return", or NULL with @call->err */
static json_t *carry_out(struct call *call, json_t *request)
{
	const char *name = check_request(call, request);
	const struct command *command;

	if (!name)
		return NULL;
	command = find_command(name);
	if (!command)
		return fail(call, not_found, "there is no command '%.64s'",
			    name);
	if (!*call->negotiated && command->handler != do_capabilities)
		return fail(call, not_found, "qmp_capabilities must come "
			    "before '%s'", name);
	if (!call->context->machine && !command->early)
		return fail(call, generic_error, "'%s' must wait: the guest is "
			    "still coming in", name);
	if (!check_arguments(call, command,
			     json_object_get(request, "arguments")))
		return NULL;
	return command->handler(call);
}

json_t *qmp_error_reply(const char *class, const char *text)
{
	return json_pack("{s:{s:s,s:o}}", "error", "class", class, "desc",
			 qmp_string(text));
}

json_t *qmp_execute(struct qmp_server *server,
		    const struct qmp_context *context, bool *negotiated,
		    json_t *request)
{
	struct call call = {
		.server = server,
		.context = context,
		.negotiated = negotiated,
		.error_class = generic_error,
		.err = { "" },
	};
	json_t *result = carry_out(&call, request), *reply;

	if (result)
		reply = json_pack("{s:o}", "return", result);
	else
		reply = qmp_error_reply(call.error_class,
					call.err.message[0] ?
						call.err.message :
						"out of memory");
	if (reply && json_object_get(request, "id"))
		json_object_set(reply, "id", json_object_get(request, "id"));
	return reply;
}
