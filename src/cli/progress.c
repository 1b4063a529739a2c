// SPDX-License-Identifier: MIT
/* One line on the terminal that shows how far long work has come. */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/progress.h"

#define BAR_STEP 10
#define BAR_MOST 30
#define WIDTH_MOST 200

void progress_begin(struct progress *progress, bool wanted)
{
	progress->shown = wanted && isatty(STDERR_FILENO);
	progress->drawn = false;
}

/* Columns that can be used: the last one would wrap on some terminals. */
static size_t terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < 2)
		return 79;
	return size.ws_col > WIDTH_MOST ? WIDTH_MOST : size.ws_col - 1;
}

/* "[=====>    ]", @columns of it. */
static void draw_bar(char *to, size_t columns, double done)
{
	size_t room = columns - 2, full = done * room;

	to[0] = '[';
	memset(to + 1, ' ', room);
	memset(to + 1, '=', full);
	if (full < room)
		to[1 + full] = '>';
	to[columns - 1] = ']';
}

void progress_format(char *to, size_t width, double done, const char *text)
{
	size_t taken = strlen(" 100% ") + strlen(text), bar = 0;

	if (!(done > 0)) /* not a number, and -0, too */
		done = 0;
	if (done > 1)
		done = 1;
	/* In steps, so that it holds still while the text changes. */
	if (taken < width)
		bar = (width - taken) / BAR_STEP * BAR_STEP;
	if (bar > BAR_MOST)
		bar = BAR_MOST;
	if (bar)
		draw_bar(to, bar, done);
	snprintf(to + bar, width + 1 - bar, "%s%3.0f%% %s", bar ? " " : "",
		 /* never 100 before the end */ done < 1 ? done * 99 : 100,
		 text);
}

void progress_draw(struct progress *progress, double done, const char *text)
{
	char line[WIDTH_MOST + 1];

	if (!progress->shown)
		return;
	progress_format(line, terminal_width(), done, text);
	fprintf(stderr, "\r%s\033[K", line);
	fflush(stderr);
	progress->drawn = true;
}

void progress_end(struct progress *progress)
{
	if (!progress->drawn)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	progress->drawn = false;
}
