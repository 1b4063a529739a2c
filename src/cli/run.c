// SPDX-License-Identifier: MIT
/* aerostat run: start a virtual machine, or take one in. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/instance.h"
#include "kvm/vm.h"
#include "memory/backing.h"

enum {
	OPTION_KERNEL = 0x100,
	OPTION_INITRD,
	OPTION_APPEND,
	OPTION_MEMORY,
	OPTION_BACKING,
	OPTION_CPUS,
	OPTION_NAME,
	OPTION_CONTROL,
	OPTION_PAUSED,
	OPTION_BALLOON,
	OPTION_NO_BALLOON,
	OPTION_SERIAL,
	OPTION_INCOMING,
	OPTION_VERBOSE,
};

/* What the command line says. */
struct run {
	struct instance_options instance;
	const char *along; /* the first option that --incoming excludes */
	const char *target; /* of the balloon, as given; or NULL */
};

static const struct argp_option options[] = {
	{ "kernel", OPTION_KERNEL, "FILE", 0,
	  "Linux bzImage, or an ELF kernel with a PVH entry", 0 },
	{ "initrd", OPTION_INITRD, "FILE", 0, "Initial RAM disk", 0 },
	{ "append", OPTION_APPEND, "STRING", 0, "Kernel command line", 0 },
	{ "memory", OPTION_MEMORY, "SIZE", 0,
	  "Guest memory, as in 512M or 2G", 0 },
	{ "backing", OPTION_BACKING, "KIND", 0,
	  "What guest memory is made of: anonymous (default), memfd or hugetlb; "
	  "with --incoming it replaces what the source had", 0 },
	{ "cpus", OPTION_CPUS, "N", 0, "Virtual CPUs, 1 to 32 (default 1)", 0 },
	{ "name", OPTION_NAME, "NAME", 0, "A name for status and logs", 0 },
	{ "control", OPTION_CONTROL, "PATH", 0,
	  "Control socket (QMP), made with mode 0600", 0 },
	{ "paused", OPTION_PAUSED, NULL, 0,
	  "Do not let the guest run until 'aerostat resume'", 0 },
	{ "balloon", OPTION_BALLOON, "OPTIONS", OPTION_ARG_OPTIONAL,
	  "The balloon: target=SIZE (what the guest keeps, 16M or more), "
	  "hinting=on|off, reporting=on|off, stats=on|off, poison=on|off, "
	  "deflate-on-oom=on|off, must-tell-host=on|off, page-ranges=on|off, "
	  "populate=on|off (memory the guest takes back on request), "
	  "numbering=packed|spec, protocol=standard|command-register|v17; "
	  "there is one by default, with everything on but page-ranges and "
	  "populate", 0 },
	{ "no-balloon", OPTION_NO_BALLOON, NULL, 0, "No balloon", 0 },
	{ "serial", OPTION_SERIAL, "WHERE", 0,
	  "Serial port: stdio (default), file:PATH, unix:PATH or none", 0 },
	{ "incoming", OPTION_INCOMING, "URI", 0,
	  "Wait for a guest at unix:PATH, tcp:HOST:PORT or fd:N instead of "
	  "booting one; its memory, CPUs, name, balloon and command line come "
	  "with it", 0 },
	{ "verbose", OPTION_VERBOSE, NULL, 0, "Say more on stderr", 0 },
	{ 0 },
};

static const char doc[] =
	"Start a virtual machine, or take one in that another process moves "
	"here.\v"
	"On a terminal the serial port has Ctrl-A x to end the machine. A "
	"guest that powers off ends the process with exit status 0.\n\n"
	"Example:\n"
	"  aerostat run --kernel vmlinuz --initrd initrd.img "
	"--append console=ttyS0 --memory 1G --control vm.sock\n";

static int parse_switch(const char *key, const char *value, bool *to,
			struct error *err)
{
	if (!value || (strcmp(value, "on") && strcmp(value, "off")))
		return error_set(err, "--balloon %s=%s: it can be on or off",
				 key, value ? value : "");
	*to = !strcmp(value, "on");
	return 0;
}

/* What a key switches; NULL when it is no switch. */
static bool *find_switch(struct machine_config *config, const char *key)
{
	struct balloon_options *offer = &config->balloon_options;
	const struct {
		const char *key;
		bool *to;
	} switches[] = {
		{ "hinting", &offer->hinting },
		{ "reporting", &offer->reporting },
		{ "stats", &offer->statistics },
		{ "poison", &offer->poison },
		{ "deflate-on-oom", &offer->deflate_on_oom },
		{ "must-tell-host", &offer->must_tell_host },
		{ "page-ranges", &offer->page_ranges },
		{ "populate", &config->balloon_populate },
	};
	size_t i;

	for (i = 0; i < sizeof(switches) / sizeof(switches[0]); i++)
		if (!strcmp(key, switches[i].key))
			return switches[i].to;
	return NULL;
}

static int parse_numbering(const char *value, struct balloon_options *offer,
			   struct error *err)
{
	if (value && !strcmp(value, "packed"))
		offer->numbering = BALLOON_NUMBERING_PACKED;
	else if (value && !strcmp(value, "spec"))
		offer->numbering = BALLOON_NUMBERING_SPEC;
	else
		return error_set(err, "--balloon numbering=%s: it can be "
				 "packed or spec", value ? value : "");
	return 0;
}

static int parse_protocol(const char *value, struct balloon_options *offer,
			  struct error *err)
{
	offer->protocol = balloon_protocol_find(value ? value : "");
	if (!offer->protocol)
		return error_set(err, "--balloon protocol=%s: it can be "
				 "standard, command-register or v17",
				 value ? value : "");
	return 0;
}

/* How large it can be is known when --memory is. */
static int parse_target(const char *value, struct run *run, struct error *err)
{
	run->target = value ? value : "";
	return cli_parse_size(run->target,
			      &run->instance.config.balloon_target, err);
}

static int parse_balloon_key(const char *key, const char *value,
			     struct run *run, struct error *err)
{
	struct machine_config *config = &run->instance.config;
	struct balloon_options *offer = &config->balloon_options;
	bool *to = find_switch(config, key);

	if (to)
		return parse_switch(key, value, to, err);
	if (!strcmp(key, "target"))
		return parse_target(value, run, err);
	if (!strcmp(key, "numbering"))
		return parse_numbering(value, offer, err);
	if (!strcmp(key, "protocol"))
		return parse_protocol(value, offer, err);
	return error_set(err, "--balloon: there is no key '%s' (target, "
			 "hinting, reporting, stats, poison, deflate-on-oom, "
			 "must-tell-host, page-ranges, populate, numbering, "
			 "protocol)",
			 key);
}

/* "target=512M,hinting=on". Return: 0, or -1 with @err */
static int parse_balloon(char *text, struct run *run, struct error *err)
{
	char *word, *value, *rest;

	for (word = strtok_r(text, ",", &rest); word;
	     word = strtok_r(NULL, ",", &rest)) {
		value = strchr(word, '=');
		if (value)
			*value++ = '\0';
		if (parse_balloon_key(word, value, run, err) < 0)
			return -1;
	}
	return 0;
}

/* What needs more than one key or option to tell. Return: 0, or -1 with @err */
static int check_balloon(const struct run *run, struct error *err)
{
	const struct machine_config *config = &run->instance.config;
	const struct balloon_options *offer = &config->balloon_options;

	if (!config->balloon)
		return 0;
	if (offer->protocol->feature && !offer->hinting)
		return error_set(err, "--balloon protocol=%s reports free "
				 "pages: it needs hinting=on",
				 offer->protocol->name);
	if (run->target &&
	    machine_balloon_check(config->memory, config->balloon_target,
				  err) < 0)
		return error_prefix(err, "--balloon target=%s", run->target);
	return 0;
}

static void parse_backing(struct argp_state *state, const char *arg,
			  struct machine_config *config)
{
	enum backing_kind kind;

	if (backing_kind_parse(arg, &kind) < 0)
		cli_usage_error(state, "--backing %s: it can be anonymous, "
				"memfd or hugetlb", arg);
	else
		config->backing = kind;
}

static void copy_text(struct argp_state *state, const char *option,
		      const char *from, char *to, size_t size)
{
	if (strlen(from) >= size)
		cli_usage_error(state, "%s is longer than %zu bytes", option,
			   size - 1);
	else
		strcpy(to, from);
}

static void parse_cpus(struct argp_state *state, const char *arg,
		       struct machine_config *config)
{
	char *end;
	unsigned long cpus = strtoul(arg, &end, 10);

	if (*end || arg == end || cpus < 1 || cpus > KVM_VM_MAX_CPUS)
		cli_usage_error(state, "--cpus %s: a number from 1 to %u is "
			   "needed", arg, KVM_VM_MAX_CPUS);
	config->cpus = cpus;
}

static void parse_memory(struct argp_state *state, const char *arg,
			 struct machine_config *config)
{
	struct error err;

	if (cli_parse_size(arg, &config->memory, &err) < 0)
		cli_usage_error(state, "--memory: %s", err.message);
	if (config->memory < BACKING_MIN_SIZE ||
	    config->memory > BACKING_MAX_SIZE ||
	    config->memory % GUEST_PAGE_SIZE)
		cli_usage_error(state, "--memory %s: a multiple of 4K from 32M to "
			   "1T is needed", arg);
}

/* Return: the option, if what it says comes with a guest that is moved here;
 * or NULL */
static const char *comes_along(int key)
{
	switch (key) {
	case OPTION_APPEND:
		return "--append";
	case OPTION_MEMORY:
		return "--memory";
	case OPTION_CPUS:
		return "--cpus";
	case OPTION_NAME:
		return "--name";
	case OPTION_BALLOON:
	case ARGP_KEY_ARG: /* of it */
		return "--balloon";
	case OPTION_NO_BALLOON:
		return "--no-balloon";
	}
	return NULL;
}

/* All has been said. */
static void check(struct argp_state *state, struct run *run)
{
	struct machine_config *config = &run->instance.config;
	struct error err;

	if (run->instance.incoming) {
		if (run->along)
			cli_usage_error(state, "%s cannot be given with "
					"--incoming: it comes with the guest; "
					"leave it out", run->along);
		return;
	}
	if (config->backing == BACKING_KINDS)
		config->backing = BACKING_ANONYMOUS;
	if (!config->kernel.path[0])
		cli_usage_error(state, "--kernel FILE is needed (or "
				"--incoming URI)");
	if (!config->memory)
		cli_usage_error(state, "--memory SIZE is needed, as in "
				"--memory 512M");
	if (check_balloon(run, &err) < 0)
		cli_usage_error(state, "%s", err.message);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct run *run = state->input;
	struct instance_options *o = &run->instance;
	struct machine_config *config = &o->config;
	struct error err;

	if (!run->along)
		run->along = comes_along(key);
	switch (key) {
	case OPTION_KERNEL:
		copy_text(state, "--kernel", arg, config->kernel.path,
			  sizeof(config->kernel.path));
		break;
	case OPTION_INITRD:
		copy_text(state, "--initrd", arg, config->initrd.path,
			  sizeof(config->initrd.path));
		break;
	case OPTION_APPEND:
		copy_text(state, "--append", arg, config->command_line,
			  sizeof(config->command_line));
		break;
	case OPTION_MEMORY:
		parse_memory(state, arg, config);
		break;
	case OPTION_BACKING:
		parse_backing(state, arg, config);
		break;
	case OPTION_CPUS:
		parse_cpus(state, arg, config);
		break;
	case OPTION_NAME:
		copy_text(state, "--name", arg, config->name,
			  sizeof(config->name));
		break;
	case OPTION_CONTROL:
		o->control = arg;
		break;
	case OPTION_PAUSED:
		o->paused = true;
		break;
	case OPTION_BALLOON:
		config->balloon = true;
		if (arg && parse_balloon(arg, run, &err) < 0)
			cli_usage_error(state, "%s", err.message);
		break;
	case ARGP_KEY_ARG: /* "--balloon key=value" comes here */
		if (!strchr(arg, '='))
			cli_usage_error(state, "'%s' is no option of this "
					"command; see --help", arg);
		if (parse_balloon(arg, run, &err) < 0)
			cli_usage_error(state, "%s", err.message);
		break;
	case OPTION_NO_BALLOON:
		config->balloon = false;
		break;
	case OPTION_SERIAL:
		o->serial = arg;
		break;
	case OPTION_INCOMING:
		o->incoming = arg;
		break;
	case OPTION_VERBOSE:
		log_set_verbose(true);
		break;
	case ARGP_KEY_END:
		check(state, run);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct balloon_options balloon_default = {
	.hinting = true,
	.reporting = true,
	.statistics = true,
	.poison = true,
	.deflate_on_oom = true,
	.must_tell_host = true,
	.numbering = BALLOON_NUMBERING_PACKED,
	.protocol = &balloon_protocol_standard,
};

int command_run(int argc, char **argv)
{
	static const struct argp argp = { options, parse_option, NULL, doc,
					  NULL, NULL, NULL };
	static char name[] = "aerostat run";
	struct run run = {
		.instance = {
			.config = { .cpus = 1, .balloon = true,
				    .backing = BACKING_KINDS,
				    .balloon_options = balloon_default },
			.serial = "stdio",
		},
	};
	struct error err = { "" };

	argv[0] = name; /* as usage lines show it */
	argp_parse(&argp, argc, argv, 0, NULL, &run);
	if (instance_run(&run.instance, &err) < 0)
		return cli_fail(&err);
	return EXIT_DONE;
}
