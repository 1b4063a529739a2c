// SPDX-License-Identifier: MIT
/*
 * The free page report (VIRTIO 1.3 section 5.5.6.6), of any protocol: they
 * differ in how a request comes and in who decides, not in what is sent; but
 * for the end of v17's, which is written to the configuration space.
 *
 * Taking blocks back. VIRTIO 1.3 section 5.5.6.6.1 lets a driver use a page
 * again as soon as it has made it available. A device may leave the page out
 * only as it was when the id was published, so a write that comes after the
 * hint must not get lost, least of all one that comes before the device has
 * looked at the hint. This driver does just that to some blocks, once, and
 * several hints wait for one kick, so that there is such a time.
 */
#include "balloon_internal.h"

#include <stddef.h>

#include "balloon/v17_driver.h"
#include "base/endian.h"
#include "clock.h"
#include "memory.h"
#include "pattern.h"
#include "serial.h"

#define HINTS_PER_KICK 16
#define PAGES_PER_STEP 256 /* written of a block */
#define TAKEN_SEED 0x7a6b5c4d00000000ull
#define SPIN_MICROSECONDS 500
#define TOKEN_COMMAND 0 /* that of a hint is its first page */

static struct report_driver standard;
static struct command_driver commands;
static struct v17_driver v17;

static struct {
	uint64_t blocks;	 /* hinted in this report */
	uint64_t taken;		 /* of these */
	unsigned int unkicked;
	struct run_cursor cursor;
	uint64_t taking, next;	 /* block being written and page in it; or 0 */
	bool taking_used;	 /* its hint came back */
	uint64_t every, most;
	/* Microseconds: of this report, and what those before it took. */
	uint64_t began, last_return, last_kick, before;
} hinting;

/* Each command has its own word while it is on the way: there are as many as
 * the ring can hold. */
static __le32 command_words[QUEUE_SIZE];
static unsigned int next_command;

/* ------------------------------------------- the protocol's decisions --- */

void report_init(void)
{
	report_driver_init(&standard);
	command_driver_init(&commands);
	v17_driver_init(&v17);
}

void report_config(uint32_t command_id)
{
	report_driver_config(&standard, command_id);
}

struct command_driver *report_commands(void)
{
	return &commands;
}

struct v17_driver *report_v17(void)
{
	return &v17;
}

static enum report_step next_standard(unsigned int room, uint32_t *id)
{
	enum report_step step;

	/* A decision counts as carried out, so there must be room for it, and
	 * the last place is the sign's (R23). */
	if (!room)
		return REPORT_STEP_NOTHING;
	step = report_driver_next(&standard, id);
	return step == REPORT_STEP_SEND_BLOCK && room < 2 ?
		       REPORT_STEP_NOTHING : step;
}

static __le32 *new_word(uint32_t id)
{
	__le32 *word = &command_words[next_command++ % QUEUE_SIZE];

	le32_store(word, id);
	return word;
}

/* The word to send is stored, if there is one. */
static enum report_step next_step(unsigned int room, __le32 **word)
{
	enum report_step step = REPORT_STEP_NOTHING;
	uint32_t id = VIRTIO_BALLOON_CMD_ID_STOP;

	switch (balloon_driver.protocol) {
	case PROTOCOL_STANDARD:
		step = next_standard(room, &id);
		if (step == REPORT_STEP_SEND_ID ||
		    step == REPORT_STEP_SEND_SIGN)
			*word = new_word(id);
		break;
	case PROTOCOL_COMMAND_REGISTER:
		step = command_driver_next(&commands, room);
		*word = step == REPORT_STEP_SEND_ID ? &commands.id_word :
						      &commands.sign_word;
		break;
	case PROTOCOL_V17:
		step = v17_driver_next(&v17, room, &id);
		if (step == REPORT_STEP_SEND_ID)
			*word = new_word(id);
		break;
	}
	return step;
}

static void no_more_blocks(void)
{
	switch (balloon_driver.protocol) {
	case PROTOCOL_STANDARD:
		report_driver_exhausted(&standard);
		break;
	case PROTOCOL_COMMAND_REGISTER:
		command_driver_exhausted(&commands);
		break;
	case PROTOCOL_V17:
		v17_driver_exhausted(&v17);
		break;
	}
}

static void release_blocks(void)
{
	memory_put_all(PAGE_HINTED);
	switch (balloon_driver.protocol) {
	case PROTOCOL_STANDARD:
		report_driver_released(&standard);
		break;
	case PROTOCOL_COMMAND_REGISTER:
		command_driver_released(&commands);
		break;
	case PROTOCOL_V17:
		v17_driver_released(&v17);
		break;
	}
	balloon_counters.releases++;
}

/* ----------------------------------------------------------- sending --- */

static void reclaim(void)
{
	uint64_t token;

	while (balloon_take_used(BALLOON_FREE_PAGE, &token)) {
		if (token == TOKEN_COMMAND)
			continue;
		balloon_counters.returned++;
		hinting.last_return = clock_microseconds();
		if (token == hinting.taking)
			hinting.taking_used = true;
	}
}

static void kick(void)
{
	hinting.unkicked = 0;
	hinting.last_kick = clock_microseconds();
	virtio_kick(&balloon_driver.device,
		    &balloon_driver.queue[BALLOON_FREE_PAGE]);
}

static void send_word(__le32 *word)
{
	struct vring_segment segment = { (uintptr_t)word, sizeof(*word) };

	vring_driver_add(&balloon_driver.queue[BALLOON_FREE_PAGE].ring,
			 &segment, 1, 0, TOKEN_COMMAND);
	kick();
}

static void send_sign(__le32 *word)
{
	balloon_counters.signs++;
	if (balloon_driver.protocol != PROTOCOL_V17) {
		send_word(word);
		return;
	}
	kick();
	virtio_config_write(&balloon_driver.device, BALLOON_V17_GUEST2HOST_CMD,
			    BALLOON_V17_REPORT_STOP);
}

static void begin_report(__le32 *word)
{
	hinting.blocks = 0;
	hinting.taken = 0;
	hinting.cursor = (struct run_cursor){ 0, 0 };
	hinting.before += hinting.last_return - hinting.began;
	hinting.began = hinting.last_return = clock_microseconds();
	balloon_counters.reports++;
	send_word(word);
}

static bool shall_take(void)
{
	return hinting.every && hinting.blocks % hinting.every == 0 &&
	       (!hinting.most || hinting.taken < hinting.most);
}

static void note_hint(void)
{
	if (++hinting.unkicked >= HINTS_PER_KICK)
		kick();
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
	reclaim();
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
		no_more_blocks();
		return;
	}
	segment.address = page << PAGE_SHIFT;
	segment.length = (uint32_t)(pages << PAGE_SHIFT);
	vring_driver_add(&balloon_driver.queue[BALLOON_FREE_PAGE].ring,
			 &segment, 0, 1, page);
	balloon_counters.hints++;
	balloon_counters.hinted_pages += pages;
	if (pages == BLOCK_PAGES && (hinting.blocks++, shall_take()))
		begin_taking(page);
	else
		note_hint();
}

/* For as long as it takes a device that is at it. A sleep here would be the
 * greater part of a report. */
static bool waits_for_device(void)
{
	const struct vring_driver *ring =
		&balloon_driver.queue[BALLOON_FREE_PAGE].ring;
	uint64_t now;

	if (ring->free == ring->size)
		return false;
	now = clock_microseconds();
	return now - hinting.last_return < SPIN_MICROSECONDS ||
	       now - hinting.last_kick < SPIN_MICROSECONDS;
}

bool report_step(void)
{
	__le32 *word = NULL;

	if (!balloon_has_queue(BALLOON_FREE_PAGE))
		return false;
	reclaim();
	if (hinting.taking) {
		go_on_taking();
		return true;
	}
	switch (next_step(balloon_driver.queue[BALLOON_FREE_PAGE].ring.free,
			  &word)) {
	case REPORT_STEP_SEND_ID:
		begin_report(word);
		return true;
	case REPORT_STEP_SEND_BLOCK:
		send_block();
		return true;
	case REPORT_STEP_SEND_SIGN:
		send_sign(word);
		return true;
	case REPORT_STEP_RELEASE:
		release_blocks();
		return true;
	case REPORT_STEP_NOTHING:
		if (hinting.unkicked)
			kick(); /* room comes when the device looks */
		return waits_for_device();
	}
	return false;
}

void balloon_take(uint64_t every, uint64_t most)
{
	hinting.every = every;
	hinting.most = most;
}

void report_count(void)
{
	const struct balloon_counters *c = &balloon_counters;
	const uint32_t heard[] = { standard.config_id, commands.cmd_id,
				   v17.cmd_id };
	const uint32_t active[] = { standard.active_id, commands.active_id,
				    v17.active_id };

	balloon_count("cmd-id", heard[balloon_driver.protocol]);
	balloon_count("reports", c->reports);
	balloon_count("last-id", active[balloon_driver.protocol]);
	balloon_count("hints", c->hints);
	balloon_count("hinted-pages", c->hinted_pages);
	balloon_count("hints-returned", c->returned);
	/* From an id's way out to its last hint's way back. */
	balloon_count("report-us",
		      hinting.before + hinting.last_return - hinting.began);
	balloon_count("held-pages", memory_count(PAGE_HINTED));
	balloon_count("taken", c->taken);
	balloon_count("window", c->window);
	balloon_count("signs", c->signs);
	balloon_count("releases", c->releases);
}
