/* SPDX-License-Identifier: MIT */
/* What the subcommands share. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Exit statuses of the program. */
enum {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

/* Each takes the arguments from its own name on and returns an exit status. */
int command_run(int argc, char **argv);
int command_migrate(int argc, char **argv);
int command_balloon(int argc, char **argv);
int command_status(int argc, char **argv);
int command_stats(int argc, char **argv);
int command_pause(int argc, char **argv);
int command_resume(int argc, char **argv);
int command_reset(int argc, char **argv);
int command_quit(int argc, char **argv);

/* Print "aerostat: MESSAGE" on stderr. Return: EXIT_FAILED */
int cli_fail(const struct error *err);

/* Print "aerostat COMMAND: MESSAGE" as one line on stderr, exit EXIT_USAGE. */
void cli_usage_error(const struct argp_state *state, const char *format, ...)
	__attribute__((format(printf, 2, 3), noreturn));

/**
 * cli_parse_size() - "512M", "2G", "4096": bytes, suffixes K, M, G, T of 1024
 *
 * Return: 0, or -1 with @err that names @text
 */
int cli_parse_size(const char *text, uint64_t *bytes, struct error *err);

/* Bytes as a person reads them: "1.2 GiB". Return: @to */
char *cli_format_size(uint64_t bytes, char *to, size_t size);

#endif
