// SPDX-License-Identifier: MIT
/* aerostat stats: what a guest says of its own memory, once or again and
 * again. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/answer.h"
#include "cli/client.h"

#define ANSWER_MS 3000 /* for the guest */
#define POLL_FIRST_MS 20
#define POLL_MOST_MS 100
#define WATCH_LEAST 0.1
#define WATCH_MOST 3600
#define HEADER_EVERY 22 /* lines, on a terminal */

enum {
	OPTION_WATCH = 0x100,
};

struct stats {
	struct client_options client;
	int64_t watch_ms; /* 0: once */
};

/* What one question brought. */
struct sample {
	json_t *values;	  /* as x-query-statistics returns them */
	uint64_t resident; /* of the guest's memory, on the host */
	int64_t at_ms;	  /* when the guest said it, by client_now_ms() */
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

static bool is_true(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

/* ----------------------------------------------------- ask and wait --- */

/* Return: why a machine with this status gives no statistics, or NULL */
static const char *obstacle(const json_t *status)
{
	const json_t *balloon = json_object_get(status, "balloon");
	json_t *state = json_object_get(status, "state");

	if (!balloon)
		return "the guest is still coming in";
	if (!json_is_object(balloon))
		return "the machine has no balloon, through which it is asked";
	if (!has_name(json_object_get(balloon, "offered"), "stats"))
		return "statistics are not offered to the guest: the machine "
		       "was started with --balloon stats=off";
	if (is_true(balloon, "broken"))
		return "the guest's driver broke the balloon, which needs a "
		       "reset";
	if (!is_true(balloon, "driver"))
		return "the guest has no balloon driver running";
	if (!has_name(json_object_get(balloon, "negotiated"), "stats"))
		return "the guest's balloon driver did not take statistics";
	if (!strcmp(json_string_value(state), "running"))
		return NULL;
	if (!strcmp(json_string_value(state), "paused"))
		return "the guest is paused: 'aerostat resume' lets it answer";
	return "the guest is moving to another process";
}

/* Look what is in the way, and how much is resident. Return: 0, or -1 with
 * @err; @why: NULL when nothing is in the way */
static int look(struct client *client, const char **why, uint64_t *resident,
		struct error *err)
{
	json_t *status;

	if (client_call(client, "x-query-status", NULL, &status, err) < 0)
		return -1;
	*why = obstacle(status);
	*resident = number(status, "rss_bytes");
	json_decref(status);
	return 0;
}

static int query(struct client *client, bool request, json_t **values,
		 struct error *err)
{
	return client_call(client, "x-query-statistics",
			   json_pack("{s:b}", "request", request), values, err);
}

/* Until @until or Ctrl-C; events are passed over. Return: 0, or -1 with @err:
 * the machine is gone */
static int rest(struct client *client, int64_t until, struct error *err)
{
	json_t *message;
	int64_t left;

	while (!interrupted && (left = until - client_now_ms()) > 0) {
		switch (client_receive(client, left, &message, err)) {
		case CLIENT_RECEIVED:
			json_decref(message);
			break;
		case CLIENT_NOTHING:
			break;
		case CLIENT_CLOSED:
			return error_set(err, "%s: the machine's process has "
					 "ended", client->path);
		case CLIENT_FAILED:
			return -1;
		}
	}
	return 0;
}

/* Ask, and wait for the answer. Return: 0 with @values, what was said before
 * where @answered is false; or -1 with @err */
static int ask(struct client *client, json_t **values, bool *answered,
	       struct error *err)
{
	int64_t until = client_now_ms() + ANSWER_MS;
	int64_t pause = POLL_FIRST_MS;
	bool request = true;
	uint64_t before;

	/* Known before we ask: the reply to that may bring the answer. */
	if (query(client, false, values, err) < 0)
		return -1;
	before = number(*values, "updates");
	for (;;) {
		json_decref(*values);
		*values = NULL;
		if (query(client, request, values, err) < 0)
			return -1;
		*answered = number(*values, "updates") != before;
		if (*answered || interrupted || client_now_ms() >= until)
			return 0;
		if (rest(client, client_now_ms() + pause, err) < 0)
			return -1;
		request = false;
		pause = pause * 3 / 2;
		if (pause > POLL_MOST_MS)
			pause = POLL_MOST_MS;
	}
}

/* @why, and how old what we have is. Return: -1 with @err */
static int refuse(const struct client *client, const char *why,
		  const json_t *values, struct error *err)
{
	if (!number(values, "updates"))
		return error_set(err, "%s: %s", client->path, why);
	return error_set(err, "%s: %s; what it said last is %.1f s old",
			 client->path, why, number(values, "age_ms") / 1000.0);
}

/* Return: 1 with @sample, which is the caller's; 0 with @err when there is no
 * answer now; -1 with @err when there will be none */
static int take(struct client *client, struct sample *sample,
		struct error *err)
{
	bool answered = false;
	const char *why;

	sample->values = NULL;
	if (look(client, &why, &sample->resident, err) < 0)
		return -1;
	if (!why && ask(client, &sample->values, &answered, err) < 0) {
		json_decref(sample->values);
		return -1;
	}
	if (answered) {
		sample->at_ms = client_now_ms() -
				number(sample->values, "age_ms");
		return 1;
	}
	/* What is in the way may have come meanwhile. */
	if (!why && look(client, &why, &sample->resident, err) < 0) {
		json_decref(sample->values);
		return -1;
	}
	/* The error of a machine without a balloon says no more than why. */
	if (!sample->values)
		query(client, false, &sample->values, NULL);
	refuse(client, why ? why : "the guest did not answer within 3 s",
	       sample->values, err);
	json_decref(sample->values);
	sample->values = NULL;
	return 0;
}

/* ------------------------------------------------------- for people --- */

enum unit {
	UNIT_BYTES,
	UNIT_COUNT,
};

struct line {
	const char *label;
	const char *key; /* NULL: what is resident on the host */
	enum unit unit;
};

struct group {
	const char *title;
	struct line line[8]; /* up to a NULL label */
};

static const struct group groups[] = {
	{ "memory",
	  { { "total", "total", UNIT_BYTES },
	    { "available", "available", UNIT_BYTES },
	    { "free", "free", UNIT_BYTES },
	    { "disk caches", "disk_caches", UNIT_BYTES },
	    { "resident here", NULL, UNIT_BYTES } } },
	{ "paging, since the guest's boot",
	  { { "swapped in", "swap_in", UNIT_BYTES },
	    { "swapped out", "swap_out", UNIT_BYTES },
	    { "major faults", "major_faults", UNIT_COUNT },
	    { "minor faults", "minor_faults", UNIT_COUNT } } },
	{ "reclaim, since the guest's boot",
	  { { "allocation stalls", "alloc_stalls", UNIT_COUNT },
	    { "background scans", "async_scans", UNIT_BYTES },
	    { "direct scans", "direct_scans", UNIT_BYTES },
	    { "background reclaims", "async_reclaims", UNIT_BYTES },
	    { "direct reclaims", "direct_reclaims", UNIT_BYTES },
	    { "OOM kills", "oom_kills", UNIT_COUNT } } },
	{ "huge pages, since the guest's boot",
	  { { "allocated", "hugetlb_allocations", UNIT_COUNT },
	    { "failed", "hugetlb_failures", UNIT_COUNT } } },
};

/* Return: whether the guest sent it */
static bool value_of(const struct sample *sample, const char *key,
		     uint64_t *value)
{
	const json_t *found = json_object_get(sample->values, key);

	*value = json_integer_value(found);
	return found != NULL;
}

static void print_group(const struct group *group, const struct sample *sample)
{
	const struct line *line;
	bool titled = false;
	uint64_t value;
	char text[32];

	for (line = group->line; line->label; line++) {
		value = sample->resident;
		if (line->key && !value_of(sample, line->key, &value))
			continue;
		if (!titled)
			puts(group->title);
		titled = true;
		if (line->unit == UNIT_BYTES)
			cli_format_size(value, text, sizeof(text));
		else
			snprintf(text, sizeof(text), "%" PRIu64, value);
		printf("  %-19s %12s\n", line->label, text);
	}
}

static void print_sample(const struct sample *sample)
{
	size_t i;

	for (i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		print_group(&groups[i], sample);
}

/* ------------------------------------------------------------ a table --- */

/* "1.2 GiB" as "1.2G", "512 B" as "512". */
static void print_cell(int width, bool known, double value, bool bytes)
{
	char text[32] = "-";

	if (known && bytes) {
		cli_format_size(value, text, sizeof(text));
		text[strcspn(text, "B")] = '\0';
		text[strcspn(text, "i")] = '\0';
		memmove(strchr(text, ' '), strchr(text, ' ') + 1,
			strlen(strchr(text, ' ')));
	} else if (known) {
		snprintf(text, sizeof(text), "%.0f", value);
	}
	printf("%*s", width, text);
}

static void print_size(int width, const struct sample *sample, const char *key)
{
	uint64_t value;
	bool known = value_of(sample, key, &value);

	print_cell(width, known, value, true);
}

/* How fast a counter rises; unknown at first, and over a reboot. */
static void print_rate(int width, const struct sample *last,
		       const struct sample *sample, const char *key, bool bytes)
{
	double seconds = (sample->at_ms - last->at_ms) / 1000.0;
	uint64_t before, now;
	bool known = value_of(last, key, &before);

	known = value_of(sample, key, &now) && known && now >= before &&
		seconds > 0;
	print_cell(width, known, known ? (now - before) / seconds : 0, bytes);
}

static void print_header(void)
{
	printf("%-8s%8s%8s%8s%8s%9s%9s%10s%10s\n", "time", "total", "free",
	       "avail", "caches", "resident", "swapin/s", "swapout/s",
	       "majflt/s");
}

static void print_row(const struct sample *last, const struct sample *sample)
{
	time_t now = time(NULL);
	char clock[16] = "";
	struct tm local;

	if (localtime_r(&now, &local))
		strftime(clock, sizeof(clock), "%T", &local);
	printf("%-8s", clock);
	print_size(8, sample, "total");
	print_size(8, sample, "free");
	print_size(8, sample, "available");
	print_size(8, sample, "disk_caches");
	print_cell(9, true, sample->resident, true);
	print_rate(9, last, sample, "swap_in", true);
	print_rate(10, last, sample, "swap_out", true);
	print_rate(10, last, sample, "major_faults", false);
	putchar('\n');
}

/* ------------------------------------------------------- once, again --- */

/* "negotiated" is no statistic, and always true here. */
static void print_json(struct sample *sample, size_t flags)
{
	json_object_del(sample->values, "negotiated");
	json_dumpf(sample->values, stdout, flags);
	putchar('\n');
}

static void show(const struct stats *stats, const struct sample *last,
		 struct sample *sample, unsigned int rows)
{
	if (stats->client.json) {
		print_json(sample, JSON_COMPACT);
	} else {
		if (!rows || (isatty(STDOUT_FILENO) &&
			      rows % HEADER_EVERY == 0))
			print_header();
		print_row(last, sample);
	}
	fflush(stdout);
}

/* The guest may be paused for a while, or reboot: told once, and waited for. */
static void note(struct error *told, const struct error *err)
{
	/* Up to what its age adds. */
	size_t same = strcspn(err->message, ";");

	if (!strncmp(told->message, err->message, same + 1))
		return;
	*told = *err;
	fprintf(stderr, "aerostat: %s\n", err->message);
}

/* One row. Return: 1, 0 when there is none now, or -1 with @err */
static int step(const struct stats *stats, struct client *client,
		struct sample *last, unsigned int rows, struct error *err)
{
	struct sample sample;
	int rc = take(client, &sample, err);

	if (rc <= 0)
		return rc;
	show(stats, last, &sample, rows);
	json_decref(last->values);
	*last = sample;
	return 1;
}

static int watch(const struct stats *stats, struct client *client,
		 struct error *err)
{
	struct sample last = { NULL };
	struct error told = { "" };
	int64_t next = client_now_ms();
	unsigned int rows = 0;
	int rc = 0;

	while (!interrupted && rc == 0) {
		rc = step(stats, client, &last, rows, err);
		if (interrupted || rc < 0)
			break;
		rows += rc;
		if (!rows) {
			rc = -1; /* what never came need not come */
			break;
		}
		if (rc > 0)
			told.message[0] = '\0';
		else
			note(&told, err);
		next += stats->watch_ms;
		if (next < client_now_ms())
			next = client_now_ms();
		rc = rest(client, next, err);
	}
	json_decref(last.values);
	return interrupted ? 0 : rc;
}

static int once(const struct stats *stats, struct client *client,
		struct error *err)
{
	struct sample sample;

	if (take(client, &sample, err) <= 0)
		return -1;
	if (stats->client.json)
		print_json(&sample, JSON_INDENT(2));
	else
		print_sample(&sample);
	json_decref(sample.values);
	return 0;
}

/* ------------------------------------------------------------ options --- */

static int64_t parse_watch(struct argp_state *state, const char *arg)
{
	double seconds;
	char *end;

	seconds = strtod(arg, &end);
	if (arg[0] < '0' || arg[0] > '9' || *end ||
	    !(seconds >= WATCH_LEAST && seconds <= WATCH_MOST))
		cli_usage_error(state, "--watch %s: a number of seconds from "
				"%.1f to %d is needed, as in 2 or 0.5", arg,
				WATCH_LEAST, WATCH_MOST);
	return seconds * 1000;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct stats *stats = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &stats->client;
		break;
	case OPTION_WATCH:
		stats->watch_ms = parse_watch(state, arg);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

int command_stats(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "watch", OPTION_WATCH, "SECONDS", 0,
		  "Ask again and again, every so many seconds, and print a "
		  "line each time, until Ctrl-C", 0 },
		{ 0 },
	};
	static const struct argp_child children[] = {
		{ &client_argp, 0, NULL, 0 },
		{ 0 },
	};
	static const char doc[] =
		"Ask a guest how its memory is used, and tell what it says."
		"\v"
		"Examples:\n"
		"  aerostat stats --control vm.sock\n"
		"  aerostat stats --control vm.sock --watch 2\n";
	static const struct argp argp = { options, parse_option, NULL, doc,
					  children, NULL, NULL };
	static char name[] = "aerostat stats";
	struct error err = { "" };
	struct stats stats = { 0 };
	struct client client;
	int rc;

	argv[0] = name;
	argp_parse(&argp, argc, argv, 0, NULL, &stats);
	rc = client_open(&client, stats.client.control, &err);
	if (rc == 0 && stats.watch_ms) {
		catch_interrupt();
		rc = watch(&stats, &client, &err);
	} else if (rc == 0) {
		rc = once(&stats, &client, &err);
	}
	client_close(&client);
	return rc < 0 ? cli_fail(&err) : EXIT_DONE;
}
