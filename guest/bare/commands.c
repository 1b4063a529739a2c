// SPDX-License-Identifier: MIT
/*
 * Commands over the serial port, one a line, as of guest/agent: every line of a
 * reply begins with "@ ", and "@ ok" or "@ error TEXT" ends it. "#TAG " before
 * a command asks for "@ begin TAG" first. A command that takes long replies
 * when it is done, and the next one is read then.
 */
#include "commands.h"

#include "balloon.h"
#include "clock.h"
#include "lib.h"
#include "memory.h"
#include "serial.h"
#include "trap.h"
#include "workload.h"

#define MOST_ARGUMENTS 3

static const char *kernel_command_line;
static struct job job;
static uint64_t beat_milliseconds, pulse_milliseconds, beats;
static struct timer beat_timer, pulse_timer;

/* Each returns NULL or what went wrong. One that has set `job` going has its
 * reply ended by that. */

static const char *ping(const uint64_t *args, unsigned int count)
{
	return NULL;
}

static const char *meminfo(const uint64_t *args, unsigned int count)
{
	uint64_t free = memory_count(PAGE_FREE);

	say("MemTotal %lu", memory_total_kib());
	say("MemFree %lu", free * (PAGE_SIZE / 1024));
	say("MemAvailable %lu",
	    (free + memory_count(PAGE_HINTED)) * (PAGE_SIZE / 1024));
	return NULL;
}

static const char *counters(const uint64_t *args, unsigned int count)
{
	balloon_say(NULL);
	return NULL;
}

/* The one argument that is no number. */
static const char *key;

static const char *counter(const uint64_t *args, unsigned int count)
{
	return balloon_say(key) ? NULL : "no such counter";
}

static const char *devices(const uint64_t *args, unsigned int count)
{
	balloon_say_device();
	return NULL;
}

static const char *cmdline(const uint64_t *args, unsigned int count)
{
	say("%s", kernel_command_line);
	return NULL;
}

static const char *uptime(const uint64_t *args, unsigned int count)
{
	say("%lu", clock_microseconds() / 1000);
	return NULL;
}

static const char *clock_rate(const uint64_t *args, unsigned int count)
{
	say("tsc-khz %lu by %s", clock_khz(), clock_source());
	return NULL;
}

static const char *keep(const uint64_t *args, unsigned int count)
{
	return workload_keep(&job, args[0], args[1]);
}

static const char *keep_high(const uint64_t *args, unsigned int count)
{
	return workload_keep_high(&job, args[0], args[1]);
}

static const char *pages_from(const uint64_t *args, unsigned int count)
{
	say("pages %lu", workload_pages_from(args[0]));
	return NULL;
}

static const char *check(const uint64_t *args, unsigned int count)
{
	return workload_check(&job);
}

static const char *spoil(const uint64_t *args, unsigned int count)
{
	return workload_spoil();
}

static const char *dirty(const uint64_t *args, unsigned int count)
{
	return workload_dirty(&job, args[0], args[1]);
}

static const char *interleave(const uint64_t *args, unsigned int count)
{
	return workload_interleave(&job, args[0], args[1], args[2]);
}

static const char *start_writer(const uint64_t *args, unsigned int count)
{
	return workload_writer(&job, args[0], args[1], args[2]);
}

static const char *check_writer(const uint64_t *args, unsigned int count)
{
	return workload_writer_check(&job);
}

static const char *stop_writer(const uint64_t *args, unsigned int count)
{
	return workload_writer_stop();
}

static const char *take(const uint64_t *args, unsigned int count)
{
	balloon_take(args[0], count > 1 ? args[1] : 0);
	return NULL;
}

static const char *untake(const uint64_t *args, unsigned int count)
{
	memory_put_all(PAGE_TAKEN);
	memory_put_all(PAGE_DEFLATED);
	return NULL;
}

static const char *take_deflated(const uint64_t *args, unsigned int count)
{
	balloon_take_deflated(args[0]);
	return NULL;
}

static const char *poll_every(const uint64_t *args, unsigned int count)
{
	balloon_poll_every(args[0]);
	return NULL;
}

static const char *buffers(const uint64_t *args, unsigned int count)
{
	return balloon_buffers(args[0]);
}

static const char *await(const uint64_t *args, unsigned int count)
{
	return balloon_await(&job, args[0]);
}

static const char *report_now(const uint64_t *args, unsigned int count)
{
	return balloon_report_now(&job);
}

static const char *rogue(const uint64_t *args, unsigned int count)
{
	return balloon_rogue(args[0]);
}

static const char *beat(const uint64_t *args, unsigned int count)
{
	beat_milliseconds = args[0];
	return NULL;
}

/* A byte of output leaves the guest, which may take as long as to give a block
 * away: a pulse is one byte, and no line. */
static const char *pulse(const uint64_t *args, unsigned int count)
{
	pulse_milliseconds = args[0];
	return NULL;
}

static const char *turn_off(const uint64_t *args, unsigned int count)
{
	say("ok");
	serial_flush();
	power_off();
}

static const char *restart(const uint64_t *args, unsigned int count)
{
	say("ok");
	serial_flush();
	reset();
}

static const struct command {
	const char *name;
	unsigned int least, most; /* arguments: numbers, but for counter */
	const char *(*run)(const uint64_t *args, unsigned int count);
} commands[] = {
	{ "ping", 0, 0, ping },
	{ "meminfo", 0, 0, meminfo },
	{ "counters", 0, 0, counters },
	{ "counter", 1, 1, counter },	/* KEY: one of them */
	{ "devices", 0, 0, devices },
	{ "cmdline", 0, 0, cmdline },
	{ "uptime", 0, 0, uptime },
	{ "clock", 0, 0, clock_rate },
	{ "keep", 2, 2, keep },		/* MIB SEED */
	{ "keep-high", 2, 2, keep_high }, /* the same, from the end of RAM */
	{ "pages-from", 1, 1, pages_from }, /* PAGE: with content, from there */
	{ "check", 0, 0, check },
	{ "spoil", 0, 0, spoil },
	{ "dirty", 2, 2, dirty },	/* MIB SEED */
	/* USED_MIB FREED_MIB SEED: both written, by turns within each block */
	{ "interleave", 3, 3, interleave },
	{ "writer", 3, 3, start_writer }, /* MIB RATE_MIB_S SEED */
	{ "writer-check", 0, 0, check_writer },
	{ "writer-stop", 0, 0, stop_writer },
	{ "take", 1, 2, take },		/* EVERY [BLOCKS] */
	{ "take-deflated", 1, 1, take_deflated }, /* 0 or 1 */
	{ "untake", 0, 0, untake },
	{ "poll", 1, 1, poll_every },	/* MICROSECONDS */
	{ "buffers", 1, 1, buffers },	/* N: on the way at a time */
	{ "await", 1, 1, await },	/* PAGES in the balloon */
	{ "report-now", 0, 0, report_now },
	{ "rogue", 1, 1, rogue },	/* KIND, see balloon_rogue.c */
	{ "beat", 1, 1, beat },		/* MS */
	{ "pulse", 1, 1, pulse },	/* MS */
	{ "poweroff", 0, 0, turn_off },
	{ "reboot", 0, 0, restart },
};

static const char *run(const struct command *command, char *rest)
{
	uint64_t args[MOST_ARGUMENTS];
	unsigned int count = 0;
	char *word;

	while ((word = next_word(&rest))) {
		if (count == command->most)
			return "wrong number of arguments";
		key = word;
		if (!parse_number(word, &args[count++]) &&
		    command->run != counter)
			return "an argument is no number";
	}
	if (count < command->least)
		return "wrong number of arguments";
	return command->run(args, count);
}

static const char *obey(char *line)
{
	char *name = next_word(&line);
	size_t i;

	if (name && name[0] == '#') {
		/* Whatever became of the line before, this one begins here. */
		serial_put("\n", 1);
		say("begin %s", name + 1);
		name = next_word(&line);
	}
	for (i = 0; name && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (same_text(name, commands[i].name))
			return run(&commands[i], line);
	return "no such command";
}

static void end_reply(const char *error)
{
	if (error)
		say("error %s", error);
	else
		say("ok");
}

static bool beat_step(void)
{
	if (!beat_milliseconds ||
	    !timer_due(&beat_timer, beat_milliseconds * 1000))
		return false;
	say("beat %lu", beats++);
	return true;
}

static bool pulse_step(void)
{
	if (!pulse_milliseconds ||
	    !timer_due(&pulse_timer, pulse_milliseconds * 1000))
		return false;
	serial_put("~", 1);
	return true;
}

void commands_init(const char *command_line)
{
	kernel_command_line = command_line;
}

bool commands_step(void)
{
	bool busy = beat_step() | pulse_step();
	const char *error;
	char *line;

	if (job.step) {
		if (job.step(&job) == JOB_DONE) {
			job.step = NULL;
			end_reply(job.error);
		}
		return true;
	}
	line = serial_line();
	if (!line)
		return busy;
	error = obey(line);
	if (error || !job.step)
		end_reply(error);
	return true;
}
