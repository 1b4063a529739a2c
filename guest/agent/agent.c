// SPDX-License-Identifier: MIT
/*
 * PID 1 of the stock Debian guest: loads the virtio modules, then obeys
 * one-line commands on the first serial port.
 *
 * Every line of a reply starts with "@ ", so that kernel messages cannot be
 * taken for it, and "@ ok" or "@ error TEXT" ends it. A command may be preceded
 * by a tag, "#TAG COMMAND"; then "@ begin TAG" comes first, and who lost the
 * reply of an earlier command can tell the two apart.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define CONSOLE "/dev/ttyS0"
#define BEFORE_MODULES "agent: loading modules"
#define PAGE_SIZE 4096
#define PAGE_WORDS (PAGE_SIZE / sizeof(uint64_t))
#define MIB_PAGES ((1024 * 1024) / PAGE_SIZE)

void say(const char *format, ...)
{
	va_list args;

	fputs("@ ", stdout);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

/* Commands. Each returns NULL or what went wrong. */

static const char *ping(char **args)
{
	return NULL;
}

static const char *print_matching(const char *path, const char *const *prefixes)
{
	FILE *file = fopen(path, "re");
	char line[4096];

	if (!file)
		return strerror(errno);
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		for (const char *const *prefix = prefixes; *prefix; prefix++)
			if (!strncmp(line, *prefix, strlen(*prefix)))
				say("%s", line);
	}
	fclose(file);
	return NULL;
}

static const char *meminfo(char **args)
{
	FILE *file = fopen("/proc/meminfo", "re");
	char name[64];
	unsigned long kb;

	if (!file)
		return strerror(errno);
	while (fscanf(file, "%63[^:]: %lu%*[^\n]\n", name, &kb) == 2)
		if (!strcmp(name, "MemTotal") || !strcmp(name, "MemFree") ||
		    !strcmp(name, "MemAvailable"))
			say("%s %lu", name, kb);
	fclose(file);
	return NULL;
}

static const char *counters(char **args)
{
	static const char *const prefixes[] = {"balloon_", NULL};

	return print_matching("/proc/vmstat", prefixes);
}

/*
 * What the kernel makes its balloon statistics of, by its own names: /proc/meminfo
 * in kB, /proc/vmstat in pages and events. Both are read before a word is
 * printed, so that the reading takes no longer than it must, and allocates
 * nothing.
 */
static const char *const in_meminfo[] = {"MemTotal:", "MemFree:",
					 "MemAvailable:", NULL};
static const char *const in_vmstat[] = {
	"nr_file_pages ", "pswpin ",   "pswpout ",  "pgfault ", "pgmajfault ",
	"htlb_buddy_",	  "oom_kill ", "allocstall", "pgscan_",  "pgsteal_",
	NULL};

/* The length of what was read, or -1 with errno. */
static ssize_t read_whole(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = 0, n = fd < 0 ? -1 : 1;

	while (n > 0 && (size_t)length < size - 1) {
		n = read(fd, text + length, size - 1 - length);
		length += n > 0 ? n : 0;
	}
	if (fd >= 0)
		close(fd);
	text[length] = '\0';
	return n < 0 ? -1 : length;
}

static void say_matching(char *text, const char *const *prefixes)
{
	for (char *line; (line = strsep(&text, "\n"));)
		for (const char *const *prefix = prefixes; *prefix; prefix++)
			if (!strncmp(line, *prefix, strlen(*prefix)))
				say("%s", line);
}

static const char *statistics(char **args)
{
	static char memory[16 * 1024], events[32 * 1024];

	if (read_whole("/proc/meminfo", memory, sizeof(memory)) < 0 ||
	    read_whole("/proc/vmstat", events, sizeof(events)) < 0)
		return strerror(errno);
	say_matching(memory, in_meminfo);
	say_matching(events, in_vmstat);
	return NULL;
}

static const char *cmdline(char **args)
{
	static const char *const prefixes[] = {"", NULL};

	return print_matching("/proc/cmdline", prefixes);
}

static const char *uptime(char **args)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	say("%lld", (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
	return NULL;
}

/* A sign of life every MS milliseconds; 0: no more of them. A line goes out in one
 * piece, so those of a child do not get into a reply's. */
static const char *beat(char **args)
{
	useconds_t us = strtoul(args[0], NULL, 10) * 1000;
	static pid_t beating;

	if (beating > 0) {
		kill(beating, SIGKILL);
		waitpid(beating, NULL, 0);
	}
	beating = 0;
	if (!us)
		return NULL;
	fflush(stdout);
	beating = fork();
	for (unsigned long beats = 0; !beating; beats++) {
		say("beat %lu", beats);
		fflush(stdout);
		usleep(us);
	}
	return beating < 0 ? strerror(errno) : NULL;
}

static const char *dmesg_balloon(char **args)
{
	static char log[256 * 1024];
	int length = klogctl(3 /* read all */, log, sizeof(log) - 1);
	char *rest = log;

	if (length < 0)
		return strerror(errno);
	log[length] = '\0';
	for (char *line; (line = strsep(&rest, "\n"));)
		if (strcasestr(line, "balloon") ||
		    strcasestr(line, "page reporting"))
			say("%s", line);
	return NULL;
}

/* What no kernel says as long as all is well. */
static bool is_bad(const char *line)
{
	static const char *const signs[] = {
		"WARNING:", "BUG", "Oops", "Call Trace", "circular locking",
		"blocked for more than", "Bad page", "general protection",
		NULL};
	const char *const *sign = signs;

	while (*sign && !strstr(line, *sign))
		sign++;
	return *sign;
}

/* An MSR that this host does not let be written is an affair of the processor;
 * a trace comes with it. */
static bool any_bad(const char *log)
{
	bool processor = false, bad = false;
	char line[256];

	for (; *log && !bad; log += strcspn(log, "\n"), log += *log == '\n') {
		snprintf(line, sizeof(line), "%.*s", (int)strcspn(log, "\n"),
			 log);
		bad = is_bad(line) && !processor;
		processor = strstr(line, "unchecked MSR access error");
	}
	return bad;
}

/* All that it said since the first module was loaded, if any of it is bad. */
static const char *dmesg_bad(char **args)
{
	static char log[256 * 1024];
	int length = klogctl(3 /* read all */, log, sizeof(log) - 1);
	char *since;

	if (length < 0)
		return strerror(errno);
	log[length] = '\0';
	since = strstr(log, BEFORE_MODULES);
	if (!since)
		return "the log is too long";
	if (!any_bad(since))
		return NULL;
	for (char *line; (line = strsep(&since, "\n"));)
		say("%s", line);
	return "the kernel complains";
}

static void read_line(int directory, const char *name, char *text, size_t size)
{
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
	ssize_t length = read(fd, text, size - 1);

	text[length > 0 ? length : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	close(fd);
}

/* The virtio devices: who drives them, and what was negotiated, bit by bit. */
static const char *devices(char **args)
{
	char path[64], device[16], driver[256], features[128];

	for (int i = 0;; i++) {
		ssize_t length;
		int directory;

		snprintf(path, sizeof(path), "/sys/bus/virtio/devices/virtio%d",
			 i);
		directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (directory < 0)
			return i ? NULL : "no virtio device";
		read_line(directory, "device", device, sizeof(device));
		read_line(directory, "features", features, sizeof(features));
		length = readlinkat(directory, "driver", driver,
				    sizeof(driver) - 1);
		driver[length > 0 ? length : 0] = '\0';
		close(directory);
		say("virtio%d device %s driver %s features %s", i, device,
		    length > 0 ? strrchr(driver, '/') + 1 : "none", features);
	}
}

static const char *write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t written = write(fd, text, strlen(text));

	close(fd);
	return written == (ssize_t)strlen(text) ? NULL : strerror(errno);
}

/* Freezes and thaws every device; without a swap it goes no further, which is
 * the error that is wanted. */
static const char *hibernate(char **args)
{
	const char *error = write_text("/sys/power/state", "disk");

	say("%s", error ? error : "it hibernated");
	return NULL;
}

/* Counters of our own balloon driver, where it is loaded. */
static const char *driver_counters(char **args)
{
	static const char *const prefixes[] = {"", NULL};

	if (mount("debug", "/sys/kernel/debug", "debugfs", 0, NULL) &&
	    errno != EBUSY)
		return strerror(errno);
	return print_matching("/sys/kernel/debug/aerostat_balloon/counters",
			      prefixes);
}

static const char *drop_caches(char **args)
{
	sync();
	return write_text("/proc/sys/vm/drop_caches", "3\n");
}

/* Sets aside as many pages of 2 MiB as it gets, up to a number. */
static const char *huge_pages(char **args)
{
	return write_text("/proc/sys/vm/nr_hugepages", args[0]);
}

/*
 * A block device, /dev/loopNUMBER, of MIB on a tmpfs: the one kind of disk this
 * guest has. Holes of its file cost nothing to read.
 * Return: its descriptor, or -1 with errno.
 */
static int loop_device(int number, uint64_t mib)
{
	char device[32], path[32];
	int file, loop;

	mkdir("/files", 0755);
	if (access("/files/mounted", F_OK) &&
	    mount("files", "/files", "tmpfs", 0, NULL))
		return -1;
	close(open("/files/mounted", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	snprintf(path, sizeof(path), "/files/%d", number);
	snprintf(device, sizeof(device), "/dev/loop%d", number);
	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (file < 0)
		return -1;
	loop = open(device, O_RDWR | O_CLOEXEC);
	if (ftruncate(file, mib << 20) ||
	    (loop >= 0 && ioctl(loop, LOOP_SET_FD, file))) {
		close(loop);
		loop = -1;
	}
	close(file);
	return loop;
}

/* Fills the page cache with MIB that can be dropped again. */
static const char *cache(char **args)
{
	static char piece[64 * 1024];
	int loop = loop_device(1, strtoull(args[0], NULL, 10));
	ssize_t n = -1;

	if (loop < 0)
		return strerror(errno);
	while ((n = read(loop, piece, sizeof(piece))) > 0)
		;
	/* It stays open: the last close would drop the cache. */
	return n < 0 ? strerror(errno) : NULL;
}

/* Swaps onto MIB of tmpfs: of use for a look at the counters only. */
static const char *swap(char **args)
{
	static struct {
		char boot[1024];
		uint32_t version, last_page, bad_pages;
		char rest[PAGE_SIZE - 1024 - 12 - 10];
		char magic[10];
	} __attribute__((packed)) header = {.version = 1,
					    .magic = "SWAPSPACE2"};
	uint64_t mib = strtoull(args[0], NULL, 10);
	int loop = loop_device(0, mib);

	if (loop < 0)
		return strerror(errno);
	header.last_page = mib * MIB_PAGES - 1;
	if (pwrite(loop, &header, sizeof(header), 0) != sizeof(header) ||
	    fsync(loop) || swapon("/dev/loop0", 0))
		return strerror(errno);
	return NULL;
}

static const char *end(int how)
{
	sync();
	say("ok");
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
	reboot(how);
	return strerror(errno);
}

static const char *restart(char **args)
{
	return end(RB_AUTOBOOT);
}

static const char *power_off(char **args)
{
	return end(RB_POWER_OFF);
}

/* NULL, or why not. */
static const char *load_module(const char *name, const char *parameters)
{
	char path[128];
	int fd;
	long status;

	snprintf(path, sizeof(path), "/modules/%s.ko", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	status = syscall(SYS_finit_module, fd, parameters, 0);
	close(fd);
	return status ? strerror(errno) : NULL;
}

static const char *insert_module(char **args)
{
	for (char *comma; (comma = strchr(args[1], ','));)
		*comma = ' ';
	return load_module(args[0], strcmp(args[1], "-") ? args[1] : "");
}

static const char *remove_module(char **args)
{
	return syscall(SYS_delete_module, args[0], O_NONBLOCK) ?
		       strerror(errno) :
		       NULL;
}

static const struct command {
	const char *name;
	int arguments;
	const char *(*run)(char **args);
} commands[] = {
	{"ping", 0, ping},
	{"meminfo", 0, meminfo},
	{"counters", 0, counters},
	{"statistics", 0, statistics},
	{"cmdline", 0, cmdline},
	{"uptime", 0, uptime},
	{"beat", 1, beat}, /* MS */
	{"devices", 0, devices},
	{"dmesg-balloon", 0, dmesg_balloon},
	{"dmesg-bad", 0, dmesg_bad},
	{"driver-counters", 0, driver_counters},
	{"insmod", 2, insert_module}, /* NAME PARAMETER,PARAMETER... or - */
	{"rmmod", 1, remove_module},  /* NAME */
	{"hibernate", 0, hibernate},
	{"drop-caches", 0, drop_caches},
	{"cache", 1, cache}, /* MIB */
	{"swap", 1, swap},   /* MIB */
	{"swap-out", 0, agent_swap_out},
	{"huge-pages", 1, huge_pages}, /* COUNT */
	{"keep", 2, agent_keep}, /* MIB SEED */
	{"check", 0, agent_check},
	{"spoil", 0, agent_spoil},
	{"dirty", 2, agent_dirty},	     /* MIB SEED */
	{"writer", 3, agent_start_writer}, /* MIB RATE_MIB_S SEED */
	{"writer-check", 0, agent_check_writers},
	{"stress", 1, agent_stress}, /* OPTION,OPTION... of stress-ng */
	{"stress-end", 0, agent_stress_end},
	{"reboot", 0, restart},
	{"poweroff", 0, power_off},
};

static const char *obey(char *line)
{
	char *words[8] = {NULL};
	int count = 0;

	while (count < 8 && (words[count] = strsep(&line, " ")))
		count += *words[count] != '\0';
	if (count && words[0][0] == '#') {
		say("begin %s", words[0] + 1);
		count--;
		memmove(words, words + 1, sizeof(words) - sizeof(words[0]));
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (!count || strcmp(words[0], commands[i].name))
			continue;
		if (count - 1 != commands[i].arguments)
			return "wrong number of arguments";
		return commands[i].run(words + 1);
	}
	return "no such command";
}

static void load_modules(void)
{
	FILE *order = fopen("/modules/order", "re");
	const char *error;
	char name[64];

	if (!order)
		return;
	while (fscanf(order, "%63s", name) == 1) {
		error = load_module(name, "");
		if (error && errno != EEXIST)
			say("cannot load %s: %s", name, error);
	}
	fclose(order);
}

/* Standard input and output: the serial port, every byte as it is. */
static bool open_console(void)
{
	struct termios mode;
	int fd = open(CONSOLE, O_RDWR | O_NOCTTY);

	if (fd < 0 || tcgetattr(fd, &mode))
		return false;
	cfmakeraw(&mode);
	tcsetattr(fd, TCSANOW, &mode);
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	if (fd > STDOUT_FILENO)
		close(fd);
	return true;
}

int main(void)
{
	char line[256];

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	if (!open_console())
		return 1;
	write_text("/dev/kmsg", BEFORE_MODULES "\n");
	load_modules();
	say("agent ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		const char *error;

		line[strcspn(line, "\r\n")] = '\0';
		if (!*line)
			continue;
		/* A kernel message may have left its line unfinished. */
		putchar('\n');
		error = obey(line);
		if (error)
			say("error %s", error);
		else
			say("ok");
		fflush(stdout);
	}
	return 1;
}
