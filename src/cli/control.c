// SPDX-License-Identifier: MIT
/* aerostat balloon, status, pause, resume, reset, quit: short talks with a
 * machine. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/answer.h"
#include "cli/client.h"
#include "cli/progress.h"

#define POLL_MS 200
#define WAIT_PATIENCE_MS 10000 /* without any change */
#define WIDTH 80

/* What one of these commands was told. */
struct control {
	struct client_options client;
	bool sized, wait; /* balloon's own */
	uint64_t size;
};

static const struct argp_child children[] = {
	{ &client_argp, 0, NULL, 0 },
	{ 0 },
};

typedef int talk_function(struct control *control, struct client *client,
			  struct error *err);

/* Connect, let @talk do its work, and end with an exit status. */
static int converse(struct control *control, talk_function *talk)
{
	struct error err = { "" };
	struct client client;
	int rc;

	rc = client_open(&client, control->client.control, &err);
	if (rc == 0)
		rc = talk(control, &client, &err);
	client_close(&client);
	return rc < 0 ? cli_fail(&err) : EXIT_DONE;
}

static error_t parse_plain(int key, char *arg, struct argp_state *state)
{
	struct control *control = state->input;

	if (key == ARGP_KEY_INIT) {
		state->child_inputs[0] = &control->client;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

/* A command without options of its own. @name: as usage lines show it */
static int plain(int argc, char **argv, char *name, const char *doc,
		 talk_function *talk)
{
	const struct argp argp = { NULL, parse_plain, NULL, doc, children,
				   NULL, NULL };
	struct control control = { 0 };

	argv[0] = name;
	argp_parse(&argp, argc, argv, 0, NULL, &control);
	return converse(&control, talk);
}

/* ----------------------------------------------- what the machine says --- */

/* Those of @names that @without does not have; lines end at WIDTH. Nothing at
 * all when there are none. */
static void print_names(const char *label, const json_t *names,
			const json_t *without)
{
	size_t i, length, column = 0;
	const char *text;
	json_t *name;

	json_array_foreach(names, i, name) {
		text = json_string_value(name);
		length = strlen(text);
		if (has_name(without, text))
			continue;
		if (!column)
			column = printf(LABEL "%s", label, text);
		else if (column + length + 3 <= WIDTH)
			column += printf(", %s", text);
		else
			column = printf(",\n" LABEL "%s", "", text) - 2;
	}
	if (column)
		putchar('\n');
}

static void print_driver(const json_t *balloon)
{
	json_t *offered = json_object_get(balloon, "offered"),
	       *negotiated = json_object_get(balloon, "negotiated");

	if (!json_is_true(json_object_get(balloon, "driver"))) {
		printf(LABEL "none in the guest\n", "driver");
		print_names("offered", offered, NULL);
		return;
	}
	printf(LABEL "%s protocol, %s numbering%s\n", "driver",
	       string(balloon, "protocol"), string(balloon, "numbering"),
	       json_is_true(json_object_get(balloon, "broken")) ?
		       "; it broke the device, which needs a reset" : "");
	print_names("negotiated", negotiated, NULL);
	print_names("not taken", offered, negotiated);
}

static char *pages_size(const json_t *object, const char *key, char *to,
			size_t size)
{
	return cli_format_size(number(object, key) * 4096, to, size);
}

/* What the balloon gave back to the host, and what it could not. */
static void print_given_back(const json_t *balloon)
{
	uint64_t errors = number(balloon, "discard_errors");
	char a[32], b[32];

	printf(LABEL "%s, of which the guest reported %s\n", "given back",
	       pages_size(balloon, "discarded_pages", a, sizeof(a)),
	       pages_size(balloon, "reported_pages", b, sizeof(b)));
	if (number(balloon, "held_pages"))
		printf(LABEL "%s, until the rest of their huge pages is in the "
		       "balloon\n", "waiting",
		       pages_size(balloon, "held_pages", a, sizeof(a)));
	if (number(balloon, "discard_kept") ||
	    number(balloon, "inhibited_pages"))
		printf(LABEL "%s in parts of host pages, %s that hold the "
		       "guest's poison\n", "kept",
		       pages_size(balloon, "discard_kept", a, sizeof(a)),
		       pages_size(balloon, "inhibited_pages", b, sizeof(b)));
	if (errors)
		printf(LABEL "%" PRIu64 " runs of pages the host did not take "
		       "back\n", "failed", errors);
}

/* What a driver in order never does. */
static void print_faults(const json_t *balloon)
{
	const json_t *report = json_object_get(balloon, "report");
	uint64_t buffers = number(balloon, "malformed_buffers") +
			   number(report, "malformed"),
		 outside = number(balloon, "bad_frames") +
			   number(report, "rejected");

	if (buffers || outside)
		printf(LABEL "%" PRIu64 " malformed buffers, %" PRIu64
		       " frames or hints outside its memory\n", "faults",
		       buffers, outside);
}

static void print_balloon(const json_t *balloon)
{
	const json_t *report = json_object_get(balloon, "report");
	char a[32], b[32];

	printf(LABEL "the guest may keep %s and keeps %s\n", "balloon",
	       cli_format_size(number(balloon, "target"), a, sizeof(a)),
	       cli_format_size(number(balloon, "actual"), b, sizeof(b)));
	print_driver(balloon);
	printf(LABEL "%s, command id %" PRIu64 ", %" PRIu64 " hints of %s\n",
	       "report", string(balloon, "report_state"),
	       number(balloon, "command_id"), number(report, "hints"),
	       pages_size(report, "hinted_pages", a, sizeof(a)));
	print_given_back(balloon);
	print_faults(balloon);
}

static void print_status(const json_t *status)
{
	json_t *balloon = json_object_get(status, "balloon");
	char ram[32], rss[32], huge[32];

	if (string(status, "name")[0])
		printf(LABEL "%s\n", "name", string(status, "name"));
	printf(LABEL "%s\n", "state", string(status, "state"));
	if (!json_object_get(status, "ram_bytes"))
		return; /* a guest that is still coming in */
	cli_format_size(number(status, "ram_bytes"), ram, sizeof(ram));
	cli_format_size(number(status, "rss_bytes"), rss, sizeof(rss));
	cli_format_size(number(status, "huge_bytes"), huge, sizeof(huge));
	printf(LABEL "%s (%s), of which %s resident, %s in huge pages\n",
	       "memory", ram, string(status, "backing"), rss, huge);
	printf(LABEL "%" PRIu64 "\n", "CPUs", number(status, "cpus"));
	if (json_is_object(balloon))
		print_balloon(balloon);
	else
		printf(LABEL "none\n", "balloon");
}

/* ------------------------------------------------------------- status --- */

static int talk_status(struct control *control, struct client *client,
		       struct error *err)
{
	json_t *status;

	if (client_call(client, "x-query-status", NULL, &status, err) < 0)
		return -1;
	if (control->client.json)
		client_print(status);
	else
		print_status(status);
	json_decref(status);
	return 0;
}

int command_status(int argc, char **argv)
{
	static char name[] = "aerostat status";

	return plain(argc, argv, name,
		     "Tell how a machine is: its state, its memory and how "
		     "much of it is resident, its balloon.\v"
		     "Example:\n"
		     "  aerostat status --control vm.sock\n", talk_status);
}

/* ---------------------------------------- pause, resume, reset, quit --- */

static int tell(struct control *control, struct client *client,
		const char *command, struct error *err)
{
	json_t *status;

	if (client_call(client, command, NULL, NULL, err) < 0)
		return -1;
	if (!control->client.json)
		return 0;
	if (client_call(client, "query-status", NULL, &status, err) < 0)
		return -1;
	client_print(status);
	json_decref(status);
	return 0;
}

static int talk_pause(struct control *control, struct client *client,
		      struct error *err)
{
	return tell(control, client, "stop", err);
}

static int talk_resume(struct control *control, struct client *client,
		       struct error *err)
{
	return tell(control, client, "cont", err);
}

static int talk_reset(struct control *control, struct client *client,
		      struct error *err)
{
	return tell(control, client, "system_reset", err);
}

static int talk_quit(struct control *control, struct client *client,
		     struct error *err)
{
	enum client_message got;
	json_t *message, *status;

	if (client_call(client, "quit", NULL, NULL, err) < 0)
		return -1;
	do {
		got = client_receive(client, -1, &message, err);
		if (got == CLIENT_RECEIVED)
			json_decref(message);
	} while (got == CLIENT_RECEIVED || got == CLIENT_NOTHING);
	if (got == CLIENT_FAILED)
		return -1;
	if (control->client.json) {
		status = json_pack("{s:s,s:b}", "status", "shutdown",
				   "running", 0);
		client_print(status);
		json_decref(status);
	}
	return 0;
}

int command_pause(int argc, char **argv)
{
	static char name[] = "aerostat pause";

	return plain(argc, argv, name,
		     "Stop the CPUs of a machine. Its memory stays as it is.\v"
		     "Example:\n"
		     "  aerostat pause --control vm.sock\n", talk_pause);
}

int command_resume(int argc, char **argv)
{
	static char name[] = "aerostat resume";

	return plain(argc, argv, name,
		     "Let the CPUs of a machine run on, or run for the first "
		     "time after 'aerostat run --paused'.\v"
		     "Example:\n"
		     "  aerostat resume --control vm.sock\n", talk_resume);
}

int command_reset(int argc, char **argv)
{
	static char name[] = "aerostat reset";

	return plain(argc, argv, name,
		     "Start the guest of a machine anew, at once, as a reset "
		     "button does.\v"
		     "Example:\n"
		     "  aerostat reset --control vm.sock\n", talk_reset);
}

int command_quit(int argc, char **argv)
{
	static char name[] = "aerostat quit";

	return plain(argc, argv, name,
		     "End a machine at once, as if its power failed, and wait "
		     "until its process has let go of the control socket.\v"
		     "Example:\n"
		     "  aerostat quit --control vm.sock\n", talk_quit);
}

/* ------------------------------------------------------------ balloon --- */

/* The object "balloon" of the machine's status, the caller's. */
static int query_balloon(struct client *client, json_t **balloon,
			 struct error *err)
{
	json_t *status, *found;
	int rc = 0;

	*balloon = NULL;
	if (client_call(client, "x-query-status", NULL, &status, err) < 0)
		return -1;
	found = json_object_get(status, "balloon");
	if (json_is_object(found))
		*balloon = json_incref(found);
	else if (found) /* null */
		rc = error_set(err, "%s: the machine has no balloon",
			       client->path);
	else
		rc = error_set(err, "%s: the guest is still coming in",
			       client->path);
	json_decref(status);
	return rc;
}

static void pause_ms(unsigned int ms)
{
	struct timespec time = { .tv_nsec = ms * 1000000l };

	nanosleep(&time, NULL);
}

static int gave_up(const json_t *balloon, struct error *err)
{
	char target[32], actual[32];

	if (!json_is_true(json_object_get(balloon, "driver")))
		return error_set(err, "the guest has no balloon driver "
				 "running");
	cli_format_size(number(balloon, "target"), target, sizeof(target));
	cli_format_size(number(balloon, "actual"), actual, sizeof(actual));
	return error_set(err, "the guest keeps %s where %s was asked for, and "
			 "nothing moved for %d s", actual, target,
			 WAIT_PATIENCE_MS / 1000);
}

static void draw(struct progress *progress, uint64_t first,
		 const json_t *balloon)
{
	uint64_t actual = number(balloon, "actual"),
		 target = number(balloon, "target");
	double all = (double)target - first, part = (double)actual - first;
	char text[96], a[32], t[32];

	snprintf(text, sizeof(text), "the guest keeps %s, may keep %s",
		 cli_format_size(actual, a, sizeof(a)),
		 cli_format_size(target, t, sizeof(t)));
	progress_draw(progress, all ? part / all : 1, text);
}

/* Until the guest keeps what it may, or nothing moves any more. */
static int wait_for_guest(struct client *client, bool bar, struct error *err)
{
	int64_t changed = client_now_ms();
	uint64_t first, last, actual;
	struct progress progress;
	json_t *balloon;
	int rc = 0;

	if (query_balloon(client, &balloon, err) < 0)
		return -1;
	progress_begin(&progress, bar);
	first = last = number(balloon, "actual");
	while (rc == 0 && last != number(balloon, "target")) {
		draw(&progress, first, balloon);
		pause_ms(POLL_MS);
		json_decref(balloon);
		rc = query_balloon(client, &balloon, err);
		actual = number(balloon, "actual");
		if (actual != last)
			changed = client_now_ms();
		last = actual;
		if (rc == 0 && client_now_ms() - changed >= WAIT_PATIENCE_MS)
			rc = gave_up(balloon, err);
	}
	json_decref(balloon);
	progress_end(&progress);
	return rc;
}

static int talk_balloon(struct control *control, struct client *client,
			struct error *err)
{
	json_t *balloon;
	int rc = 0;

	if (control->sized &&
	    client_call(client, "balloon",
			json_pack("{s:I}", "value", (json_int_t)control->size),
			NULL, err) < 0)
		return -1;
	if (control->wait)
		rc = wait_for_guest(client, !control->client.json, err);
	/* How it stands is told even where the guest did not follow. */
	if (query_balloon(client, &balloon, rc < 0 ? NULL : err) < 0)
		return -1;
	if (control->client.json)
		client_print(balloon);
	else
		print_balloon(balloon);
	json_decref(balloon);
	return rc;
}

static error_t parse_balloon(int key, char *arg, struct argp_state *state)
{
	struct control *control = state->input;
	struct error err;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &control->client;
		break;
	case 'w':
		control->wait = true;
		break;
	case ARGP_KEY_ARG:
		if (control->sized)
			cli_usage_error(state, "there can be one SIZE only");
		if (cli_parse_size(arg, &control->size, &err) < 0)
			cli_usage_error(state, "%s", err.message);
		if (control->size > INT64_MAX)
			cli_usage_error(state, "SIZE %s is too large", arg);
		control->sized = true;
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

int command_balloon(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "wait", 'w', NULL, 0,
		  "Wait until the guest keeps what it may; fail when nothing "
		  "has changed for 10 seconds", 0 },
		{ 0 },
	};
	static const char doc[] =
		"Tell a guest how much memory it may keep, or show how much it "
		"keeps.\v"
		"SIZE is what the guest keeps, as in 512M or 2G; the rest is "
		"given back to the host.\n\n"
		"Example:\n"
		"  aerostat balloon --control vm.sock 512M --wait\n";
	static const struct argp argp = { options, parse_balloon, "[SIZE]",
					  doc, children, NULL, NULL };
	static char name[] = "aerostat balloon";
	struct control control = { 0 };

	argv[0] = name;
	argp_parse(&argp, argc, argv, 0, NULL, &control);
	return converse(&control, talk_balloon);
}
