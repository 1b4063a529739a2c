// SPDX-License-Identifier: MIT
/* aerostat migrate: have a machine move its guest, and show how it goes. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/client.h"
#include "cli/progress.h"

#define POLL_MS 200
#define PAGE 4096ull

enum {
	OPTION_DOWNTIME = 0x100,
	OPTION_BANDWIDTH,
	OPTION_NO_HINTING,
	OPTION_VERIFY,
};

struct migrate {
	struct client_options client;
	const char *uri;
	uint64_t downtime, bandwidth; /* 0: not given */
	bool no_hinting, verify;
	struct progress progress;
};

/* Ctrl-C was pressed. A second one meets the default action. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
	interrupted = 1;
}

static void catch_interrupt(void)
{
	struct sigaction action = {
		.sa_handler = on_interrupt,
		.sa_flags = SA_RESETHAND,
	};

	sigaction(SIGINT, &action, NULL);
}

static bool is(const json_t *status, const char *state)
{
	return !strcmp(string(status, "status"), state);
}

static size_t rounds(const json_t *status)
{
	return json_array_size(json_object_get(status, "rounds"));
}

static char *format_ms(uint64_t ms, char *to, size_t size)
{
	if (ms < 1000)
		snprintf(to, size, "%" PRIu64 " ms", ms);
	else
		snprintf(to, size, "%.1f s", ms / 1000.0);
	return to;
}

/* ----------------------------------------------------------- progress --- */

/* How long the pages that are left take at this rate, at most. */
static char *format_remaining(const json_t *status, char *to, size_t size)
{
	uint64_t rate = number(status, "bytes_per_second"),
		 left = number(status, "pages_left") * PAGE;

	if (!rate)
		snprintf(to, size, "- s");
	else
		snprintf(to, size, "%" PRIu64 " s", (left + rate - 1) / rate);
	return to;
}

static void draw(struct migrate *migrate, const json_t *status)
{
	double ram = number(status, "ram_bytes");
	double left = number(status, "pages_left") * PAGE;
	char sent[32], out[32], rate[32], remaining[32], text[200];

	if (is(status, "setup") || !rounds(status)) {
		progress_draw(&migrate->progress, 0, "setting up");
		return;
	}
	cli_format_size(number(status, "bytes_sent"), sent, sizeof(sent));
	cli_format_size((number(status, "pages_hinted") +
			 number(status, "pages_absent")) * PAGE, out,
			sizeof(out));
	cli_format_size(number(status, "bytes_per_second"), rate,
			sizeof(rate));
	format_remaining(status, remaining, sizeof(remaining));
	snprintf(text, sizeof(text), "%sround %zu, %s sent, %s left out, "
		 "%s/s, %s to go", interrupted ? "cancelling: " : "",
		 rounds(status), sent, out, rate, remaining);
	progress_draw(&migrate->progress, ram > 0 ? 1 - left / ram : 0, text);
}

/* ------------------------------------------------------------- follow --- */

/* What is under way between us and the machine. */
struct follow {
	bool asked;	/* query-migrate has no answer yet */
	bool cancelled; /* migrate_cancel was sent */
	bool mute;	/* nothing can be sent any more */
	int64_t ask_at;
};

/* The process may end between two questions: then what it said last is still
 * there to be read, so a failure to send is none. */
static void say(struct follow *follow, struct client *client,
		const char *command)
{
	if (!follow->mute && client_send(client, command, NULL, NULL) < 0)
		follow->mute = true;
}

static void speak(struct follow *follow, struct client *client)
{
	int64_t now = client_now_ms();

	if (interrupted && !follow->cancelled) {
		say(follow, client, "migrate_cancel");
		follow->cancelled = true;
	}
	if (!follow->asked && now >= follow->ask_at) {
		say(follow, client, "query-migrate");
		follow->asked = true;
		follow->ask_at = now + POLL_MS;
	}
}

static void listen(struct migrate *migrate, struct follow *follow,
		   json_t *message)
{
	json_t *status = json_object_get(message, "return");

	if (!json_object_get(status, "status"))
		return;
	follow->asked = false;
	draw(migrate, status);
}

/* Until the event MIGRATION is in client->end. Return: 0, or -1 with @err */
static int follow_to_end(struct migrate *migrate, struct client *client,
			 struct error *err)
{
	struct follow follow = { 0 };
	json_t *message;

	while (!client->end) {
		speak(&follow, client);
		switch (client_receive(client, POLL_MS / 2, &message, err)) {
		case CLIENT_RECEIVED:
			listen(migrate, &follow, message);
			json_decref(message);
			break;
		case CLIENT_NOTHING:
			break;
		case CLIENT_CLOSED:
			return error_set(err, "%s: the process ended without "
					 "saying how the move went; the "
					 "destination knows whether the guest "
					 "is there", client->path);
		case CLIENT_FAILED:
			return -1;
		}
	}
	return 0;
}

/* ------------------------------------------------------------- result --- */

static void print_summary(const struct migrate *migrate, const json_t *end)
{
	char a[32], b[32], c[32];

	printf(LABEL "%s\n", "total",
	       format_ms(number(end, "total_ms"), a, sizeof(a)));
	printf(LABEL "%s\n", "downtime",
	       format_ms(number(end, "downtime_ms"), a, sizeof(a)));
	printf(LABEL "%s for %s of RAM\n", "sent",
	       cli_format_size(number(end, "bytes_sent"), a, sizeof(a)),
	       cli_format_size(number(end, "ram_bytes"), b, sizeof(b)));
	printf(LABEL "%s by hints, %s absent, %s zero\n", "left out",
	       cli_format_size(number(end, "pages_hinted") * PAGE, a,
			       sizeof(a)),
	       cli_format_size(number(end, "pages_absent") * PAGE, b,
			       sizeof(b)),
	       cli_format_size(number(end, "pages_zero") * PAGE, c,
			       sizeof(c)));
	printf(LABEL "%zu\n", "rounds", rounds(end));
	printf(LABEL "%s there\n", "resident",
	       cli_format_size(number(end, "destination_rss_bytes"), a,
			       sizeof(a)));
	if (migrate->verify)
		printf(LABEL "%" PRIu64 " pages are the same there\n",
		       "verified", number(end, "verified_pages"));
}

/* The move is over. Return: 0 when the guest is there, else -1 with @err */
static int judge(const struct migrate *migrate, const json_t *end,
		 struct error *err)
{
	const char *why = string(end, "error");

	if (is(end, "completed"))
		return 0;
	if (is(end, "cancelled"))
		return error_set(err, "cancelled, the guest runs on here");
	if (is(end, "failed"))
		return error_set(err, "cannot move to %s: %s; the guest runs "
				 "on here", migrate->uri, why);
	return error_set(err, "moving to %s: %s; look there whether the guest "
			 "arrived, it does not run here any more",
			 migrate->uri, why);
}

/* --json: one object, whatever happened. */
static void print_json(const json_t *end, const char *state,
		       const struct error *err)
{
	json_t *object;

	if (end) {
		client_print(end);
		return;
	}
	object = json_pack("{s:s,s:s}", "status", state, "error",
			   err->message);
	client_print(object);
	json_decref(object);
}

/* -------------------------------------------------------------- start --- */

static json_t *arguments(const struct migrate *migrate)
{
	json_t *object = json_pack("{s:s,s:b,s:b}", "uri", migrate->uri,
				   "x-hinting", !migrate->no_hinting,
				   "x-verify", migrate->verify);

	if (migrate->downtime)
		json_object_set_new(object, "downtime-limit",
				    json_integer(migrate->downtime));
	if (migrate->bandwidth)
		json_object_set_new(object, "max-bandwidth",
				    json_integer(migrate->bandwidth));
	return object;
}

/* Return: 0 when a move has begun, or -1 with @err */
static int start(struct migrate *migrate, struct client *client,
		 struct error *err)
{
	json_t *object = arguments(migrate);

	if (!object)
		return error_set(err, "URI '%s' is not UTF-8", migrate->uri);
	if (client_call(client, "migrate", object, NULL, err) < 0)
		return -1;
	/* An end that was told before is not the end of this move. */
	json_decref(client->end);
	client->end = NULL;
	return 0;
}

static int move(struct migrate *migrate)
{
	struct error err = { "" };
	const char *state = "failed";
	struct client client;
	int rc;

	rc = client_open(&client, migrate->client.control, &err);
	if (rc == 0) {
		catch_interrupt();
		rc = start(migrate, &client, &err);
	}
	if (rc == 0) {
		progress_begin(&migrate->progress, !migrate->client.json);
		rc = follow_to_end(migrate, &client, &err);
		progress_end(&migrate->progress);
		state = "unknown"; /* when its end is not known */
	}
	if (client.end)
		rc = judge(migrate, client.end, &err);
	if (migrate->client.json)
		print_json(client.end, state, &err);
	else if (rc == 0)
		print_summary(migrate, client.end);
	client_close(&client);
	return rc < 0 ? cli_fail(&err) : EXIT_DONE;
}

/* ------------------------------------------------------------ options --- */

static const struct argp_option options[] = {
	{ "downtime", OPTION_DOWNTIME, "MS", 0,
	  "Let the guest stand still for at most so many milliseconds, if "
	  "the link allows it (default 300)", 0 },
	{ "bandwidth", OPTION_BANDWIDTH, "RATE", 0,
	  "Send at most so many bytes a second, as in 100M", 0 },
	{ "no-hinting", OPTION_NO_HINTING, NULL, 0,
	  "Do not ask the guest for its free pages", 0 },
	{ "verify", OPTION_VERIFY, NULL, 0,
	  "Have the destination compare every page before it runs", 0 },
	{ 0 },
};

static const char doc[] =
	"Move a running machine's guest to another process, here or on "
	"another host, while it runs.\v"
	"URI is where 'aerostat run --incoming URI' waits: unix:PATH, "
	"tcp:HOST:PORT or fd:N (a descriptor of the machine's process). The "
	"machine's process here ends once the guest runs there. Ctrl-C "
	"cancels, and the guest runs on here.\n\n"
	"Example:\n"
	"  aerostat migrate --control vm.sock unix:move.sock\n"
	"  aerostat migrate --control vm.sock tcp:host2:4444 "
	"--bandwidth 100M --json\n";

static uint64_t parse_downtime(struct argp_state *state, const char *arg)
{
	char *end;
	unsigned long ms = strtoul(arg, &end, 10);

	if (*arg < '0' || *arg > '9' || *end || ms < 1 || ms > 2000000)
		cli_usage_error(state, "--downtime %s: a number of "
				"milliseconds from 1 to 2000000 is needed",
				arg);
	return ms;
}

static uint64_t parse_bandwidth(struct argp_state *state, const char *arg)
{
	struct error err;
	uint64_t rate = 0;

	if (cli_parse_size(arg, &rate, &err) < 0)
		cli_usage_error(state, "--bandwidth: %s", err.message);
	if (!rate || rate > INT64_MAX)
		cli_usage_error(state, "--bandwidth %s: a rate of 1 or more "
				"bytes a second is needed, as in 100M", arg);
	return rate;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct migrate *migrate = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &migrate->client;
		break;
	case OPTION_DOWNTIME:
		migrate->downtime = parse_downtime(state, arg);
		break;
	case OPTION_BANDWIDTH:
		migrate->bandwidth = parse_bandwidth(state, arg);
		break;
	case OPTION_NO_HINTING:
		migrate->no_hinting = true;
		break;
	case OPTION_VERIFY:
		migrate->verify = true;
		break;
	case ARGP_KEY_ARG:
		if (migrate->uri)
			cli_usage_error(state, "there can be one URI only");
		migrate->uri = arg;
		break;
	case ARGP_KEY_END:
		if (!migrate->uri)
			cli_usage_error(state, "a URI is needed, as in "
					"unix:move.sock");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

int command_migrate(int argc, char **argv)
{
	static const struct argp_child children[] = {
		{ &client_argp, 0, NULL, 0 },
		{ 0 },
	};
	static const struct argp argp = { options, parse_option, "URI", doc,
					  children, NULL, NULL };
	static char name[] = "aerostat migrate";
	struct migrate migrate = { 0 };

	argv[0] = name;
	argp_parse(&argp, argc, argv, 0, NULL, &migrate);
	return move(&migrate);
}
