// SPDX-License-Identifier: MIT
/*
 * The worker of the free page report, of any protocol, as the bare guest has
 * it: the driver half decides, this sends. It sleeps when there is nothing to
 * do, until the handler has run or a buffer came back.
 */
#include "sim.h"

#include "base/endian.h"

#define COMMANDS_AT 1024u
#define WORDS_AT 2048u /* of the standard driver, one a slot of the ring */

static struct vring_driver *ring(void)
{
	return &world.guest.ring[BALLOON_FREE_PAGE];
}

static uint64_t own_address(unsigned int at)
{
	return FRAME_REPORT * GUEST_PAGE_SIZE + at;
}

void worker_boot(void)
{
	struct guest *guest = &world.guest;

	report_driver_init(&guest->standard);
	command_driver_init(driver_commands());
	v17_driver_init(&guest->v17_driver);
	guest->awake = true;
	guest->open = guest->stopped = guest->sign_alone = false;
	guest->done_handled = false;
	guest->unkicked = guest->words = 0;
	guest->taken = 0;
	guest->ids = guest->signs = guest->starts = 0;
	guest->seen_cmd_id = 0;
}

void worker_leave(void)
{
	guest_give_back(PAGE_HELD);
}

static void kick(void)
{
	world.guest.unkicked = 0;
	driver_kick(BALLOON_FREE_PAGE);
}

/* ------------------------------------------------------------ decisions --- */

static enum report_step next_standard(unsigned int room, uint32_t *id)
{
	enum report_step step;

	/* A decision counts as carried out, so there must be room for it, and
	 * the last place is the sign's (R23). */
	if (!room)
		return REPORT_STEP_NOTHING;
	step = report_driver_next(&world.guest.standard, id);
	return step == REPORT_STEP_SEND_BLOCK && room < 2 ?
		       REPORT_STEP_NOTHING : step;
}

static enum report_step next_step(unsigned int room, uint32_t *id)
{
	struct command_driver *driver;
	enum report_step step;

	*id = VIRTIO_BALLOON_CMD_ID_STOP;
	if (world.guest.v17)
		return v17_driver_next(&world.guest.v17_driver, room, id);
	if (!world.guest.commands)
		return next_standard(room, id);
	driver = driver_commands();
	if (fault(FAULT_WORKER_CLEARS_STOP) && driver->start && !driver->open)
		driver->stop = false;
	step = command_driver_next(driver, room);
	if (step == REPORT_STEP_SEND_ID)
		*id = driver->active_id;
	return step;
}

static void no_more_blocks(void)
{
	if (world.guest.commands)
		command_driver_exhausted(driver_commands());
	else if (world.guest.v17)
		v17_driver_exhausted(&world.guest.v17_driver);
	else
		report_driver_exhausted(&world.guest.standard);
}

/* -------------------------------------------------------------- sending --- */

static void note_sent(struct sent sent)
{
	world.guest.sent[(uint16_t)(ring()->next_avail - 1) % SENT_MAX] = sent;
}

static void send(uint64_t address, uint32_t length, bool readable)
{
	struct vring_segment segment = { address, length };

	host_wrote(world.here, FRAME_REPORT);
	if (vring_driver_add(ring(), &segment, readable, !readable, 0) < 0)
		fail("room", "no slot for what the driver sends");
}

/* Where the word lies that the device will read. */
static unsigned int word_at(bool sign)
{
	struct command_driver *driver = driver_commands();
	bool shared = fault(FAULT_ONE_BUFFER);

	if (!world.guest.commands)
		return WORDS_AT + 4 * (world.guest.words++ % RING_MAX);
	if (sign && shared)
		driver->id_word = driver->sign_word;
	return COMMANDS_AT + (sign && !shared ?
			      offsetof(struct command_driver, sign_word) :
			      offsetof(struct command_driver, id_word));
}

static void send_word(uint32_t id)
{
	bool sign = id == VIRTIO_BALLOON_CMD_ID_STOP;
	unsigned int at = word_at(sign);

	if (!world.guest.commands)
		le32_store(guest_own(FRAME_REPORT, at), id);
	send(own_address(at), 4, true);
	note_sent((struct sent){ .kind = sign ? SENT_SIGN : SENT_ID,
				 .id = id });
	trace("driver: sends %s %#x", sign ? "sign" : "id", id);
	kick();
}

static void send_id(uint32_t id)
{
	struct guest *guest = &world.guest;

	/* With v17 the next START ends a report, too (W-13). */
	if (guest->open && !guest->v17)
		fail("sign", "id %#x while another report is open", id);
	if (guest->sign_alone)
		fail("stop", "id %#x although its STOP came with START", id);
	if (guest->v17)
		guest->stopped = false;
	guest->done_handled = false;
	guest->open = true;
	guest->current = id;
	guest->ids++;
	send_word(id);
}

static void send_sign(void)
{
	struct guest *guest = &world.guest;

	guest->open = false;
	guest->signs++;
	tally.signs++;
	if (fault(FAULT_SIGN_FORGOTTEN))
		return;
	if (!guest->v17) {
		send_word(VIRTIO_BALLOON_CMD_ID_STOP);
		return;
	}
	kick();
	driver_v17_stop();
}

/* A run of free pages around a free one. */
static bool free_run(struct page_run *run)
{
	unsigned int most = 1 + draw(4);
	int frame = guest_any(PAGE_FREE);

	if (frame < 0)
		return false;
	*run = (struct page_run){ frame, 1 };
	while (run->count < most && is_ram(frame + run->count) &&
	       world.guest.page[frame + run->count].usable &&
	       world.guest.page[frame + run->count].state == PAGE_FREE)
		run->count++;
	return true;
}

static void send_block(void)
{
	struct guest *guest = &world.guest;
	struct page_run run;
	uint64_t frame;

	if (guest->stopped)
		fail("stop", "a block behind STOP or DONE");
	if (!free_run(&run)) {
		no_more_blocks();
		return;
	}
	for (frame = run.first; frame < run.first + run.count; frame++) {
		guest_set_state(frame, PAGE_HELD);
		guest->page[frame].queued = true;
		guest->page[frame].discarded = false;
		if (world.setup.zeroes)
			guest_write(frame, 0);
	}
	send(run.first << GUEST_PAGE_SHIFT, run.count << GUEST_PAGE_SHIFT,
	     false);
	if (!ring()->free && !guest->v17)
		fail("room", "no slot is left for the sign");
	note_sent((struct sent){ .kind = SENT_BLOCK, .run = run });
	trace("driver: hands over %llu+%llu", (unsigned long long)run.first,
	      (unsigned long long)run.count);
	if (++guest->unkicked >= world.setup.batch)
		kick();
}

static void release(void)
{
	struct guest *guest = &world.guest;

	trace("driver: takes back all it holds");
	if (guest->commands && !guest->done_handled)
		fail("DONE", "blocks are taken back unasked");
	if (guest->commands && guest->open)
		fail("DONE", "blocks are taken back before the sign (G-7)");
	if (guest->v17 && guest->open && !guest->v17_driver.start)
		fail("DONE", "blocks are taken back before STOP");
	guest->done_handled = false;
	guest_give_back(PAGE_HELD);
	if (guest->commands)
		command_driver_released(driver_commands());
	else if (guest->v17)
		v17_driver_released(&guest->v17_driver);
	else
		report_driver_released(&guest->standard);
}

/* --------------------------------------------------------------- worker --- */

static void sleep_if_idle(void)
{
	kick();
	if (!vring_driver_enable_interrupts(ring()))
		world.guest.awake = false;
}

bool worker_can_step(void)
{
	return world.guest.driver == DRIVER_OK && world.guest.awake;
}

void worker_step(void)
{
	uint64_t token;
	uint32_t id;

	if (!ring()->size) {
		world.guest.awake = false;
		return;
	}
	host_wrote(world.here, FRAME_REPORT);
	while (vring_driver_take_used(ring(), &token, NULL))
		;
	switch (next_step(ring()->free, &id)) {
	case REPORT_STEP_SEND_ID:
		send_id(id);
		break;
	case REPORT_STEP_SEND_BLOCK:
		send_block();
		break;
	case REPORT_STEP_SEND_SIGN:
		send_sign();
		break;
	case REPORT_STEP_RELEASE:
		release();
		break;
	case REPORT_STEP_NOTHING:
		sleep_if_idle();
		break;
	}
}
