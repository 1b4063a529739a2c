// SPDX-License-Identifier: MIT
/*
 * The guest's balloon, its statistics and its free page reporting, one buffer
 * of each at a time.
 *
 * Pages are not used from the moment they are added to the inflate queue until
 * the host has seen them go, and after a deflate not before the host has said
 * so (MUST_TELL_HOST) or, without, at once (D10 to D13).
 *
 * A buffer holds frame numbers, or the pages themselves where F_PAGE_RANGES was
 * negotiated; the driver keeps the numbers in its memory in either case.
 */
#include "sim.h"

#include "balloon/page_ranges.h"
#include "base/endian.h"

#define FRAMES_AT 2560u /* in the page of the rings */
#define STATISTICS_AT 2816u
#define STATISTICS_BYTES 20u

#define CONFIG_AT(field) offsetof(struct virtio_balloon_config, field)

static uint64_t own_address(unsigned int at)
{
	return FRAME_RINGS * GUEST_PAGE_SIZE + at;
}

static bool has(unsigned int feature)
{
	return world.guest.features >> feature & 1;
}

/* -------------------------------------------------------------- balloon --- */

void adjust_boot(void)
{
	struct guest *guest = &world.guest;

	guest->adjust = (struct adjust){ .awake = true };
	guest->reporting = false;
	if (has(VIRTIO_BALLOON_F_STATS_VQ))
		statistics_fill();
}

static unsigned int frame_number(unsigned int i)
{
	const uint8_t *frames = (uint8_t *)frame_at(world.here, FRAME_RINGS) +
				FRAMES_AT;

	return le32_load(frames + 4 * i);
}

/* The pages of the buffer as runs. Return: how many */
static unsigned int ranges_of(const struct adjust *adjust,
			      struct vring_segment *segment)
{
	unsigned int i, runs = 0;
	uint64_t address;

	for (i = 0; i < adjust->count; i++) {
		address = (uint64_t)frame_number(i) << GUEST_PAGE_SHIFT;
		if (runs && segment[runs - 1].address +
				    segment[runs - 1].length == address)
			segment[runs - 1].length += GUEST_PAGE_SIZE;
		else
			segment[runs++] = (struct vring_segment){
				address, GUEST_PAGE_SIZE
			};
	}
	return runs;
}

static void send_frames(enum balloon_queue to)
{
	struct adjust *adjust = &world.guest.adjust;
	struct vring_segment segment[FRAMES_MAX] = {
		{ own_address(FRAMES_AT), 4 * adjust->count }
	};
	bool ranges = has(BALLOON_F_PAGE_RANGES);
	unsigned int runs = 0;

	if (ranges) {
		runs = ranges_of(adjust, segment);
		tally.ranges += runs;
		tally.range_pages += adjust->count;
	}
	adjust->moves = world.guest.moves;
	if (vring_driver_add(&world.guest.ring[to], segment, !ranges, runs,
			     0) < 0)
		fail("sim", "a buffer of %u ranges finds no room", runs);
	driver_kick(to);
}

/* As many as the ring has room for, be each of them a range of its own. */
static int64_t frames_at_most(enum balloon_queue to, int64_t most)
{
	int64_t room = FRAMES_MAX;

	if (has(BALLOON_F_PAGE_RANGES) && world.guest.ring[to].size < room)
		room = world.guest.ring[to].size;
	return most < room ? most : room;
}

/* Pages of one state into the buffer, as pages of another. */
static void gather(enum page_state from, enum page_state to, int64_t most)
{
	struct adjust *adjust = &world.guest.adjust;
	uint8_t *frames = guest_own(FRAME_RINGS, FRAMES_AT);
	int frame;

	for (adjust->count = 0; adjust->count < most; adjust->count++) {
		frame = guest_any(from);
		if (frame < 0)
			break;
		guest_set_state(frame, to);
		le32_store(frames + 4 * adjust->count, frame);
	}
}

static void inflate(int64_t most)
{
	struct adjust *adjust = &world.guest.adjust;

	gather(PAGE_FREE, PAGE_INFLATING,
	       frames_at_most(BALLOON_INFLATE, most));
	adjust->starved = !adjust->count;
	if (adjust->starved)
		return;
	trace("driver: inflates %u", adjust->count);
	adjust->state = INFLATING;
	send_frames(BALLOON_INFLATE);
}

static void deflate(int64_t most)
{
	struct adjust *adjust = &world.guest.adjust;

	gather(PAGE_BALLOON, PAGE_DEFLATING,
	       frames_at_most(BALLOON_DEFLATE, most));
	trace("driver: deflates %u", adjust->count);
	adjust->state = DEFLATING;
	send_frames(BALLOON_DEFLATE);
	if (!has(VIRTIO_BALLOON_F_MUST_TELL_HOST))
		guest_give_back(PAGE_DEFLATING);
}

/* Does it wait for the rest of its block (R25)? It reads as it did then. */
static bool waits(unsigned int frame)
{
	return has(VIRTIO_BALLOON_F_MUST_TELL_HOST) &&
	       page_set_contains(&world.here->balloon.hold.held, frame);
}

/* Of what was discarded nothing is left before its buffer is used (R24), unless
 * the guest has moved since its @moves-th move: what waits for the rest of its
 * block moves with its content, and no longer waits there. And but for numbers
 * of pages that it may not use before it has told: those may still be about to be
 * discarded. */
static void check_discarded(unsigned int frame, unsigned int moves)
{
	if (world.setup.discards_fail || moves != world.guest.moves ||
	    (has(VIRTIO_BALLOON_F_MUST_TELL_HOST) &&
	     !has(BALLOON_F_PAGE_RANGES)))
		return;
	if (!page_filled(frame_at(world.here, frame), 0))
		fail("discard", "page %u came back before it was discarded",
		     frame);
}

static void finish_frames(void)
{
	struct adjust *adjust = &world.guest.adjust;
	unsigned int i, frame;

	for (i = 0; i < adjust->count && adjust->state == INFLATING; i++) {
		frame = frame_number(i);
		guest_set_state(frame, PAGE_BALLOON);
		if (!waits(frame))
			check_discarded(frame, adjust->moves);
	}
	if (adjust->state == INFLATING) {
		adjust->actual += adjust->count;
	} else {
		guest_give_back(PAGE_DEFLATING);
		adjust->actual -= adjust->count;
	}
	adjust->state = SETTLED;
	driver_write(CONFIG_AT(actual), adjust->actual);
}

/* Sleeps until a used buffer interrupts, if there is none. */
static bool frames_came_back(void)
{
	struct adjust *adjust = &world.guest.adjust;
	struct vring_driver *ring =
		&world.guest.ring[adjust->state == INFLATING ? BALLOON_INFLATE :
							       BALLOON_DEFLATE];
	uint64_t token;

	host_wrote(world.here, FRAME_RINGS);
	if (vring_driver_take_used(ring, &token, NULL))
		return true;
	if (!vring_driver_enable_interrupts(ring))
		adjust->awake = false;
	return false;
}

bool adjust_can_step(void)
{
	return world.guest.driver == DRIVER_OK && world.guest.adjust.awake;
}

void adjust_step(void)
{
	struct adjust *adjust = &world.guest.adjust;
	int64_t difference;

	if (adjust->state != SETTLED) {
		if (frames_came_back())
			finish_frames();
		return;
	}
	difference = balloon_driver_adjust(adjust->target, adjust->actual);
	if (difference > 0)
		inflate(difference);
	else if (difference < 0)
		deflate(-difference);
	/* An interrupt wakes it, a new target, or a page that is freed. */
	if (adjust->state == SETTLED)
		adjust->awake = false;
}

/* ----------------------------------------------------------- statistics --- */

/* The one buffer is here: fill it again and hand it over. */
void statistics_fill(void)
{
	struct guest *guest = &world.guest;
	struct vring_driver *ring = &guest->ring[BALLOON_STATS];
	struct vring_segment segment = { own_address(STATISTICS_AT),
					 STATISTICS_BYTES };
	uint8_t *at = guest_own(FRAME_RINGS, STATISTICS_AT);
	uint64_t token;

	if (!ring->size)
		return;
	if (ring->free < ring->size &&
	    !vring_driver_take_used(ring, &token, NULL))
		return;
	guest->stats_value++;
	le16_store(at, BALLOON_STAT_FREE);
	le64_store(at + 2, guest->stats_value);
	le16_store(at + 10, BALLOON_STAT_TOTAL);
	le64_store(at + 12, RAM_PAGES);
	vring_driver_add(ring, &segment, 1, 0, 0);
	vring_driver_enable_interrupts(ring);
	driver_kick(BALLOON_STATS);
}

/* ------------------------------------------------------------ reporting --- */

/* Free pages, isolated until the host has discarded them (D39). */
void reporting_send(void)
{
	struct guest *guest = &world.guest;
	struct vring_segment segment;
	int frame = guest_any(PAGE_FREE);
	unsigned int i, count = 1 + draw(4);

	if (guest->driver != DRIVER_OK || frame < 0 || guest->reporting ||
	    !guest->ring[BALLOON_REPORTING].size)
		return;
	for (i = 0; i < count; i++) {
		if (!is_ram(frame + i) || !guest->page[frame + i].usable ||
		    guest->page[frame + i].state != PAGE_FREE)
			break;
		guest_set_state(frame + i, PAGE_REPORTING);
	}
	guest->reported = (struct page_run){ frame, i };
	guest->reported_moves = guest->moves;
	guest->reporting = true;
	segment = (struct vring_segment){ (uint64_t)frame << GUEST_PAGE_SHIFT,
					  i << GUEST_PAGE_SHIFT };
	vring_driver_add(&guest->ring[BALLOON_REPORTING], &segment, 0, 1, 0);
	vring_driver_enable_interrupts(&guest->ring[BALLOON_REPORTING]);
	driver_kick(BALLOON_REPORTING);
	trace("driver: reports %d+%u", frame, i);
}

void reporting_reap(void)
{
	struct guest *guest = &world.guest;
	struct page_run run = guest->reported;
	uint64_t token;
	uint64_t i;

	if (!guest->reporting)
		return;
	host_wrote(world.here, FRAME_RINGS);
	if (!vring_driver_take_used(&guest->ring[BALLOON_REPORTING], &token,
				    NULL))
		return;
	for (i = run.first; i < run.first + run.count; i++) {
		check_discarded(i, guest->reported_moves);
		guest_set_state(i, PAGE_FREE);
		guest->page[i].discarded = true;
	}
	guest->reporting = false;
}
