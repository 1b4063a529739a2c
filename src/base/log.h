/* SPDX-License-Identifier: MIT */
/*
 * The log: lines on standard error, one subsystem word in front.
 *
 * What a guest or a peer can cause as often as it likes goes through
 * log_limited(), so that it cannot fill a disk.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

/** log_set_verbose() - Whether log_debug() lines are printed (default: no) */
void log_set_verbose(bool verbose);

void log_line(const char *subsystem, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void log_debug(const char *subsystem, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * log_limited() - As log_line(), at most 20 lines a minute in all
 *
 * What is left out is counted and told with the next line that passes.
 */
void log_limited(const char *subsystem, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
