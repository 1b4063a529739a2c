/* SPDX-License-Identifier: MIT */
/* Inside the balloon's device: for balloon_device.c and balloon_state.c. */
#ifndef MACHINE_BALLOON_DEVICE_INTERNAL_H
#define MACHINE_BALLOON_DEVICE_INTERNAL_H

#include "machine/balloon_device.h"

/* Device thread: serve the queues from now on. @state: NULL for a fresh start;
 * both arrays have VIRTIO_DEVICE_MAX_QUEUES entries */
void balloon_device_activate(struct balloon_device *device,
			     const struct virtqueue_layout *layout,
			     const struct virtqueue_state *state);

/* Under the device lock: the layouts as the driver left them, size 0 for a
 * queue that is not enabled. */
void balloon_device_copy_layouts(const struct balloon_device *device,
				 struct virtqueue_layout *layout);

#endif
