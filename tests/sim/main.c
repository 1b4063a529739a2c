// SPDX-License-Identifier: MIT
/*
 * The simulator's command line: seeds one after another, the tally, and for a
 * seed that fails the smallest number of random steps that still does.
 */
#include "sim.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FAULT_BOUND 200000u /* schedules in which a fault must be found */

struct options {
	uint64_t seeds, seed, limit;
	double seconds;
	bool one, trace, faults;
	int protocol;
	enum fault fault;
};

/* clock_gettime() is the simulated one. */
static double real_seconds(void)
{
	struct timespec now;

	timespec_get(&now, TIME_UTC);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static bool fails(const struct options *options, uint64_t seed, uint64_t limit)
{
	return !schedule_run(seed, limit, options->fault, options->protocol,
			     false);
}

/* Fewer steps need not fail where more do: what comes out is a limit that does
 * and below which those tried did not. */
static uint64_t shrink(const struct options *options, uint64_t seed)
{
	uint64_t low = 0, high = world.step, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (fails(options, seed, middle))
			high = middle;
		else
			low = middle + 1;
	}
	return high;
}

static void report_failure(const struct options *options, uint64_t seed)
{
	struct tally kept = tally;
	uint64_t limit;

	printf("seed %" PRIu64 ": %s: %s (step %" PRIu64 ")\n", seed,
	       world.failed, world.why, world.step);
	limit = shrink(options, seed);
	fails(options, seed, limit);
	printf("play again: sim --seed %" PRIu64 " --limit %" PRIu64 " --trace",
	       seed, limit);
	if (options->protocol >= 0)
		printf(" --protocol %s",
		       sim_protocols[options->protocol]->name);
	if (options->fault)
		printf(" --fault %s", fault_kinds[options->fault].name);
	printf("\n  %s: %s\n", world.failed ? world.failed : "nothing",
	       world.failed ? world.why : "");
	tally = kept;
}

static void print_tally(double seconds)
{
	const struct tally *t = &tally;

	printf("%" PRIu64 " schedules in %.1f s, %.0f a second, %.0f steps "
	       "each; %" PRIu64 " standard, %" PRIu64 " command-register, %"
	       PRIu64 " v17\n",
	       t->schedules, seconds, t->schedules / seconds,
	       (double)t->steps / t->schedules, t->by_protocol[0],
	       t->by_protocol[1], t->by_protocol[2]);
	printf("moves: %" PRIu64 " begun, %" PRIu64 " committed, %" PRIu64
	       " cancelled, %" PRIu64 " failed, %" PRIu64 " guests lost with "
	       "the link; %" PRIu64 " verified, %" PRIu64 " of guests that "
	       "zero\n", t->started, t->committed, t->cancelled, t->failed,
	       t->lost, t->verified, t->zeroing);
	printf("hints: %" PRIu64 " counted of %" PRIu64 " pages, %" PRIu64
	       " pages left out; %" PRIu64 " taken back, %" PRIu64
	       " in the window; %" PRIu64 " discarded pages used unwritten\n",
	       t->hints, t->hinted_pages, t->left_out, t->taken, t->window,
	       t->read);
	printf("requests: %" PRIu64 " targets, %" PRIu64 " statistics, %" PRIu64
	       " STARTs, %" PRIu64 " signs; %" PRIu64 " pauses, %" PRIu64
	       " resets, %" PRIu64 " of the device alone\n", t->targets,
	       t->statistics, t->starts, t->signs, t->paused, t->resets,
	       t->driver_resets);
	printf("ranges: %" PRIu64 " of %" PRIu64 " pages\n", t->ranges,
	       t->range_pages);
	printf("balloon: %" PRIu64 " pages waited for the rest of their block, "
	       "%" PRIu64 " were taken back before\n", t->held,
	       t->cancelled_held);
}

/* Return: 0 when all went well */
static int run_seeds(const struct options *options)
{
	double begun = real_seconds();
	uint64_t i, seed;

	for (i = 0; i < options->seeds; i++) {
		seed = options->seed + i;
		if (fails(options, seed, options->limit)) {
			report_failure(options, seed);
			print_tally(real_seconds() - begun);
			return 1;
		}
		if (i % 256 == 255 && real_seconds() - begun > options->seconds)
			break;
	}
	print_tally(real_seconds() - begun);
	return 0;
}

static int run_one(const struct options *options)
{
	bool good = schedule_run(options->seed, options->limit, options->fault,
				 options->protocol, options->trace);

	if (good)
		printf("seed %" PRIu64 ": all holds, %" PRIu64 " steps\n",
		       options->seed, world.step);
	else
		printf("seed %" PRIu64 ": %s: %s (step %" PRIu64 ")\n",
		       options->seed, world.failed, world.why, world.step);
	return !good;
}

/* Each fault until it is found. */
static int run_faults(struct options *options)
{
	int fault, missed = 0;
	uint64_t i;

	for (fault = 1; fault < FAULTS; fault++) {
		options->fault = fault;
		options->protocol = fault_kinds[fault].protocol;
		for (i = 0; i < FAULT_BOUND; i++)
			if (fails(options, options->seed + i, UINT64_MAX))
				break;
		if (i < FAULT_BOUND)
			printf("%-28s %-9s found in %6" PRIu64 ": %s: %s\n",
			       fault_kinds[fault].name, fault_kinds[fault].rule,
			       i + 1, world.failed, world.why);
		else
			printf("%-28s %-9s NOT FOUND in %u\n",
			       fault_kinds[fault].name, fault_kinds[fault].rule,
			       FAULT_BOUND);
		fflush(stdout);
		missed += i == FAULT_BOUND;
	}
	return missed != 0;
}

static void usage(void)
{
	int i;

	fprintf(stderr, "usage: sim [--seeds N] [--seconds S] [--seed X "
		"[--trace] [--limit N]] [--first X]\n"
		"           [--protocol standard|command-register|v17] "
		"[--fault NAME] | --faults\nfaults:");
	for (i = 1; i < FAULTS; i++)
		fprintf(stderr, " %s", fault_kinds[i].name);
	fprintf(stderr, "\n");
	exit(2);
}

static int protocol_of(const char *name)
{
	unsigned int i;

	for (i = 0; i < PROTOCOLS; i++)
		if (!strcmp(name, sim_protocols[i]->name))
			return i;
	usage();
	return -1;
}

static void parse(struct options *options, int argc, char **argv)
{
	static const struct option known[] = {
		{ "seeds", required_argument, NULL, 'n' },
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'x' },
		{ "first", required_argument, NULL, 'f' },
		{ "limit", required_argument, NULL, 'l' },
		{ "protocol", required_argument, NULL, 'p' },
		{ "fault", required_argument, NULL, 'F' },
		{ "faults", no_argument, NULL, 'A' },
		{ "trace", no_argument, NULL, 't' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'n': options->seeds = strtoull(optarg, NULL, 0); break;
		case 's': options->seconds = strtod(optarg, NULL); break;
		case 'x': options->one = true; /* fall through */
		case 'f': options->seed = strtoull(optarg, NULL, 0); break;
		case 'l': options->limit = strtoull(optarg, NULL, 0); break;
		case 'p': options->protocol = protocol_of(optarg); break;
		case 'F': options->fault = fault_find(optarg); break;
		case 'A': options->faults = true; break;
		case 't': options->trace = true; break;
		default: usage();
		}
	}
	if (optind < argc || options->fault == FAULTS)
		usage();
}

int main(int argc, char **argv)
{
	struct options options = {
		.seeds = UINT64_MAX, .seconds = 1e9, .limit = UINT64_MAX,
		.seed = 1, .protocol = -1,
	};

	parse(&options, argc, argv);
	if (options.faults)
		return run_faults(&options);
	if (options.one)
		return run_one(&options);
	if (options.seeds == UINT64_MAX && options.seconds == 1e9)
		options.seeds = 100000;
	return run_seeds(&options);
}
