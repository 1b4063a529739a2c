// SPDX-License-Identifier: MIT
/* aerostat: one program, one subcommand a verb. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

const char *argp_program_version = "aerostat " AEROSTAT_VERSION;

static const struct command {
	const char *name;
	int (*function)(int argc, char **argv);
	const char *summary;
} commands[] = {
	{ "run", command_run, "start a virtual machine, or take one in" },
	{ "migrate", command_migrate, "move a running one to another process" },
	{ "balloon", command_balloon, "tell how much memory it may keep" },
	{ "status", command_status, "tell how it is" },
	{ "stats", command_stats, "tell what its guest says of its memory" },
	{ "pause", command_pause, "stop its CPUs" },
	{ "resume", command_resume, "let them run on" },
	{ "reset", command_reset, "start its guest anew, at once" },
	{ "quit", command_quit, "end it at once" },
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *to)
{
	size_t i;

	fputs("Usage: aerostat COMMAND [OPTION...]\n\n"
	      "A small KVM virtual machine monitor whose guests give back the "
	      "memory they do\nnot use.\n\nCommands:\n", to);
	for (i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-9s %s\n", commands[i].name,
			commands[i].summary);
	fputs("\nA first guest, its console on this terminal (Ctrl-A x ends "
	      "it):\n"
	      "  aerostat run --kernel vmlinuz --initrd initrd.img "
	      "--append console=ttyS0 \\\n"
	      "      --memory 1G --control vm.sock\n"
	      "Move it, from two other terminals:\n"
	      "  aerostat run --incoming unix:move.sock --control there.sock\n"
	      "  aerostat migrate --control vm.sock unix:move.sock\n\n"
	      "'aerostat COMMAND --help' explains each command.\n", to);
}

int main(int argc, char **argv)
{
	size_t i;

	argp_err_exit_status = EXIT_USAGE;
	if (argc < 2) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-?") ||
	    !strcmp(argv[1], "help")) {
		print_help(stdout);
		return EXIT_DONE;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		puts(argp_program_version);
		return EXIT_DONE;
	}
	for (i = 0; i < COMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].function(argc - 1, argv + 1);
	fprintf(stderr, "aerostat: there is no command '%s'; 'aerostat "
		"--help' lists them\n", argv[1]);
	return EXIT_USAGE;
}
