/* SPDX-License-Identifier: MIT */
/*
 * What went wrong, in one line a person can act on.
 *
 * A function that can fail for a reason worth telling takes a `struct error *`
 * last, fills it where the fault is known and returns -1. The caller owns the
 * object (usually on its stack) and may put its own words in front.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

struct error {
	char message[512]; /* one printable line, "" while nothing failed */
};

/**
 * error_set() - Say what failed
 * @err:	Filled; may be NULL when the caller does not care
 *
 * Return: -1 always, so that `return error_set(err, ...)` reads well
 */
int error_set(struct error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * error_set_errno() - As error_set(), with ": <text of errnum>" behind it
 */
int error_set_errno(struct error *err, int errnum, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/**
 * error_prefix() - Put "<words>: " in front of what is there
 *
 * Return: -1 always
 */
int error_prefix(struct error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
