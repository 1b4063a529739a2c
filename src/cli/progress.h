/* SPDX-License-Identifier: MIT */
/* One line on the terminal that shows how far long work has come. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

struct progress {
	bool shown;  /* stderr is a terminal, and a line is wanted */
	bool drawn;  /* there is something to be erased */
};

/* @wanted: false keeps it silent whatever stderr is */
void progress_begin(struct progress *progress, bool wanted);

/* Draw over what was there. @done: from 0 to 1 */
void progress_draw(struct progress *progress, double done, const char *text);

/* Erase it. Harmless when nothing is drawn. */
void progress_end(struct progress *progress);

/**
 * progress_format() - "[=====>    ]  42% text", at most @width columns
 * @to:		holds @width + 1 bytes at least
 *
 * The bar takes what the text leaves, and is left out where that is little.
 */
void progress_format(char *to, size_t width, double done, const char *text);

#endif
