// SPDX-License-Identifier: MIT
/*
 * The balloon's driver. What to do next is decided by the core's driver half
 * (src/balloon/balloon_driver.c); here it is done, piece by piece and without
 * a wait, so that a request is obeyed at any time, during a report too.
 *
 * Taking blocks back. VIRTIO 1.3 section 5.5.6.6.1 lets a driver use a page
 * again as soon as it has made it available. A device may leave the page out
 * only as it was when the id was published, so a write that comes after the
 * hint must not get lost, least of all one that comes before the device has
 * looked at the hint. This driver does just that to some blocks, once, and
 * several hints wait for one kick, so that there is such a time.
 */
#include "balloon.h"

#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <stddef.h>

#include "balloon/balloon_driver.h"
#include "base/endian.h"
#include "clock.h"
#include "lib.h"
#include "memory.h"
#include "pattern.h"
#include "serial.h"
#include "virtio.h"

#define QUEUE_SIZE 256
#define QUEUE_BYTES 8192
#define FRAMES 256 /* a buffer, as Linux */
#define HINTS_PER_KICK 16
#define PAGES_PER_STEP 256 /* written of a block */

#define POLL_MICROSECONDS 2000
#define RETRY_MICROSECONDS 100000

#define TAKEN_SEED 0x7a6b5c4d00000000ull
#define TOKEN_COMMAND 0 /* that of a hint is its first page */

#define WANTED_FEATURES                                                      \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX |      \
	 1ull << VIRTIO_BALLOON_F_MUST_TELL_HOST |                           \
	 1ull << VIRTIO_BALLOON_F_STATS_VQ)

struct balloon_counters balloon_counters;

static uint8_t rings[BALLOON_QUEUES][QUEUE_BYTES]
	__attribute__((aligned(4096)));
static struct virtio_queue queue[BALLOON_QUEUES];
static struct virtio_pci_device device;
static const char *absent; /* why there is no balloon */

static struct report_driver report;
static struct {
	uint64_t blocks;	 /* hinted in this report */
	uint64_t taken;		 /* of these */
	unsigned int unkicked;
	struct run_cursor cursor;
	uint64_t taking, next;	 /* block being written and page in it; or 0 */
	bool taking_used;	 /* its hint came back */
	uint64_t every, most;
} hinting;

/* Each command has its own word while it is on the way: there are as many as
 * the ring can hold. */
static __le32 command_words[QUEUE_SIZE];
static unsigned int next_command;

static struct {
	enum { SETTLED, INFLATING, DEFLATING } state;
	uint32_t target, actual; /* num_pages as read last, and reached */
	uint32_t count;		 /* frames on the way */
	uint64_t cursor;	 /* where to look for pages to take back */
	bool returned, starved;
	__le32 frames[FRAMES];
} adjust;

static struct virtio_balloon_stat stats[2];
static struct timer poll_timer, retry_timer;
static bool config_read; /* once at least */

/* -------------------------------------------------------- start --- */

static const char *add_queues(enum balloon_numbering numbering)
{
	const char *error = NULL;
	int i, index;

	for (i = 0; i < BALLOON_QUEUES && !error; i++) {
		index = balloon_queue_index((enum balloon_queue)i,
					    device.features, numbering);
		error = virtio_add_queue(&device, &queue[i], index, rings[i],
					 QUEUE_SIZE);
	}
	return error;
}

static void send_stats(void)
{
	struct vring_segment segment = { (uintptr_t)stats, sizeof(stats) };

	le16_store(&stats[0].tag, VIRTIO_BALLOON_S_MEMFREE);
	le64_store(&stats[0].val, memory_count(PAGE_FREE) * PAGE_SIZE);
	le16_store(&stats[1].tag, VIRTIO_BALLOON_S_MEMTOT);
	le64_store(&stats[1].val, memory_total_kib() * 1024);
	vring_driver_add(&queue[BALLOON_STATS].ring, &segment, 1, 0, 0);
	virtio_kick(&device, &queue[BALLOON_STATS]);
}

void balloon_init(bool with_hinting, enum balloon_numbering numbering)
{
	uint64_t wanted = WANTED_FEATURES;

	_Static_assert(QUEUE_BYTES % 4096 == 0, "rings must be aligned");
	if (with_hinting)
		wanted |= 1ull << VIRTIO_BALLOON_F_FREE_PAGE_HINT;
	report_driver_init(&report);
	absent = virtio_start(&device, VIRTIO_ID_BALLOON, wanted);
	if (!absent)
		absent = add_queues(numbering);
	if (absent)
		return;
	virtio_go(&device);
	if (queue[BALLOON_STATS].notify)
		send_stats();
}

/* ------------------------------------------------- what comes back --- */

static void reclaim_hints(void)
{
	uint64_t token;

	while (vring_driver_take_used(&queue[BALLOON_FREE_PAGE].ring, &token,
				      NULL))
		if (token != TOKEN_COMMAND && token == hinting.taking)
			hinting.taking_used = true;
}

static void reclaim(void)
{
	uint64_t token;

	if (vring_driver_take_used(&queue[BALLOON_INFLATE].ring, &token,
				   NULL) ||
	    vring_driver_take_used(&queue[BALLOON_DEFLATE].ring, &token, NULL))
		adjust.returned = true;
	if (queue[BALLOON_STATS].notify &&
	    vring_driver_take_used(&queue[BALLOON_STATS].ring, &token, NULL))
		send_stats();
	if (queue[BALLOON_FREE_PAGE].notify)
		reclaim_hints();
}

/*
 * Each look leaves the guest: there is one in POLL_MICROSECONDS. The registers
 * are read when they have changed and not otherwise, as a driver with
 * interrupts does: QEMU shows STOP in free_page_hint_cmd_id while a report is
 * under way, and means nothing by it.
 */
static void poll_config(void)
{
	if (!timer_due(&poll_timer, POLL_MICROSECONDS))
		return;
	if (!virtio_config_changed(&device) && config_read)
		return;
	config_read = true;
	adjust.target = virtio_config_read(
		&device, offsetof(struct virtio_balloon_config, num_pages));
	if (queue[BALLOON_FREE_PAGE].notify)
		report_driver_config(
			&report,
			virtio_config_read(&device,
				offsetof(struct virtio_balloon_config,
					 free_page_hint_cmd_id)));
}

/* ------------------------------------------------------- reporting --- */

static void kick_hints(void)
{
	hinting.unkicked = 0;
	virtio_kick(&device, &queue[BALLOON_FREE_PAGE]);
}

static void send_command(uint32_t id)
{
	__le32 *word = &command_words[next_command++ % QUEUE_SIZE];
	struct vring_segment segment = { (uintptr_t)word, sizeof(*word) };

	le32_store(word, id);
	vring_driver_add(&queue[BALLOON_FREE_PAGE].ring, &segment, 1, 0,
			 TOKEN_COMMAND);
	kick_hints();
}

static void begin_report(uint32_t id)
{
	hinting.blocks = 0;
	hinting.taken = 0;
	hinting.cursor = (struct run_cursor){ 0, 0 };
	balloon_counters.reports++;
	send_command(id);
}

static bool shall_take(void)
{
	return hinting.every && hinting.blocks % hinting.every == 0 &&
	       (!hinting.most || hinting.taken < hinting.most);
}

static void note_hint(void)
{
	if (++hinting.unkicked >= HINTS_PER_KICK)
		kick_hints();
}

static void begin_taking(uint64_t page)
{
	memory_retag(page, BLOCK_PAGES, PAGE_TAKING);
	*memory_block_seed(page) = TAKEN_SEED + balloon_counters.reports;
	hinting.taken++;
	hinting.taking = hinting.next = page;
	hinting.taking_used = false;
}

/* Write a part of the block that was just made available. */
static void go_on_taking(void)
{
	uint64_t seed = *memory_block_seed(hinting.taking);
	unsigned int i;

	for (i = 0; i < PAGES_PER_STEP; i++)
		pattern_fill(seed, hinting.next++);
	if (hinting.next < hinting.taking + BLOCK_PAGES)
		return;
	reclaim_hints();
	balloon_counters.taken++;
	balloon_counters.window += !hinting.taking_used;
	memory_retag(hinting.taking, BLOCK_PAGES, PAGE_TAKEN);
	hinting.taking = 0;
	note_hint();
}

static void send_block(void)
{
	struct vring_segment segment;
	uint64_t pages = BLOCK_PAGES;
	uint64_t page = memory_take_block(PAGE_HINTED);

	if (!page)
		page = memory_take_run(&hinting.cursor, PAGE_HINTED, &pages);
	if (!page) {
		report_driver_exhausted(&report);
		return;
	}
	segment.address = page << PAGE_SHIFT;
	segment.length = (uint32_t)(pages << PAGE_SHIFT);
	vring_driver_add(&queue[BALLOON_FREE_PAGE].ring, &segment, 0, 1, page);
	balloon_counters.hints++;
	balloon_counters.hinted_pages += pages;
	if (pages == BLOCK_PAGES && (hinting.blocks++, shall_take()))
		begin_taking(page);
	else
		note_hint();
}

static void send_sign(void)
{
	balloon_counters.signs++;
	send_command(VIRTIO_BALLOON_CMD_ID_STOP);
}

static bool report_step(void)
{
	const struct vring_driver *ring = &queue[BALLOON_FREE_PAGE].ring;
	uint32_t id;

	if (hinting.taking) {
		go_on_taking();
		return true;
	}
	/* A decision counts as carried out, so there must be room for it. */
	if (!ring->free)
		return false;
	switch (report_driver_next(&report, &id)) {
	case REPORT_STEP_SEND_ID:
		begin_report(id);
		return true;
	case REPORT_STEP_SEND_BLOCK:
		/* The last place is the sign's (R23). */
		if (ring->free < 2) {
			if (hinting.unkicked)
				kick_hints();
			return false;
		}
		send_block();
		return true;
	case REPORT_STEP_SEND_SIGN:
		send_sign();
		return true;
	case REPORT_STEP_RELEASE:
		memory_put_all(PAGE_HINTED);
		report_driver_released(&report);
		balloon_counters.releases++;
		return true;
	case REPORT_STEP_NOTHING:
		break;
	}
	return false;
}

void balloon_take(uint64_t every, uint64_t most)
{
	hinting.every = every;
	hinting.most = most;
}

/* ------------------------------------------------- inflate, deflate --- */

static void send_frames(enum balloon_queue to)
{
	struct vring_segment segment = {
		(uintptr_t)adjust.frames,
		(uint32_t)(adjust.count * sizeof(adjust.frames[0])),
	};

	adjust.returned = false;
	adjust.state = to == BALLOON_INFLATE ? INFLATING : DEFLATING;
	vring_driver_add(&queue[to].ring, &segment, 1, 0, 0);
	virtio_kick(&device, &queue[to]);
}

static bool inflate(uint64_t most)
{
	uint64_t page;

	if (adjust.starved && !timer_due(&retry_timer, RETRY_MICROSECONDS))
		return false;
	adjust.count = 0;
	while (adjust.count < most &&
	       (page = memory_take_page(PAGE_BALLOON)) != 0)
		adjust.frames[adjust.count++] = le32_make((uint32_t)page);
	adjust.starved = !adjust.count;
	if (adjust.starved)
		return false;
	send_frames(BALLOON_INFLATE);
	return true;
}

static bool deflate(uint64_t most)
{
	uint64_t page;

	if (!memory_count(PAGE_BALLOON))
		return false;
	for (adjust.count = 0; adjust.count < most; adjust.count++) {
		page = memory_next(adjust.cursor, PAGE_BALLOON);
		adjust.cursor = page < memory_end() ? page + 1 : 0;
		if (page == memory_end())
			break;
		adjust.frames[adjust.count] = le32_make((uint32_t)page);
	}
	if (adjust.count)
		send_frames(BALLOON_DEFLATE);
	return true; /* or begin at the bottom again */
}

static void finish_frames(void)
{
	uint32_t i;

	if (adjust.state == INFLATING) {
		adjust.actual += adjust.count;
		balloon_counters.inflated += adjust.count;
	} else {
		for (i = 0; i < adjust.count; i++)
			memory_put(le32_get(adjust.frames[i]), 1);
		adjust.actual -= adjust.count;
		balloon_counters.deflated += adjust.count;
	}
	adjust.state = SETTLED;
	virtio_config_write(&device,
			    offsetof(struct virtio_balloon_config, actual),
			    adjust.actual);
}

static bool adjust_step(void)
{
	int64_t difference;

	if (adjust.state != SETTLED) {
		if (adjust.returned)
			finish_frames();
		return adjust.returned;
	}
	difference = balloon_driver_adjust(adjust.target, adjust.actual);
	if (difference > 0)
		return inflate(difference < FRAMES ? (uint64_t)difference :
						     FRAMES);
	if (difference < 0)
		return deflate(-difference < FRAMES ? (uint64_t)-difference :
						      FRAMES);
	return false;
}

bool balloon_step(void)
{
	bool busy = false;

	if (absent)
		return false;
	reclaim();
	poll_config();
	if (queue[BALLOON_FREE_PAGE].notify)
		busy = report_step();
	return adjust_step() || busy;
}

/* ------------------------------------------------------------ words --- */

void balloon_say(void)
{
	const struct balloon_counters *c = &balloon_counters;

	if (absent)
		say("balloon none: %s", absent);
	say("balloon_inflate %lu", c->inflated);
	say("balloon_deflate %lu", c->deflated);
	say("target %u", adjust.target);
	say("actual %u", adjust.actual);
	say("cmd-id %u", report.config_id);
	say("reports %lu", c->reports);
	say("last-id %u", report.active_id);
	say("hints %lu", c->hints);
	say("hinted-pages %lu", c->hinted_pages);
	say("held-pages %lu", memory_count(PAGE_HINTED));
	say("taken %lu", c->taken);
	say("window %lu", c->window);
	say("signs %lu", c->signs);
	say("releases %lu", c->releases);
	say("isr-reads %lu", device.isr_reads);
	say("config-reads %lu", device.config_reads);
	say("kicks %lu", device.kicks);
}

void balloon_say_device(void)
{
	char bits[65];
	int i;

	if (absent)
		return;
	for (i = 0; i < 64; i++)
		bits[i] = device.features >> i & 1 ? '1' : '0';
	bits[64] = '\0';
	say("virtio0 device 0x%4x driver bare features %s", VIRTIO_ID_BALLOON,
	    bits);
}
