// SPDX-License-Identifier: MIT
/*
 * One balloon request after another, and what each cost: a client of a machine's
 * control socket that asks, waits until the guest has obeyed, and reads the
 * machine's counters before and after. Prints one line of CSV a request.
 *
 *	request CONTROL PID PAGES COUNT LABEL
 *
 * Takes PAGES (of 4096 bytes) from the guest COUNT times, each time others, then
 * gives them back in as many steps.
 * PID is the machine's process. LABEL begins each line.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ull
#define SETTLE_NS 20000000 /* counters that did not move for so long are still */

/* In the order of the columns. */
static const struct {
	const char *object, *key;
} counters[] = {
	{ "balloon", "config_reads" },	    { "balloon", "config_writes" },
	{ "balloon", "kicks" },		    { "balloon", "config_interrupts" },
	{ "balloon", "queue_interrupts" },  { "exits", "all" },
	{ "exits", "mmio" },		    { "exits", "io" },
	{ "exits", "halt" },		    { "exits", "injected" },
};

#define COUNTERS (sizeof(counters) / sizeof(counters[0]))
#define DEVICE_COUNTERS 5 /* of these: they are exact, and must come to rest */

struct reading {
	uint64_t count[COUNTERS];
	uint64_t device_ns, vcpu_ns; /* CPU time of the process's threads */
};

static FILE *to, *from;
static const char *pid;

static void __attribute__((format(printf, 1, 2), noreturn))
die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("request: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void wait_ns(long ns)
{
	nanosleep(&(struct timespec){ 0, ns }, NULL);
}

static void dial(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (strlen(path) >= sizeof(address.sun_path))
		die("%s: too long for a socket", path);
	strcpy(address.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		die("%s: %s", path, strerror(errno));
	to = fdopen(fd, "w");
	from = fdopen(dup(fd), "r");
}

/* The next message, the caller's to put. */
static json_t *receive(void)
{
	json_error_t error;
	json_t *message = json_loadf(from, JSON_DISABLE_EOF_CHECK, &error);

	if (!message)
		die("the machine's answer: %s", error.text);
	if (json_object_get(message, "error"))
		die("the machine refuses: %s",
		    json_string_value(json_object_get(
			    json_object_get(message, "error"), "desc")));
	return message;
}

static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(to, format, args);
	va_end(args);
	fputc('\n', to);
	fflush(to);
}

/* What stands behind "return"; events meanwhile are passed over. */
static json_t *reply(void)
{
	json_t *message, *value;

	for (;;) {
		message = receive();
		value = json_incref(json_object_get(message, "return"));
		json_decref(message);
		if (value)
			return value;
	}
}

/* Nanoseconds a thread has run, from the first word of its schedstat. */
static uint64_t ran_ns(const char *thread)
{
	char path[300];
	uint64_t ns = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/task/%s/schedstat", pid, thread);
	file = fopen(path, "r");
	if (file && fscanf(file, "%" SCNu64, &ns) != 1)
		ns = 0;
	if (file)
		fclose(file);
	return ns;
}

static void read_cpu_times(struct reading *reading)
{
	char path[300], name[32];
	struct dirent *entry;
	FILE *file;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		snprintf(path, sizeof(path), "/proc/%s/task/%s/comm", pid,
			 entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fscanf(file, "%31s", name) != 1)
			name[0] = '\0';
		fclose(file);
		if (!strcmp(name, "device"))
			reading->device_ns += ran_ns(entry->d_name);
		else if (!strncmp(name, "vcpu", 4))
			reading->vcpu_ns += ran_ns(entry->d_name);
	}
	if (tasks)
		closedir(tasks);
}

static uint64_t member(const json_t *status, const char *object,
		       const char *key)
{
	return json_integer_value(
		json_object_get(json_object_get(status, object), key));
}

static struct reading take_reading(void)
{
	struct reading reading = { 0 };
	json_t *status;
	size_t i;

	say("{\"execute\":\"x-query-status\"}");
	status = reply();
	for (i = 0; i < COUNTERS; i++)
		reading.count[i] = member(status, counters[i].object,
					  counters[i].key);
	json_decref(status);
	read_cpu_times(&reading);
	return reading;
}

/* Once the device's counters stand still. */
static struct reading settled_reading(void)
{
	struct reading last = take_reading(), now;

	for (;;) {
		wait_ns(SETTLE_NS);
		now = take_reading();
		if (!memcmp(now.count, last.count,
			    DEVICE_COUNTERS * sizeof(now.count[0])))
			return now;
		last = now;
	}
}

/* Return: nanoseconds until the guest kept @bytes */
static int64_t request(uint64_t bytes)
{
	int64_t begun = now_ns();
	json_t *message, *data;
	bool there = false;

	say("{\"execute\":\"balloon\",\"arguments\":{\"value\":%" PRIu64 "}}",
	    bytes);
	while (!there) {
		message = receive();
		data = json_object_get(message, "data");
		there = data && (uint64_t)json_integer_value(json_object_get(
					data, "actual")) == bytes;
		json_decref(message);
	}
	return now_ns() - begun;
}

static void measure(const char *label, const char *direction, uint64_t pages,
		    uint64_t bytes)
{
	struct reading before = settled_reading(), at_once, after;
	int64_t ns = request(bytes);
	size_t i;

	/* CPU time and exits go on while we wait; the device's counters may not
	 * be complete yet. */
	at_once = take_reading();
	after = settled_reading();
	printf("%s,%s,%" PRIu64 ",%" PRId64, label, direction, pages, ns);
	for (i = 0; i < COUNTERS; i++)
		printf(",%" PRIu64,
		       (i < DEVICE_COUNTERS ? &after : &at_once)->count[i] -
			       before.count[i]);
	printf(",%" PRIu64 ",%" PRIu64 "\n",
	       at_once.device_ns - before.device_ns,
	       at_once.vcpu_ns - before.vcpu_ns);
}

int main(int argc, char **argv)
{
	uint64_t pages, size;
	json_t *status;
	long i, count;

	if (argc != 6)
		die("usage: request CONTROL PID PAGES COUNT LABEL");
	pid = argv[2];
	pages = strtoull(argv[3], NULL, 10);
	count = strtol(argv[4], NULL, 10);
	dial(argv[1]);
	say("{\"execute\":\"qmp_capabilities\"}");
	json_decref(reply());
	say("{\"execute\":\"x-query-status\"}");
	status = reply();
	size = json_integer_value(json_object_get(status, "ram_bytes"));
	json_decref(status);
	for (i = 1; i <= count; i++)
		measure(argv[5], "inflate", pages, size - i * pages * PAGE);
	while (--i > 0)
		measure(argv[5], "deflate", pages,
			size - (i - 1) * pages * PAGE);
	return 0;
}
