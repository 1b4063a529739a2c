// SPDX-License-Identifier: MIT
/* The log: lines on standard error, one subsystem word in front. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "base/log.h"

#define LIMIT_LINES 20
#define LIMIT_SECONDS 60

static bool log_verbose;

static struct {
	pthread_mutex_t lock;
	time_t since;
	unsigned int lines, left_out;
} limit = { .lock = PTHREAD_MUTEX_INITIALIZER };

void log_set_verbose(bool verbose)
{
	log_verbose = verbose;
}

static void log_write(const char *subsystem, const char *format, va_list args)
{
	char line[512];

	/* One write per line: threads must not mix theirs. */
	vsnprintf(line, sizeof(line), format, args);
	fprintf(stderr, "aerostat: %s: %s\n", subsystem, line);
}

void log_line(const char *subsystem, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_write(subsystem, format, args);
	va_end(args);
}

void log_debug(const char *subsystem, const char *format, ...)
{
	va_list args;

	if (!log_verbose)
		return;
	va_start(args, format);
	log_write(subsystem, format, args);
	va_end(args);
}

/* Return: true when a line may pass; *@left_out is what was held before it */
static bool limit_pass(unsigned int *left_out)
{
	struct timespec now;
	bool pass;

	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_mutex_lock(&limit.lock);
	if (now.tv_sec - limit.since >= LIMIT_SECONDS) {
		limit.since = now.tv_sec;
		limit.lines = 0;
	}
	pass = limit.lines < LIMIT_LINES;
	if (pass) {
		limit.lines++;
		*left_out = limit.left_out;
		limit.left_out = 0;
	} else {
		limit.left_out++;
	}
	pthread_mutex_unlock(&limit.lock);
	return pass;
}

void log_limited(const char *subsystem, const char *format, ...)
{
	unsigned int left_out;
	va_list args;

	if (!limit_pass(&left_out))
		return;
	if (left_out)
		log_line("log", "%u lines left out", left_out);
	va_start(args, format);
	log_write(subsystem, format, args);
	va_end(args);
}
