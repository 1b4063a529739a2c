/* SPDX-License-Identifier: MIT */
/* What the files of the balloon's driver have in common. */
#ifndef BARE_BALLOON_INTERNAL_H
#define BARE_BALLOON_INTERNAL_H

#include "balloon.h"

#include <linux/virtio_balloon.h>

#include "virtio.h"

#define QUEUE_SIZE 256

/* Of a buffer that breaks the rules; others have small tokens, or pages. */
#define TOKEN_ROGUE UINT64_MAX

struct balloon_counters {
	/* Ids and signs sent (v17: STOPs said), times all held blocks were
	 * given back. */
	uint64_t reports, signs, releases;
	uint64_t hints, hinted_pages;  /* made available */
	uint64_t returned;	/* of these hints, used by the device */
	uint64_t taken;		/* blocks taken back and written */
	uint64_t window;	/* of these, whose hint was used after that */
	uint64_t inflated, deflated; /* pages */
	uint64_t early;		/* frames on the way that somebody used */
	uint64_t reported;	/* pages, of free page reporting */
	uint64_t report_buffers;
	uint64_t statistics;	/* buffers */
	uint64_t acknowledgements; /* writes to cmd_reg or guest2host_cmd */
	uint64_t poison_checked, poison_bad; /* pages */
	uint64_t rogue;		/* rules broken */
};

extern struct balloon_counters balloon_counters;

struct balloon_driver {
	struct virtio_pci_device device;
	struct virtio_queue queue[BALLOON_QUEUES];
	bool poisons;	 /* negotiated */
	uint32_t poison;
	enum {
		PROTOCOL_STANDARD,
		PROTOCOL_COMMAND_REGISTER,
		PROTOCOL_V17,
	} protocol;	 /* spoken */
	bool must_tell;	 /* negotiated */
	bool ranges;	 /* negotiated: F_PAGE_RANGES */
};

extern struct balloon_driver balloon_driver;

/* Does the queue exist with what was negotiated? */
static inline bool balloon_has_queue(enum balloon_queue queue)
{
	return balloon_driver.queue[queue].notify;
}

/* Print a counter, if it is asked for. */
void balloon_count(const char *key, uint64_t value);

/* Take a buffer back that is not a rogue one. Return: false when none came */
bool balloon_take_used(enum balloon_queue queue, uint64_t *token);

/* balloon_config.c: look whether a request came. */
void balloon_poll_config(void);

/* balloon_report.c: free page report, of any protocol. */
struct command_driver;
struct v17_driver;
void report_init(void);
void report_config(uint32_t command_id);
struct command_driver *report_commands(void);
struct v17_driver *report_v17(void);
bool report_step(void);
void report_count(void);

/* balloon_adjust.c: inflate and deflate. */
void adjust_set_target(uint32_t pages);
bool adjust_step(void);
void adjust_count(void);

/* balloon_statistics.c */
void statistics_start(void);
bool statistics_step(void);

/* balloon_reporting.c: free page reporting, and poison. */
void reporting_init(void);
bool reporting_step(void);
void poison_fill(uint64_t page);
void reporting_count(void);

#endif
