/* SPDX-License-Identifier: MIT */
/*
 * A virtio device as its driver sees it, whatever the transport: features,
 * status, queues (VIRTIO 1.3 sections 2.1 to 2.4, 3.1).
 *
 * The caller holds one lock around every call. A device's own thread learns of
 * the driver's steps by ops->status_changed(), which must not wait for it:
 * it posts, and the thread then calls virtio_device_take_event().
 */
#ifndef VIRTIO_DEVICE_H
#define VIRTIO_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "virtio/virtqueue.h"

#define VIRTIO_DEVICE_MAX_QUEUES 8
#define VIRTIO_NO_VECTOR 0xffff

struct virtio_device;

struct virtio_device_ops {
	/* Would this device work with these features? */
	bool (*accepts)(void *owner, uint64_t features);
	/* Reset or DRIVER_OK waits to be taken by the device's thread. */
	void (*status_changed)(void *owner);
	void (*config_read)(void *owner, uint32_t offset, void *to,
			    uint32_t length);
	void (*config_write)(void *owner, uint32_t offset, const void *from,
			     uint32_t length);
	/* A kick that did not come by ioeventfd. */
	void (*kick)(void *owner, uint16_t queue);
};

struct virtio_device_queue {
	struct virtqueue_layout layout;
	bool enabled;
	uint16_t vector;
};

struct virtio_device {
	uint16_t id;	 /* virtio device type */
	uint16_t queues; /* that exist, with all that is offered */
	uint16_t queue_size;
	uint64_t offered, accepted;
	uint8_t status;
	bool reset_pending; /* asked for, not yet carried out */
	bool activated;	    /* the device's thread has taken DRIVER_OK */
	uint8_t generation;
	uint16_t config_vector;
	struct virtio_device_queue queue[VIRTIO_DEVICE_MAX_QUEUES];
	const struct virtio_device_ops *ops;
	void *owner;
};

void virtio_device_init(struct virtio_device *device, uint16_t id,
			uint64_t offered, uint16_t queues, uint16_t queue_size,
			const struct virtio_device_ops *ops, void *owner);

/* The driver's write of the status register. Zero asks for a reset; until the
 * device's thread has done it the status reads as it was. */
void virtio_device_set_status(struct virtio_device *device, uint8_t status);

/* The driver's write of 32 of its feature bits; after FEATURES_OK ignored. */
void virtio_device_set_features(struct virtio_device *device,
				unsigned int select, uint32_t bits);

enum virtio_device_event {
	VIRTIO_EVENT_NONE,
	VIRTIO_EVENT_RESET,    /* then virtio_device_reset_done() */
	VIRTIO_EVENT_ACTIVATE, /* features and queues are final */
};

/* For the device's thread. ACTIVATE is given once. */
enum virtio_device_event virtio_device_take_event(struct virtio_device *device);
void virtio_device_reset_done(struct virtio_device *device);

/* Return the registers to their state at power-on. */
void virtio_device_clear(struct virtio_device *device);

/* The guest broke the device: it needs a reset. Raises no interrupt itself. */
void virtio_device_break(struct virtio_device *device);

#endif
