/* SPDX-License-Identifier: MIT */
/* Inside the balloon's device: for balloon_*.c. */
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

/* Device thread: a guest that stands still answers nothing, nor one that took the
 * bus. */
bool balloon_device_can_answer(const struct balloon_device *device);

/* In balloon_report.c. */
extern const struct free_page_source_ops balloon_device_source_ops;

/* In balloon_memory.c: events of the balloon's queues, and of the device
 * thread's deadline. */
void balloon_memory_discard(void *host, const struct page_run *run,
			    unsigned int runs);
void balloon_memory_returned(void *host, struct page_run run);
void balloon_memory_expired(void *owner);

/* The inflate queue was served: when to give up waiting for the rest of huge
 * pages. */
void balloon_memory_inflated(struct balloon_device *device);

/* The sets of the balloon; and, after balloon_init(), what it holds back and
 * whether to populate what is deflated on request. */
int balloon_memory_create(struct balloon_device *device, struct error *err);
void balloon_memory_destroy(struct balloon_device *device);
void balloon_memory_init(struct balloon_device *device, bool populate);

#endif
