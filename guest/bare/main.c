// SPDX-License-Identifier: MIT
/*
 * A guest without an operating system, for tests and measurements: it runs in
 * ring 3 (native speed on a KVM in software, too), polls everything, and obeys
 * commands on the serial port. start.S brings it here.
 *
 * Command line, all optional: tsc_khz=N, hinting=off, numbering=spec,
 * idle=spin.
 */
#include "balloon.h"
#include "clock.h"
#include "commands.h"
#include "lib.h"
#include "machine.h"
#include "memory.h"
#include "serial.h"
#include "trap.h"
#include "workload.h"

#define COMMAND_LINE_SIZE 2048

struct options {
	uint64_t tsc_khz;
	bool hinting, idle;
	enum balloon_numbering numbering;
};

static char command_line[COMMAND_LINE_SIZE];

void bare_main(const struct pvh_start_info *info) __attribute__((noreturn));

/* The original is in memory that will be used for something else. */
static void copy_command_line(const char *from)
{
	size_t i;

	for (i = 0; from && from[i] && i < COMMAND_LINE_SIZE - 1; i++)
		command_line[i] = from[i];
}

static void parse_word(struct options *options, char *word)
{
	static const char tsc[] = "tsc_khz=";

	if (!memcmp(word, tsc, sizeof(tsc) - 1))
		parse_number(word + sizeof(tsc) - 1, &options->tsc_khz);
	else if (same_text(word, "hinting=off"))
		options->hinting = false;
	else if (same_text(word, "numbering=spec"))
		options->numbering = BALLOON_NUMBERING_SPEC;
	else if (same_text(word, "idle=spin"))
		options->idle = false;
}

static void parse_options(struct options *options)
{
	static char words[COMMAND_LINE_SIZE];
	char *rest = words, *word;

	memcpy(words, command_line, sizeof(words));
	while ((word = next_word(&rest)))
		parse_word(options, word);
}

void bare_main(const struct pvh_start_info *info)
{
	struct options options = { 0, true, true, BALLOON_NUMBERING_PACKED };
	bool busy;

	trap_init();
	serial_init();
	copy_command_line((const char *)info->command_line);
	parse_options(&options);
	clock_init(options.tsc_khz);
	if (options.idle)
		clock_idle_init();
	memory_init(info);
	balloon_init(options.hinting, options.numbering);
	commands_init(command_line);
	say("agent ready");
	for (;;) {
		busy = serial_step();
		busy |= commands_step();
		busy |= workload_writer_step();
		busy |= balloon_step();
		if (!busy)
			clock_idle();
	}
}
