// SPDX-License-Identifier: MIT
/*
 * The guest's memory. A page that is live is filled with a number, its version;
 * version 0 is a page of zeroes. Of all others the content does not matter.
 */
#include "sim.h"

static uint64_t word_of(uint32_t version)
{
	return version * 0x9e3779b97f4a7c15ull;
}

void guest_fill(struct host *host, unsigned int frame, uint32_t version)
{
	uint64_t *at = frame_at(host, frame), word = word_of(version);
	unsigned int i;

	frames_add(&host->exists, frame);
	for (i = 0; i < GUEST_PAGE_SIZE / sizeof(word); i++)
		at[i] = word;
}

bool page_filled(const void *page, uint32_t version)
{
	uint64_t word = word_of(version), differs = 0;
	const uint64_t *at = page;
	unsigned int i;

	for (i = 0; i < GUEST_PAGE_SIZE / sizeof(word); i++)
		differs |= at[i] ^ word;
	return !differs;
}

void guest_write(unsigned int frame, uint32_t version)
{
	guest_fill(world.here, frame, version);
	host_wrote(world.here, frame);
	world.guest.page[frame].version = version;
	world.guest.page[frame].discarded = false;
}

void guest_lost(struct page_run run)
{
	uint64_t frame;

	for (frame = run.first; frame < run.first + run.count; frame++)
		switch (world.guest.page[frame].state) {
		case PAGE_INFLATING:
		case PAGE_BALLOON:
		case PAGE_DEFLATING:
			world.guest.page[frame].discarded = true;
		}
}

void *guest_own(unsigned int frame, unsigned int at)
{
	host_wrote(world.here, frame);
	return (uint8_t *)frame_at(world.here, frame) + at;
}

void guest_set_state(unsigned int frame, enum page_state state)
{
	struct guest *guest = &world.guest;

	guest->in_state[guest->page[frame].state]--;
	guest->page[frame].state = state;
	guest->in_state[state]++;
	if (state == PAGE_FREE && guest->adjust.starved)
		guest->adjust.awake = true;
}

int guest_any(enum page_state state)
{
	struct guest *guest = &world.guest;
	unsigned int i, at;

	if (!guest->in_state[state])
		return -1;
	at = draw(guest->usables);
	for (i = 0; i < guest->usables; i++, at++) {
		if (at >= guest->usables)
			at -= guest->usables;
		if (guest->page[guest->usable[at]].state == state)
			return (int)guest->usable[at];
	}
	return -1;
}

void guest_give_back(enum page_state from)
{
	struct guest *guest = &world.guest;
	unsigned int i;

	for (i = 0; i < guest->usables && guest->in_state[from]; i++)
		if (guest->page[guest->usable[i]].state == from)
			guest_set_state(guest->usable[i], PAGE_FREE);
}

void guest_boot(void)
{
	struct guest *guest = &world.guest;
	unsigned int i;

	memset(guest->in_state, 0, sizeof(guest->in_state));
	for (i = 0; i < guest->usables; i++) {
		unsigned int frame = guest->usable[i];

		guest->page[frame].state = PAGE_FREE;
		guest->page[frame].queued = false;
		guest->page[frame].discarded = false;
		/* Some were used and freed again while it booted. */
		if (draw(4) < world.setup.dirtied) {
			host_wrote(world.here, frame);
			*(uint64_t *)frame_at(world.here, frame) = UINT64_MAX;
		}
	}
	guest->in_state[PAGE_FREE] = guest->usables;
	/* The driver begins when the CPUs run. */
	guest->driver = DRIVER_RESETTING;
}

/* ----------------------------------------------------------- allocator --- */

/* What the host has discarded and given back reads as zero; from the moment it
 * was read it has to stay so. A read makes the page exist and is not logged. */
static bool use_as_it_is(unsigned int frame)
{
	struct guest_page *page = &world.guest.page[frame];

	if (!page->discarded || !draw(2) ||
	    !page_filled(frame_at(world.here, frame), 0))
		return false;
	frames_add(&world.here->exists, frame);
	page->discarded = false;
	page->version = 0;
	guest_set_state(frame, PAGE_LIVE);
	tally.read++;
	trace("guest: uses %d as it is", frame);
	return true;
}

static void use(enum page_state from)
{
	struct guest *guest = &world.guest;
	int frame = guest_any(from);

	if (frame < 0 || guest->in_state[PAGE_LIVE] >= guest->live_most)
		return;
	if (from == PAGE_FREE && use_as_it_is(frame))
		return;
	guest_set_state(frame, PAGE_LIVE);
	guest_write(frame, chance(8) ? 0 : ++guest->last_version);
	if (from == PAGE_HELD) {
		tally.taken++;
		tally.window += guest->page[frame].queued;
		trace("guest: takes %d back%s, version %u", frame,
		      guest->page[frame].queued ? " in the window" : "",
		      guest->page[frame].version);
		return;
	}
	trace("guest: uses %d, version %u", frame, guest->page[frame].version);
}

static void write_again(void)
{
	int frame = guest_any(PAGE_LIVE);

	if (frame < 0)
		return;
	guest_write(frame, chance(8) ? 0 : ++world.guest.last_version);
	trace("guest: writes %d, version %u", frame,
	      world.guest.page[frame].version);
}

static void let_go(void)
{
	int frame = guest_any(PAGE_LIVE);

	if (frame < 0)
		return;
	guest_set_state(frame, PAGE_FREE);
	trace("guest: frees %d", frame);
}

void guest_allocator(void)
{
	unsigned int die = draw(256);

	if (die < world.setup.taking)
		use(PAGE_HELD);
	else if (die < 130)
		use(PAGE_FREE);
	else if (die < 180)
		write_again();
	else if (die < 245)
		let_go();
	else if (die < 254)
		reporting_send();
	else if (chance(8))
		driver_reset();
}
