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
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/loop.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
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

/* Memory whose content must stay what it is: a function of seed and place. */
struct kept {
	struct kept *next;
	uint64_t *words;
	uint64_t pages;
	uint64_t seed;
};

/*
 * Memory that a child rewrites for ever, page after page. What each page must
 * hold follows from the cursor alone, so a page of an older time is found out
 * even though it is consistent in itself.
 */
struct writer {
	struct writer *next;
	uint64_t *words; /* shared with the child, as is the cursor */
	uint64_t pages;
	uint64_t seed;
	struct cursor {
		_Atomic uint64_t
			pass; /* pages before next_page are of this pass */
		_Atomic uint64_t
			next_page; /* and from here on of the one before */
		_Atomic bool stop;
		_Atomic bool stopped;
	} * cursor;
};

static struct kept *all_kept;
static struct writer *all_writers;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	va_list args;

	fputs("@ ", stdout);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

/* The word at a place: splitmix64 of seed and place, never zero. */
static uint64_t word_at(uint64_t seed, uint64_t place)
{
	uint64_t x = seed * 0xd1342543de82ef95 + place * 0x9e3779b97f4a7c15;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	x ^= x >> 31;
	return x ? x : 1;
}

static void fill_page(uint64_t *words, uint64_t page, uint64_t seed)
{
	for (uint64_t i = 0; i < PAGE_WORDS; i++)
		words[i] = word_at(seed, page * PAGE_WORDS + i);
}

/* The index of the first wrong word, or PAGE_WORDS. */
static uint64_t first_wrong(const uint64_t *words, uint64_t page, uint64_t seed)
{
	uint64_t i = 0;

	while (i < PAGE_WORDS &&
	       words[i] == word_at(seed, page * PAGE_WORDS + i))
		i++;
	return i;
}

static uint64_t *allocate(uint64_t pages, int sharing)
{
	void *at = mmap(NULL, pages * PAGE_SIZE, PROT_READ | PROT_WRITE,
			sharing | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
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

/*
 * Has the kernel write to the swap what is kept; check() brings it back. What
 * was just written is still at hand in the swap cache: touched and sent out a
 * second time, it is gone.
 */
static const char *swap_out(char **args)
{
	for (int time = 0; time < 2; time++) {
		for (struct kept *kept = all_kept; kept; kept = kept->next)
			if (madvise(kept->words, kept->pages * PAGE_SIZE,
				    MADV_PAGEOUT))
				return strerror(errno);
		usleep(time ? 0 : 500000);
		for (struct kept *kept = all_kept; kept && !time;
		     kept = kept->next)
			for (uint64_t i = 0; i < kept->pages; i++)
				*(volatile uint64_t *)(kept->words +
						       i * PAGE_WORDS);
	}
	return NULL;
}

static const char *keep(char **args)
{
	struct kept *kept = malloc(sizeof(*kept));

	if (!kept)
		return "out of memory";
	kept->pages = strtoull(args[0], NULL, 10) * MIB_PAGES;
	kept->seed = strtoull(args[1], NULL, 10);
	kept->words = allocate(kept->pages, MAP_PRIVATE);
	if (!kept->words) {
		free(kept);
		return strerror(errno);
	}
	for (uint64_t page = 0; page < kept->pages; page++)
		fill_page(kept->words + page * PAGE_WORDS, page, kept->seed);
	kept->next = all_kept;
	all_kept = kept;
	return NULL;
}

static const char *check(char **args)
{
	uint64_t pages = 0, bad = 0;

	for (struct kept *kept = all_kept; kept; kept = kept->next) {
		pages += kept->pages;
		for (uint64_t page = 0; page < kept->pages; page++) {
			const uint64_t *words = kept->words + page * PAGE_WORDS;
			uint64_t wrong = first_wrong(words, page, kept->seed);

			if (wrong == PAGE_WORDS)
				continue;
			if (!bad++)
				say("first-bad seed %" PRIu64 " page %" PRIu64
				    " offset %zu is %016" PRIx64
				    " not %016" PRIx64,
				    kept->seed, page, wrong * sizeof(uint64_t),
				    words[wrong],
				    word_at(kept->seed,
					    page * PAGE_WORDS + wrong));
		}
	}
	say("pages %" PRIu64 " bad %" PRIu64, pages, bad);
	return bad ? "kept memory differs" : NULL;
}

/* Shows that check() can fail. */
static const char *spoil(char **args)
{
	if (!all_kept)
		return "nothing is kept";
	all_kept->words[(all_kept->pages - 1) * PAGE_WORDS + 1] ^= 1;
	return NULL;
}

/* Leaves free memory behind that holds something. */
static const char *dirty(char **args)
{
	uint64_t pages = strtoull(args[0], NULL, 10) * MIB_PAGES;
	uint64_t seed = strtoull(args[1], NULL, 10);
	pid_t child = fork();
	int status;

	if (child < 0)
		return strerror(errno);
	if (child == 0) {
		uint64_t *words = allocate(pages, MAP_PRIVATE);

		for (uint64_t page = 0; words && page < pages; page++)
			fill_page(words + page * PAGE_WORDS, page, seed);
		_exit(!words);
	}
	if (waitpid(child, &status, 0) != child)
		return strerror(errno);
	return status ? "the child that dirties memory failed" : NULL;
}

static uint64_t writer_seed(const struct writer *writer, uint64_t pass)
{
	return writer->seed + (pass << 32);
}

/* Rewrites MIB for ever at RATE MiB/s, in pieces of ten milliseconds. */
__attribute__((noreturn)) static void write_for_ever(struct writer *writer,
						     uint64_t rate)
{
	struct cursor *cursor = writer->cursor;
	uint64_t piece = rate * MIB_PAGES / 100 + 1;
	uint64_t written = 0;

	for (;;) {
		uint64_t page = cursor->next_page;

		while (cursor->stop) {
			cursor->stopped = true;
			usleep(1000);
		}
		fill_page(writer->words + page * PAGE_WORDS, page,
			  writer_seed(writer, cursor->pass));
		if (page + 1 < writer->pages) {
			cursor->next_page = page + 1;
		} else {
			/* Nobody looks between these two: see stop_writer(). */
			cursor->pass++;
			cursor->next_page = 0;
		}
		if (++written % piece == 0)
			usleep(10000);
	}
}

static const char *start_writer(char **args)
{
	struct writer *writer = malloc(sizeof(*writer));
	pid_t child;

	if (!writer)
		return "out of memory";
	writer->pages = strtoull(args[0], NULL, 10) * MIB_PAGES;
	writer->seed = strtoull(args[2], NULL, 10);
	writer->words = allocate(writer->pages, MAP_SHARED);
	writer->cursor = (void *)allocate(1, MAP_SHARED);
	if (!writer->pages || !writer->words || !writer->cursor)
		return "no memory for the writer";
	for (uint64_t page = 0; page < writer->pages; page++)
		fill_page(writer->words + page * PAGE_WORDS, page,
			  writer_seed(writer, 0));
	writer->cursor->pass = 1;
	child = fork();
	if (child < 0)
		return strerror(errno);
	if (child == 0)
		write_for_ever(writer, strtoull(args[1], NULL, 10));
	writer->next = all_writers;
	all_writers = writer;
	return NULL;
}

static void stop_writer(struct cursor *cursor)
{
	cursor->stopped = false;
	cursor->stop = true;
	while (!cursor->stopped)
		usleep(1000);
}

static const char *check_writers(char **args)
{
	uint64_t pages = 0, bad = 0;

	for (struct writer *writer = all_writers; writer;
	     writer = writer->next) {
		struct cursor *cursor = writer->cursor;

		stop_writer(cursor);
		for (uint64_t page = 0; page < writer->pages; page++) {
			uint64_t pass =
				cursor->pass - (page >= cursor->next_page);
			const uint64_t *words =
				writer->words + page * PAGE_WORDS;
			uint64_t wrong = first_wrong(words, page,
						     writer_seed(writer, pass));

			if (wrong < PAGE_WORDS && !bad++)
				say("first-bad seed %" PRIu64 " page %" PRIu64
				    " offset %zu is not of pass %" PRIu64,
				    writer->seed, page,
				    wrong * sizeof(uint64_t), pass);
		}
		pages += writer->pages;
		say("passes %" PRIu64, cursor->pass - 1);
		cursor->stop = false;
	}
	say("pages %" PRIu64 " bad %" PRIu64, pages, bad);
	return bad ? "the writer's memory differs" : NULL;
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
	{"swap-out", 0, swap_out},
	{"huge-pages", 1, huge_pages}, /* COUNT */
	{"keep", 2, keep}, /* MIB SEED */
	{"check", 0, check},
	{"spoil", 0, spoil},
	{"dirty", 2, dirty},	     /* MIB SEED */
	{"writer", 3, start_writer}, /* MIB RATE_MIB_S SEED */
	{"writer-check", 0, check_writers},
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
