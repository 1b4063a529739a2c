// SPDX-License-Identifier: MIT
/*
 * What a driver must not do, to see that the machine goes on. Pages that a
 * device must leave alone all the same are kept with content (PAGE_DEFLATED),
 * so that "check" looks at them.
 */
#include "balloon_internal.h"

#include <stddef.h>

#include "balloon/command_register.h"
#include "base/endian.h"
#include "clock.h"
#include "machine.h"
#include "memory.h"
#include "pattern.h"
#include "serial.h"
#include "workload.h"

#define PENDING_MICROSECONDS 2000000
#define ROGUE_ID 0xdeadbeef
#define HOLE_FRAME 0xc0000 /* at 3 GiB */
#define APIC_FRAME 0xfee00
#define LAST_FRAME 0xffffffff

/* They stay in the ring for a while. */
static __le32 rogue_id, rogue_sign, rogue_frames[4];
static struct virtio_balloon_stat rogue_statistics;

/* Return: NULL, or why not */
static const char *send(enum balloon_queue to,
			const struct vring_segment *segment, uint16_t readable,
			uint16_t writable)
{
	struct virtio_queue *queue = &balloon_driver.queue[to];

	if (!balloon_has_queue(to))
		return "the queue is not negotiated";
	if (vring_driver_add(&queue->ring, segment, readable, writable,
			     TOKEN_ROGUE) < 0)
		return "the ring is full";
	virtio_kick(&balloon_driver.device, queue);
	return NULL;
}

/* Taken at the first need: in the middle of a report no page is free. */
static uint64_t own_page, own_block;

static void fill(uint64_t page)
{
	memory_retag(page, 1, PAGE_DEFLATED);
	pattern_fill(DEFLATED_SEED, page);
}

static bool take_page(void)
{
	if (own_page)
		return true;
	own_page = memory_take_page(PAGE_TRANSIENT);
	if (own_page)
		fill(own_page);
	return own_page;
}

/* Its page 1 has no content: it is the one that may be given back. */
static bool take_block(void)
{
	if (own_block)
		return true;
	own_block = memory_take_block(PAGE_REPORTED);
	if (!own_block)
		return false;
	fill(own_block);
	fill(own_block + 2);
	fill(own_block + 3);
	memory_put(own_block + 4, BLOCK_PAGES - 4);
	return true;
}

/* D16: the device has one already. */
static const char *second_statistics(void)
{
	struct vring_segment segment = { (uintptr_t)&rogue_statistics,
					 sizeof(rogue_statistics) };

	le16_store(&rogue_statistics.tag, VIRTIO_BALLOON_S_MEMFREE);
	le64_store(&rogue_statistics.val, 1);
	return send(BALLOON_STATS, &segment, 1, 0);
}

/* D24: neither a command nor a hint. */
static const char *id_and_page(void)
{
	struct vring_segment segment[2] = {
		{ (uintptr_t)&rogue_id, sizeof(rogue_id) },
	};

	if (!take_page())
		return "out of memory";
	le32_store(&rogue_id, ROGUE_ID);
	segment[1].address = own_page << PAGE_SHIFT;
	segment[1].length = PAGE_SIZE;
	return send(BALLOON_FREE_PAGE, segment, 1, 1);
}

static const char *wrong_id(void)
{
	struct vring_segment segment = { (uintptr_t)&rogue_id,
					 sizeof(rogue_id) };

	le32_store(&rogue_id, ROGUE_ID);
	return send(BALLOON_FREE_PAGE, &segment, 1, 0);
}

static const char *sign_of_nothing(void)
{
	struct vring_segment segment = { (uintptr_t)&rogue_sign,
					 sizeof(rogue_sign) };

	le32_store(&rogue_sign, VIRTIO_BALLOON_CMD_ID_STOP);
	return send(BALLOON_FREE_PAGE, &segment, 1, 0);
}

/* Whole numbers, and an array that ends within one. */
static const char *frames_out_of_ram(void)
{
	struct vring_segment whole = { (uintptr_t)rogue_frames,
				       sizeof(rogue_frames) };
	struct vring_segment part = { (uintptr_t)rogue_frames, 6 };
	const char *error;

	le32_store(&rogue_frames[0], (uint32_t)memory_end() + 1);
	le32_store(&rogue_frames[1], HOLE_FRAME);
	le32_store(&rogue_frames[2], LAST_FRAME);
	le32_store(&rogue_frames[3], APIC_FRAME);
	error = send(BALLOON_INFLATE, &whole, 1, 0);
	if (!error)
		error = send(BALLOON_INFLATE, &part, 1, 0);
	if (!error)
		error = send(BALLOON_DEFLATE, &whole, 1, 0);
	return error;
}

/* Of the first segment one page is given in full, of the second none; the third
 * is no RAM. */
static const char *unaligned_report(void)
{
	struct vring_segment segment[3] = {
		{ 0, 2 * PAGE_SIZE + 1000 },
		{ 0, 2000 },
		{ UINT64_MAX - PAGE_SIZE, UINT32_MAX },
	};

	if (!take_block())
		return "out of memory";
	segment[0].address = (own_block << PAGE_SHIFT) + 100;
	segment[1].address = ((own_block + 3) << PAGE_SHIFT) + 100;
	return send(BALLOON_REPORTING, segment, 0, 3);
}

/* D36. */
static const char *late_poison(void)
{
	virtio_config_write(&balloon_driver.device,
			    offsetof(struct virtio_balloon_config, poison_val),
			    ~balloon_driver.poison);
	return NULL;
}

/* Return: what is pending, waited for a while: nobody acknowledges meanwhile */
static uint32_t pending_commands(uintptr_t cmd_reg)
{
	uint64_t until = clock_microseconds() + PENDING_MICROSECONDS;
	uint32_t bits;

	do
		bits = mmio_read32(cmd_reg);
	while (!bits && balloon_driver.protocol == PROTOCOL_COMMAND_REGISTER &&
	       clock_microseconds() < until);
	return bits;
}

/* D-2 of the command-register protocol. */
static const char *narrow_acknowledgements(void)
{
	uintptr_t at = balloon_driver.device.config + BALLOON_CMD_REG;
	uint32_t before = pending_commands(at), after;

	mmio_write8(at, 0xff);
	mmio_write8(at + 3, 0xff);
	mmio_write16(at, 0xffff);
	mmio_write16(at + 2, 0xffff);
	mmio_write16(at + 1, 0xffff);
	/* Bits that nobody asked for, and a register that is not ours. */
	mmio_write32(at, ~before);
	mmio_write32(at + 4, UINT32_MAX);
	after = mmio_read32(at);
	say("cmd_reg %x then %x", before, after);
	return before & ~after ? "that acknowledged something" : NULL;
}

static const char *(*const kinds[])(void) = {
	second_statistics, id_and_page,	     wrong_id,
	sign_of_nothing,   frames_out_of_ram, unaligned_report,
	late_poison,	   narrow_acknowledgements,
};

const char *balloon_rogue(uint64_t kind)
{
	if (!balloon_has_queue(BALLOON_INFLATE))
		return "there is no balloon";
	if (!kind || kind > sizeof(kinds) / sizeof(kinds[0]))
		return "kinds are 1 to 8";
	balloon_counters.rogue++;
	return kinds[kind - 1]();
}
