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

static const struct argp_option options[] = {
	{ "kernel", OPTION_KERNEL, "FILE", 0,
	  "Linux bzImage, or an ELF kernel with a PVH entry", 0 },
	{ "initrd", OPTION_INITRD, "FILE", 0, "Initial RAM disk", 0 },
	{ "append", OPTION_APPEND, "STRING", 0, "Kernel command line", 0 },
	{ "memory", OPTION_MEMORY, "SIZE", 0,
	  "Guest memory, as in 512M or 2G", 0 },
	{ "cpus", OPTION_CPUS, "N", 0, "Virtual CPUs, 1 to 32 (default 1)", 0 },
	{ "name", OPTION_NAME, "NAME", 0, "A name for status and logs", 0 },
	{ "control", OPTION_CONTROL, "PATH", 0,
	  "Control socket (QMP), made with mode 0600", 0 },
	{ "paused", OPTION_PAUSED, NULL, 0,
	  "Do not let the guest run until 'aerostat resume'", 0 },
	{ "balloon", OPTION_BALLOON, "OPTIONS", OPTION_ARG_OPTIONAL,
	  "The balloon: target=SIZE, hinting=on|off, "
	  "numbering=packed|spec, protocol=standard; there is one by default, "
	  "with hinting", 0 },
	{ "no-balloon", OPTION_NO_BALLOON, NULL, 0, "No balloon", 0 },
	{ "serial", OPTION_SERIAL, "WHERE", 0,
	  "Serial port: stdio (default), file:PATH, unix:PATH or none", 0 },
	{ "incoming", OPTION_INCOMING, "URI", 0,
	  "Wait for a guest at unix:PATH, tcp:HOST:PORT or fd:N instead of "
	  "booting one", 0 },
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

static bool parse_switch(const char *key, const char *value, bool *to,
			 struct error *err)
{
	if (value && (!strcmp(value, "on") || !strcmp(value, "off"))) {
		*to = !strcmp(value, "on");
		return true;
	}
	error_set(err, "--balloon %s=%s: it can be on or off", key,
		  value ? value : "");
	return false;
}

static int parse_numbering(const char *value, struct machine_config *config,
			   struct error *err)
{
	if (value && !strcmp(value, "packed"))
		config->numbering = BALLOON_NUMBERING_PACKED;
	else if (value && !strcmp(value, "spec"))
		config->numbering = BALLOON_NUMBERING_SPEC;
	else
		return error_set(err, "--balloon numbering=%s: it can be "
				 "packed or spec", value ? value : "");
	return 0;
}

static int parse_protocol(const char *value, struct machine_config *config,
			  struct error *err)
{
	if (!value || strcmp(value, "standard"))
		return error_set(err, "--balloon protocol=%s: it can be "
				 "standard", value ? value : "");
	snprintf(config->protocol, sizeof(config->protocol), "%s", value);
	return 0;
}

/* "target=512M,hinting=on". Return: 0, or -1 with @err */
static int parse_balloon(char *text, struct machine_config *config,
			 struct error *err)
{
	enum { TARGET, HINTING, NUMBERING, PROTOCOL };
	static char target[] = "target", hinting[] = "hinting",
		    numbering[] = "numbering", protocol[] = "protocol";
	char *const keys[] = { [TARGET] = target, [HINTING] = hinting,
			       [NUMBERING] = numbering, [PROTOCOL] = protocol,
			       NULL };
	char *value;

	while (text && *text) {
		char *start = text;
		int rc = 0;

		switch (getsubopt(&text, keys, &value)) {
		case TARGET:
			rc = cli_parse_size(value ? value : "",
					    &config->balloon_target, err);
			break;
		case HINTING:
			rc = parse_switch("hinting", value, &config->hinting,
					  err) ? 0 : -1;
			break;
		case NUMBERING:
			rc = parse_numbering(value, config, err);
			break;
		case PROTOCOL:
			rc = parse_protocol(value, config, err);
			break;
		default:
			rc = error_set(err, "--balloon: there is no key "
				       "'%.*s' (target, hinting, numbering, "
				       "protocol)", (int)strcspn(start, "="),
				       start);
			break;
		}
		if (rc < 0)
			return -1;
	}
	return 0;
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

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct instance_options *o = state->input;
	struct machine_config *config = &o->config;
	struct error err;

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
		if (arg && parse_balloon(arg, config, &err) < 0)
			cli_usage_error(state, "%s", err.message);
		break;
	case ARGP_KEY_ARG: /* "--balloon key=value" comes here */
		if (!strchr(arg, '='))
			cli_usage_error(state, "'%s' is no option of this "
					"command; see --help", arg);
		if (parse_balloon(arg, config, &err) < 0)
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
		if (!o->incoming && !config->kernel.path[0])
			cli_usage_error(state, "--kernel FILE is needed (or "
				   "--incoming URI)");
		if (!o->incoming && !config->memory)
			cli_usage_error(state, "--memory SIZE is needed, as in "
				   "--memory 512M");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

int command_run(int argc, char **argv)
{
	static const struct argp argp = { options, parse_option, NULL, doc,
					  NULL, NULL, NULL };
	static char name[] = "aerostat run";
	struct instance_options instance_options = {
		.config = { .cpus = 1, .balloon = true, .hinting = true,
			    .protocol = "standard" },
		.serial = "stdio",
	};
	struct error err = { "" };

	argv[0] = name; /* as usage lines show it */
	argp_parse(&argp, argc, argv, 0, NULL, &instance_options);
	if (instance_run(&instance_options, &err) < 0)
		return cli_fail(&err);
	return EXIT_DONE;
}
