// SPDX-License-Identifier: MIT
/* What the subcommands share. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "cli/cli.h"

int cli_fail(const struct error *err)
{
	fprintf(stderr, "aerostat: %s\n", err->message);
	return EXIT_FAILED;
}

void cli_usage_error(const struct argp_state *state, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", state->name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(EXIT_USAGE);
}

int cli_parse_size(const char *text, uint64_t *bytes, struct error *err)
{
	static const char suffixes[] = "KMGT";
	const char *suffix = NULL;
	unsigned int shift = 0;
	uint64_t value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (*end)
		suffix = strchr(suffixes, *end);
	if (suffix) {
		shift = 10 * (suffix - suffixes + 1);
		end++;
	}
	if (text[0] < '0' || text[0] > '9' || *end || errno ||
	    !checked_mul(value, 1ull << shift, bytes))
		return error_set(err, "'%s' is not a size: write a whole "
				 "number with K, M, G or T behind it, as in "
				 "512M", text);
	return 0;
}

char *cli_format_size(uint64_t bytes, char *to, size_t size)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double value = bytes;
	unsigned int unit = 0;

	while (value >= 1024 && unit < 4) {
		value /= 1024;
		unit++;
	}
	snprintf(to, size, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return to;
}
