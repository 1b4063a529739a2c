// SPDX-License-Identifier: MIT
/*
 * The guest's driver: how it begins and ends, its interrupts and its handler,
 * one access to the device at a time. Decisions are those of the driver halves;
 * the faults of drivers are put in around them.
 */
#include "sim.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "base/endian.h"

#define RING_AT(queue) (512u + (queue) * 512u)
#define USED_BYTES(size) (6 + 8 * (size))
#define COMMANDS_AT 1024u /* the driver's state, behind the ring */

#define CONFIG_AT(field) offsetof(struct virtio_balloon_config, field)

static unsigned int ring_frame(enum balloon_queue queue)
{
	return queue == BALLOON_FREE_PAGE ? FRAME_REPORT : FRAME_RINGS;
}

/* Queue 3 has a page of its own, and leaves its place to queue 4. */
static unsigned int ring_offset(enum balloon_queue queue)
{
	if (queue == BALLOON_FREE_PAGE)
		return 0;
	return RING_AT(queue == BALLOON_REPORTING ? 3 : queue);
}

struct command_driver *driver_commands(void)
{
	return guest_own(FRAME_REPORT, COMMANDS_AT);
}

uint32_t driver_read(uint32_t offset)
{
	uint8_t raw[4];

	world.here->virtio.ops->config_read(world.here, offset, raw, 4);
	return le32_load(raw);
}

void driver_write(uint32_t offset, uint32_t value)
{
	uint8_t raw[4];

	le32_store(raw, value);
	world.here->virtio.ops->config_write(world.here, offset, raw, 4);
	trace("driver: writes %#x at %u", value, offset);
}

/* The driver half has written the ring. */
void driver_kick(enum balloon_queue queue)
{
	struct vring_driver *ring = &world.guest.ring[queue];

	host_wrote(world.here, ring_frame(queue));
	if (vring_driver_needs_kick(ring))
		world.here->kicked |= 1u << queue;
}

/* ------------------------------------------------------ begin and end --- */

/* Where the used ring lies. That of the free page queue crosses from one page
 * into the next, its index on this side and its entries on the other. */
static uint64_t used_address(enum balloon_queue queue)
{
	if (queue == BALLOON_FREE_PAGE)
		return (FRAME_RINGS * GUEST_PAGE_SIZE) -
		       offsetof(struct vring_used, ring);
	return ring_frame(queue) * GUEST_PAGE_SIZE + ring_offset(queue) +
	       vring_driver_used_offset(world.setup.ring_size);
}

static void *used_ring(struct host *host, enum balloon_queue queue)
{
	/* The low frames lie one behind the other. */
	return (uint8_t *)frame_at(host, 0) + used_address(queue);
}

static void lay_out(enum balloon_queue queue, uint64_t features)
{
	uint16_t size = world.setup.ring_size;
	struct virtio_device *device = &world.here->virtio;
	int index = balloon_queue_index(queue, features,
					BALLOON_NUMBERING_PACKED);
	uint64_t at = ring_frame(queue) * GUEST_PAGE_SIZE + ring_offset(queue);
	uint64_t used = used_address(queue);
	void *memory;

	world.guest.ring[queue].size = 0;
	if (index < 0)
		return;
	guest_own(FRAME_RINGS, 0);
	memory = guest_own(ring_frame(queue), ring_offset(queue));
	memset(memory, 0, vring_driver_bytes(size));
	vring_driver_init(&world.guest.ring[queue], size, memory, features);
	world.guest.ring[queue].used = used_ring(world.here, queue);
	memset(world.guest.ring[queue].used, 0, USED_BYTES(size));
	device->queue[index] = (struct virtio_device_queue){
		.layout = {
			.size = size,
			.desc = { at },
			.avail = { at + vring_driver_avail_offset(size) },
			.used = { used },
		},
		.enabled = true,
	};
}

void driver_boot(void)
{
	struct virtio_device *device = &world.here->virtio;
	struct guest *guest = &world.guest;
	uint64_t features = world.setup.wanted & device->offered;
	unsigned int queue;

	/* A driver that does not know the commands gets the standard way. */
	if (chance(16))
		features &= ~(1ull << BALLOON_F_COMMAND_REGISTER |
			      1ull << BALLOON_F_V17);
	virtio_device_set_status(device, VIRTIO_CONFIG_S_ACKNOWLEDGE |
						 VIRTIO_CONFIG_S_DRIVER);
	virtio_device_set_features(device, 0, (uint32_t)features);
	virtio_device_set_features(device, 1, (uint32_t)(features >> 32));
	virtio_device_set_status(device, device->status |
						 VIRTIO_CONFIG_S_FEATURES_OK);
	guest->features = features;
	guest->commands = features >> BALLOON_F_COMMAND_REGISTER & 1;
	guest->v17 = features >> BALLOON_F_V17 & 1;
	for (queue = 0; queue < BALLOON_QUEUES; queue++)
		lay_out(queue, features);
	memset(guest->handler, 0, sizeof(guest->handler));
	guest->handler_wanted = true;
	worker_boot();
	adjust_boot();
	guest->driver = DRIVER_OK;
	virtio_device_set_status(device, device->status |
						 VIRTIO_CONFIG_S_DRIVER_OK);
	trace("driver: begins, %s", guest->commands ? "command-register" :
	      guest->v17 ? "v17" : "standard");
}

/* The driver is unloaded: it gives back what it holds, then resets the device
 * and waits until that has let go of its queues (G-8). */
void driver_reset(void)
{
	if (world.guest.driver != DRIVER_OK)
		return;
	trace("driver: ends");
	tally.driver_resets++;
	worker_leave();
	world.guest.driver = DRIVER_RESETTING;
	virtio_device_set_status(&world.here->virtio, 0);
}

bool driver_can_step(void)
{
	return world.guest.driver == DRIVER_RESETTING &&
	       !world.here->virtio.status;
}

void driver_boot_step(void)
{
	enum page_state state;

	for (state = PAGE_HELD; state < PAGE_STATES; state++)
		guest_give_back(state);
	world.here->config_irq = false;
	world.here->queue_irq = 0;
	driver_boot();
}

void guest_moved_to(struct host *host)
{
	struct guest *guest = &world.guest;
	unsigned int queue;

	world.here = host;
	guest->moves++;
	for (queue = 0; queue < BALLOON_QUEUES; queue++) {
		struct vring_driver *ring = &guest->ring[queue];
		uint8_t *at = (uint8_t *)frame_at(host, ring_frame(queue)) +
			      ring_offset(queue);

		if (!ring->size)
			continue;
		ring->desc = (void *)at;
		ring->avail = (void *)(at +
				       vring_driver_avail_offset(ring->size));
		ring->used = used_ring(host, queue);
	}
}

/* ---------------------------------------------------------- interrupts --- */

bool driver_interrupts(void)
{
	return world.guest.driver == DRIVER_OK && world.here->queue_irq;
}

/* Those of queues; they come one by one or several at once. */
void driver_interrupt(void)
{
	unsigned int irq = world.here->queue_irq;

	if (chance(3))
		irq &= -irq;
	world.here->queue_irq &= ~irq;
	trace("driver: interrupt of queues %#x", irq);
	if (irq & 1u << BALLOON_FREE_PAGE)
		world.guest.awake = true;
	if (irq & (1u << BALLOON_INFLATE | 1u << BALLOON_DEFLATE))
		world.guest.adjust.awake = true;
	if (irq & 1u << BALLOON_STATS)
		statistics_fill();
	if (irq & 1u << BALLOON_REPORTING)
		reporting_reap();
}

/* -------------------------------------------------------------- handler --- */

static void take_effect(void)
{
	world.guest.awake = true;
	world.guest.adjust.awake = true;
}

/* Two registers, each read in a step and heeded in another. */
static void standard_step(struct handler *handler)
{
	struct guest *guest = &world.guest;

	switch (handler->step++) {
	case 0:
		handler->value = driver_read(CONFIG_AT(num_pages));
		return;
	case 1:
		guest->adjust.target = handler->value;
		guest->adjust.awake = true;
		return;
	case 2:
		handler->value = driver_read(CONFIG_AT(free_page_hint_cmd_id));
		return;
	default:
		trace("driver: the id reads %#x", handler->value);
		report_driver_config(&guest->standard, handler->value);
		take_effect();
		handler->busy = false;
	}
}

/* What the worker must do by it. */
static void note_commands(uint32_t bits)
{
	const uint32_t stops = BALLOON_CMD_REPORT_STOP |
			       BALLOON_CMD_REPORT_DONE;
	struct guest *guest = &world.guest;

	if (bits & BALLOON_CMD_REPORT)
		guest->stopped = bits & stops;
	if (bits & BALLOON_CMD_REPORT_START)
		guest->sign_alone = bits & stops;
	if (bits & BALLOON_CMD_REPORT_DONE)
		guest->done_handled = true;
}

static void commands_end(struct handler *handler)
{
	struct command_driver *driver = driver_commands();

	world.guest.adjust.target = driver->target;
	note_commands(driver->acknowledged);
	if (fault(FAULT_HANDLER_RELEASES))
		driver->done = false;
	trace("driver: handled %#x", driver->acknowledged);
	handler->busy = false;
	take_effect();
}

static void acknowledge(uint32_t bits)
{
	/* Fault: here, while the worker is in the middle of a report. */
	if (fault(FAULT_HANDLER_RELEASES) && bits & BALLOON_CMD_REPORT_DONE)
		guest_give_back(PAGE_HELD);
	driver_write(BALLOON_CMD_REG, bits);
}

static void commands_step(struct handler *handler)
{
	uint32_t offset;

	switch (command_driver_handle(driver_commands(), &offset,
				      &handler->value)) {
	case COMMAND_ACCESS_READ:
		handler->value = driver_read(offset);
		trace("driver: reads %#x at %u", handler->value, offset);
		break;
	case COMMAND_ACCESS_WRITE:
		acknowledge(handler->value);
		break;
	case COMMAND_ACCESS_END:
		commands_end(handler);
		break;
	}
}

/* Whoever writes STOP hands over no more (W-12). */
static void v17_write(uint32_t bits)
{
	struct guest *guest = &world.guest;

	if (bits & BALLOON_V17_REPORT_STOP) {
		guest->stopped = true;
		guest->open = false;
	}
	driver_write(BALLOON_V17_GUEST2HOST_CMD, bits);
}

void driver_v17_stop(void)
{
	v17_write(BALLOON_V17_REPORT_STOP);
}

static void v17_end(struct handler *handler)
{
	const struct v17_driver *driver = &world.guest.v17_driver;

	world.guest.adjust.target = driver->target;
	if (driver->acknowledged & BALLOON_V17_REPORT_START)
		world.guest.sign_alone = driver->acknowledged &
					 BALLOON_V17_REPORT_STOP;
	trace("driver: handled %#x, id %#x", driver->acknowledged,
	      driver->cmd_id);
	handler->busy = false;
	take_effect();
}

static void v17_step(struct handler *handler)
{
	uint32_t offset;

	switch (v17_driver_handle(&world.guest.v17_driver, &offset,
				  &handler->value)) {
	case COMMAND_ACCESS_READ:
		handler->value = driver_read(offset);
		trace("driver: reads %#x at %u", handler->value, offset);
		break;
	case COMMAND_ACCESS_WRITE:
		v17_write(handler->value);
		break;
	case COMMAND_ACCESS_END:
		v17_end(handler);
		break;
	}
}

/* Fault: reads first, and acknowledges then. What was read goes to the driver
 * half in the order that it asks in. */
static void late_acknowledgement(struct handler *handler)
{
	struct command_driver *driver = driver_commands();
	enum command_access access;
	uint32_t offset, value = 0;

	switch (handler->step++) {
	case 0:
		handler->seen[0] = driver_read(BALLOON_CMD_REG);
		return;
	case 1:
		handler->seen[1] = driver_read(CONFIG_AT(num_pages));
		return;
	case 2:
		handler->seen[2] = driver_read(BALLOON_CMD_ID_REG);
		return;
	case 3:
		if (handler->seen[0])
			driver_write(BALLOON_CMD_REG, handler->seen[0]);
		return;
	}
	while ((access = command_driver_handle(driver, &offset, &value)))
		if (access == COMMAND_ACCESS_READ)
			value = handler->seen[offset == BALLOON_CMD_REG ? 0 :
					      offset == BALLOON_CMD_ID_REG ? 2 :
									     1];
	commands_end(handler);
}

static bool wanted(void)
{
	return world.here->config_irq || world.guest.handler_wanted;
}

bool handler_can_step(void)
{
	return world.guest.driver == DRIVER_OK &&
	       (world.guest.handler[0].busy || world.guest.handler[1].busy ||
		wanted());
}

static bool begin(struct handler *handler)
{
	if (handler->busy)
		return true;
	if (!wanted())
		return false;
	world.here->config_irq = false;
	world.guest.handler_wanted = false;
	*handler = (struct handler){ .busy = true };
	return true;
}

void handler_step(void)
{
	struct handler *handler = &world.guest.handler[0];

	/* Fault: a second one, over the same words. */
	if (fault(FAULT_CONCURRENT_HANDLERS) &&
	    ((handler[1].busy && (!handler->busy || draw(2))) ||
	     (handler->busy && wanted() && draw(2))))
		handler++;
	if (!begin(handler))
		return;
	if (world.guest.v17)
		v17_step(handler);
	else if (!world.guest.commands)
		standard_step(handler);
	else if (fault(FAULT_ACK_AFTER_READ))
		late_acknowledgement(handler);
	else
		commands_step(handler);
}
