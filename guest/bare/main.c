// SPDX-License-Identifier: MIT
/*
 * A guest without an operating system, for tests and measurements: it runs in
 * ring 3 (native speed on a KVM in software, too), polls everything, and obeys
 * commands on the serial port. start.S brings it here.
 *
 * Command line, all optional: tsc_khz=N, idle=spin; and of the balloon:
 * numbering=spec, hinting=off, stats=off, reporting=off, must-tell-host=off,
 * poison=N, protocol=standard. What is not refused so is taken when it is
 * offered, but for poison, which is taken only with a value.
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
	bool idle;
	struct balloon_choice balloon;
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

/* "KEY=NUMBER". Return: false when it is another word */
static bool number_of(const char *key, const char *word, uint64_t *number)
{
	while (*key && *key == *word)
		key++, word++;
	return !*key && parse_number(word, number);
}

static void parse_word(struct options *options, const char *word)
{
	struct balloon_choice *balloon = &options->balloon;
	const struct {
		const char *word;
		bool *refused;
	} refusals[] = {
		{ "idle=spin", &options->idle },
		{ "hinting=off", &balloon->hinting },
		{ "stats=off", &balloon->statistics },
		{ "reporting=off", &balloon->reporting },
		{ "must-tell-host=off", &balloon->must_tell_host },
		{ "page-ranges=off", &balloon->page_ranges },
		{ "protocol=standard", &balloon->experiments },
	};
	uint64_t number;
	size_t i;

	for (i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		if (same_text(word, refusals[i].word))
			*refusals[i].refused = false;
	if (same_text(word, "numbering=spec"))
		balloon->numbering = BALLOON_NUMBERING_SPEC;
	if (number_of("tsc_khz=", word, &number))
		options->tsc_khz = number;
	if (number_of("poison=", word, &number)) {
		balloon->poison = true;
		balloon->poison_value = (uint32_t)number;
	}
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
	struct options options = {
		.idle = true,
		.balloon = {
			.hinting = true,
			.statistics = true,
			.reporting = true,
			.must_tell_host = true,
			.page_ranges = true,
			.experiments = true,
		},
	};
	bool busy;

	trap_init();
	serial_init();
	copy_command_line((const char *)info->command_line);
	parse_options(&options);
	clock_init(options.tsc_khz);
	if (options.idle)
		clock_idle_init();
	memory_init(info);
	balloon_init(&options.balloon);
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
