// SPDX-License-Identifier: MIT
/*
 * The balloon's driver: its start and its turns. What to do next is decided by
 * the core's driver halves (src/balloon/); here it is done, piece by piece and
 * without a wait, so that a request is obeyed at any time, during a report too.
 * A file for each of its jobs: balloon_*.c.
 */
#include "balloon.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <stddef.h>

#include "balloon/command_register.h"
#include "balloon/page_ranges.h"
#include "balloon/v17_registers.h"
#include "balloon_internal.h"
#include "lib.h"
#include "serial.h"

#define QUEUE_BYTES 8192
#define ALWAYS (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX)
#define EXPERIMENTS (1ull << BALLOON_F_COMMAND_REGISTER | 1ull << BALLOON_F_V17)

struct balloon_counters balloon_counters;
struct balloon_driver balloon_driver;

static uint8_t rings[BALLOON_QUEUES][QUEUE_BYTES]
	__attribute__((aligned(4096)));
static const char *absent; /* why there is no balloon */

/* -------------------------------------------------------- start --- */

static uint64_t wanted_features(const struct balloon_choice *choice)
{
	return ALWAYS |
	       (uint64_t)choice->page_ranges << BALLOON_F_PAGE_RANGES |
	       (uint64_t)choice->must_tell_host
		       << VIRTIO_BALLOON_F_MUST_TELL_HOST |
	       (uint64_t)choice->statistics << VIRTIO_BALLOON_F_STATS_VQ |
	       (uint64_t)choice->hinting << VIRTIO_BALLOON_F_FREE_PAGE_HINT |
	       (uint64_t)choice->poison << VIRTIO_BALLOON_F_PAGE_POISON |
	       (uint64_t)choice->reporting << VIRTIO_BALLOON_F_REPORTING |
	       (choice->experiments && choice->hinting ? EXPERIMENTS : 0);
}

static bool negotiated(unsigned int bit)
{
	return balloon_driver.device.features >> bit & 1;
}

static const char *add_queues(enum balloon_numbering numbering)
{
	struct balloon_driver *driver = &balloon_driver;
	const char *error = NULL;
	int i, index;

	for (i = 0; i < BALLOON_QUEUES && !error; i++) {
		index = balloon_queue_index((enum balloon_queue)i,
					    driver->device.features, numbering);
		error = virtio_add_queue(&driver->device, &driver->queue[i],
					 index, rings[i], QUEUE_SIZE);
	}
	return error;
}

/* The poison is told before DRIVER_OK (D35), and never again (D36). */
static void note_features(const struct balloon_choice *choice)
{
	struct balloon_driver *driver = &balloon_driver;

	driver->protocol = negotiated(BALLOON_F_V17) ? PROTOCOL_V17 :
			   negotiated(BALLOON_F_COMMAND_REGISTER) ?
			   PROTOCOL_COMMAND_REGISTER : PROTOCOL_STANDARD;
	driver->ranges = negotiated(BALLOON_F_PAGE_RANGES);
	driver->must_tell = negotiated(VIRTIO_BALLOON_F_MUST_TELL_HOST);
	driver->poisons = negotiated(VIRTIO_BALLOON_F_PAGE_POISON);
	driver->poison = choice->poison_value;
	if (driver->poisons)
		virtio_config_write(&driver->device,
				    offsetof(struct virtio_balloon_config,
					     poison_val),
				    driver->poison);
}

void balloon_init(const struct balloon_choice *choice)
{
	_Static_assert(QUEUE_BYTES % 4096 == 0, "rings must be aligned");
	absent = virtio_start(&balloon_driver.device, VIRTIO_ID_BALLOON,
			      wanted_features(choice));
	if (!absent)
		absent = add_queues(choice->numbering);
	if (absent)
		return;
	note_features(choice);
	report_init();
	reporting_init();
	virtio_go(&balloon_driver.device);
	statistics_start();
}

/* -------------------------------------------------------- turns --- */

bool balloon_take_used(enum balloon_queue queue, uint64_t *token)
{
	struct vring_driver *ring = &balloon_driver.queue[queue].ring;

	while (vring_driver_take_used(ring, token, NULL))
		if (*token != TOKEN_ROGUE)
			return true;
	return false;
}

bool balloon_step(void)
{
	bool busy;

	if (absent)
		return false;
	balloon_poll_config();
	busy = report_step();
	busy |= adjust_step();
	busy |= statistics_step();
	busy |= reporting_step();
	return busy;
}

/* ------------------------------------------------------------ words --- */

static const struct {
	unsigned int bit;
	const char *name;
} feature_names[] = {
	{ VIRTIO_BALLOON_F_MUST_TELL_HOST, "must-tell-host" },
	{ VIRTIO_BALLOON_F_STATS_VQ, "stats" },
	{ VIRTIO_BALLOON_F_FREE_PAGE_HINT, "hinting" },
	{ VIRTIO_BALLOON_F_PAGE_POISON, "poison" },
	{ VIRTIO_BALLOON_F_REPORTING, "reporting" },
	{ BALLOON_F_COMMAND_REGISTER, "command-register" },
	{ BALLOON_F_V17, "v17" },
	{ BALLOON_F_PAGE_RANGES, "page-ranges" },
};

static void say_features(void)
{
	static const char *const protocols[] = {
		[PROTOCOL_STANDARD] = "standard",
		[PROTOCOL_COMMAND_REGISTER] = "command-register",
		[PROTOCOL_V17] = "v17",
	};
	size_t i;

	for (i = 0; i < sizeof(feature_names) / sizeof(feature_names[0]); i++)
		if (negotiated(feature_names[i].bit))
			say("negotiated %s", feature_names[i].name);
	say("protocol %s", protocols[balloon_driver.protocol]);
}

static const char *wanted_key; /* NULL: all */
static bool said;

void balloon_count(const char *key, uint64_t value)
{
	if (wanted_key && !same_text(key, wanted_key))
		return;
	say("%s %lu", key, value);
	said = true;
}

bool balloon_say(const char *key)
{
	const struct virtio_pci_device *device = &balloon_driver.device;

	wanted_key = key;
	said = false;
	adjust_count();
	report_count();
	reporting_count();
	balloon_count("stats-sent", balloon_counters.statistics);
	balloon_count("rogue", balloon_counters.rogue);
	balloon_count("acknowledgements", balloon_counters.acknowledgements);
	balloon_count("isr-reads", device->isr_reads);
	balloon_count("config-reads", device->config_reads);
	balloon_count("config-writes", device->config_writes);
	balloon_count("kicks", device->kicks);
	return said;
}

void balloon_say_device(void)
{
	char bits[65];
	int i;

	if (absent) {
		say("balloon none: %s", absent);
		return;
	}
	for (i = 0; i < 64; i++)
		bits[i] = (char)('0' + negotiated((unsigned int)i));
	bits[64] = '\0';
	say("virtio0 device 0x%4x driver bare features %s", VIRTIO_ID_BALLOON,
	    bits);
	say_features();
}
