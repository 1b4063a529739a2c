/* SPDX-License-Identifier: MIT */
/*
 * The balloon of a machine: protocol core, PCI transport and device thread
 * joined; the free_page_source of a migration.
 */
#ifndef MACHINE_BALLOON_DEVICE_H
#define MACHINE_BALLOON_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include "balloon/balloon.h"
#include "base/buffer.h"
#include "kvm/vm.h"
#include "machine/config.h"
#include "machine/device_thread.h"
#include "migration/free_page_source.h"
#include "pci/virtio_pci.h"

#define BALLOON_QUEUE_SIZE 256

/* Bytes the guest is to keep, and keeps. */
struct balloon_size {
	uint64_t target, actual;
};

/* What status and statistics show; a copy. */
struct balloon_view {
	struct balloon_size size;
	uint64_t offered, negotiated;
	enum report_state report_state;
	uint32_t command_id;
	bool driver; /* one is bound */
	bool broken; /* by it, until the next reset */
	const struct balloon_protocol *protocol; /* spoken with it */
	uint32_t poison; /* its poison_val at DRIVER_OK */
	struct report_counters report; /* of the last one */
	struct balloon_counters counters;
	uint64_t discarded, discard_errors; /* pages; runs */
	uint64_t discard_kept; /* pages that are parts of a host page */
	uint64_t populated; /* pages, before the guest had them back */
	uint64_t held; /* pages that wait for the rest of a huge page */
	/* Between driver and device: accesses to the configuration space,
	 * notifications of queues, interrupts raised. */
	uint64_t config_reads, config_writes, kicks;
	uint64_t config_interrupts, queue_interrupts;
};

struct balloon_device {
	struct free_page_source source; /* first member */
	struct kvm_vm *vm;
	struct guest_memory *memory;
	pthread_mutex_t *lock; /* the machine's device lock */
	struct virtio_device virtio; /* under lock */
	struct virtio_pci pci;	     /* under lock */
	uint64_t notify_at;	     /* under lock */
	struct device_thread thread;
	struct balloon balloon; /* the device thread's */
	struct page_set scratch, inside, held; /* the balloon's */
	uint64_t features; /* negotiated; the device thread's */
	bool populate;	/* what is deflated on request */
	bool hold_ends; /* what is held is discarded after a while */
	uint64_t held_since_ms; /* the device thread's; 0: nothing is held */
	unsigned int lingered_in_vain; /* its own; times in a row */
	bool created;

	/* Report progress, for a migration thread that waits. */
	pthread_mutex_t report_lock;
	pthread_cond_t report_changed;
	enum report_state report_state; /* under report_lock */

	struct balloon_statistics statistics; /* under report_lock */
	struct timespec statistics_time;      /* when they came; monotonic */

	atomic_bool bus;	  /* it may touch the guest's memory */
	atomic_bool bus_given;	  /* anew: buffers may wait in its rings */
	atomic_bool acknowledged; /* the driver wrote cmd_reg */
	_Atomic uint64_t discarded, discard_errors, kept, populated;
	struct {
		_Atomic uint64_t config_reads, config_writes;
		_Atomic uint64_t config_interrupts, queue_interrupts;
	} traffic; /* see struct balloon_view */

	void (*actual_changed)(void *owner); /* any thread */
	void *owner;
};

int balloon_device_create(struct balloon_device *device,
			  const struct machine_config *config,
			  struct kvm_vm *vm, struct guest_memory *memory,
			  pthread_mutex_t *lock, uint32_t bars,
			  struct error *err);
void balloon_device_destroy(struct balloon_device *device);

/* Machine reset, with vCPUs stopped. */
void balloon_device_reset(struct balloon_device *device);

/* The vCPUs have stopped and the thread is quiet: discard what waits for the
 * rest of a huge page. */
void balloon_device_flush(struct balloon_device *device);

/* The user stops the vCPUs, which have stopped. */
void balloon_device_pause(struct balloon_device *device);

/**
 * balloon_device_statistics() - What the guest said last about its memory
 * @request:	ask it to say it anew; the answer comes later and counts up
 *		@statistics->updates
 * @age_ms:	how long ago it said it, if updates is not 0
 *
 * Any thread; waits for the device thread, never for the guest.
 */
void balloon_device_statistics(struct balloon_device *device, bool request,
			       struct balloon_statistics *statistics,
			       uint64_t *age_ms);

void balloon_device_set_target(struct balloon_device *device, uint32_t pages);

/* Any thread, at once. */
struct balloon_size balloon_device_size(const struct balloon_device *device);

/* Any thread; waits for the device thread, never for the guest. What `actual` was
 * told of is discarded, or held, in the counts. */
void balloon_device_view(struct balloon_device *device,
			 struct balloon_view *view);

/* With vCPUs stopped and the thread quiet. Record BALLOON of
 * docs/spec/stream.md. Return: 0, or -1 with @err */
int balloon_device_save(struct balloon_device *device, struct buffer *to,
			struct error *err);
int balloon_device_load(struct balloon_device *device,
			struct buffer_reader *from, struct error *err);

/* On the destination, before the guest runs: hinted pages are the guest's
 * again, and no interrupt or kick of the move is lost. */
void balloon_device_arrived(struct balloon_device *device);

#endif
