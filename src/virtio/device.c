// SPDX-License-Identifier: MIT
/* A virtio device as its driver sees it, whatever the transport. */
#include <linux/virtio_config.h>
#include <string.h>

#include "virtio/device.h"

void virtio_device_init(struct virtio_device *device, uint16_t id,
			uint64_t offered, uint16_t queues, uint16_t queue_size,
			const struct virtio_device_ops *ops, void *owner)
{
	memset(device, 0, sizeof(*device));
	device->id = id;
	device->offered = offered;
	device->queues = queues;
	device->queue_size = queue_size;
	device->ops = ops;
	device->owner = owner;
	virtio_device_clear(device);
}

void virtio_device_clear(struct virtio_device *device)
{
	unsigned int i;

	device->accepted = 0;
	device->status = 0;
	device->reset_pending = false;
	device->activated = false;
	device->config_vector = VIRTIO_NO_VECTOR;
	for (i = 0; i < VIRTIO_DEVICE_MAX_QUEUES; i++)
		device->queue[i] = (struct virtio_device_queue){
			.layout.size = device->queue_size,
			.vector = VIRTIO_NO_VECTOR,
		};
}

static bool features_fit(const struct virtio_device *device)
{
	return !(device->accepted & ~device->offered) &&
	       (device->accepted & (1ull << VIRTIO_F_VERSION_1)) &&
	       device->ops->accepts(device->owner, device->accepted);
}

void virtio_device_set_status(struct virtio_device *device, uint8_t status)
{
	uint8_t added = status & ~device->status;

	if (device->reset_pending)
		return;
	if (!status) {
		/* Before ACKNOWLEDGE there is nothing to take back. From then
		 * on the driver may write to the device's configuration. */
		if (!device->status) {
			virtio_device_clear(device);
			return;
		}
		device->reset_pending = true;
		device->ops->status_changed(device->owner);
		return;
	}
	/* The driver sets bits, it never clears them (2.1.1). */
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && !features_fit(device))
		added &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	device->status |= added;
	if (!(device->status & VIRTIO_CONFIG_S_FEATURES_OK))
		device->status &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	if ((added & VIRTIO_CONFIG_S_DRIVER_OK) &&
	    (device->status & VIRTIO_CONFIG_S_DRIVER_OK))
		device->ops->status_changed(device->owner);
}

void virtio_device_set_features(struct virtio_device *device,
				unsigned int select, uint32_t bits)
{
	unsigned int shift = select * 32;

	if (select > 1 || (device->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return;
	device->accepted &= ~(0xffffffffull << shift);
	device->accepted |= (uint64_t)bits << shift;
}

enum virtio_device_event virtio_device_take_event(struct virtio_device *device)
{
	if (device->reset_pending)
		return VIRTIO_EVENT_RESET;
	if (!device->activated &&
	    (device->status & VIRTIO_CONFIG_S_DRIVER_OK)) {
		device->activated = true;
		return VIRTIO_EVENT_ACTIVATE;
	}
	return VIRTIO_EVENT_NONE;
}

void virtio_device_reset_done(struct virtio_device *device)
{
	virtio_device_clear(device);
}

void virtio_device_break(struct virtio_device *device)
{
	device->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	device->generation++;
}
