// SPDX-License-Identifier: MIT
/*
 * The balloon of a machine.
 *
 * Registers of the transport are the vCPU threads', under the device lock; the
 * balloon itself is the device thread's. The thread takes the lock for
 * moments: to learn of a reset or of DRIVER_OK, and to raise an interrupt.
 * Nothing is discarded under it.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "machine/balloon_device.h"
#include "machine/balloon_device_internal.h"
#include "memory/backing.h"

#define CLASS_MEMORY_OTHER 0x058000
#define LINGER_NS 20000
#define LINGER_TRIES 8

/* -------------------------------- the balloon's events, device thread --- */

/* The device thread waits so long for the next hint before it sleeps; where the
 * guest is slower than that, a few times in a report and no more. */
static bool on_linger(void *host, const struct virtqueue *free_page_queue)
{
	struct balloon_device *device = host;
	uint64_t until;

	if (device->lingered_in_vain >= LINGER_TRIES)
		return false;
	until = device_thread_now_ns() + LINGER_NS;
	do {
		if (virtqueue_has_buffers(free_page_queue)) {
			device->lingered_in_vain = 0;
			return true;
		}
		__builtin_ia32_pause();
	} while (device_thread_now_ns() < until);
	device->lingered_in_vain++;
	return false;
}

static void on_report_changed(void *host, enum report_state state)
{
	struct balloon_device *device = host;

	/* With one CPU the guest would wait for us. */
	if (state == REPORT_REQUESTED)
		device->lingered_in_vain = sysconf(_SC_NPROCESSORS_ONLN) > 1 ?
						   0 : LINGER_TRIES;

	scoped_lock(&device->report_lock);
	device->report_state = state;
	pthread_cond_broadcast(&device->report_changed);
}

static void on_statistics_changed(void *host)
{
	struct balloon_device *device = host;
	const struct balloon_statistics *now = &device->balloon.statistics;

	scoped_lock(&device->report_lock);
	device->statistics = *now;
	clock_gettime(CLOCK_MONOTONIC, &device->statistics_time);
}

static void on_interrupt(void *host, enum balloon_queue queue)
{
	struct balloon_device *device = host;
	int index = balloon_queue_number(&device->balloon, queue);

	if (index < 0)
		return;
	atomic_fetch_add(&device->traffic.queue_interrupts, 1);
	scoped_lock(device->lock);
	virtio_pci_queue_interrupt(&device->pci, index);
}

static void on_config_changed(void *host)
{
	struct balloon_device *device = host;

	atomic_fetch_add(&device->traffic.config_interrupts, 1);
	scoped_lock(device->lock);
	virtio_pci_config_interrupt(&device->pci);
}

static void on_broken(void *host, const char *reason)
{
	struct balloon_device *device = host;

	log_limited("balloon", "the guest's driver broke the device: %s; it "
		    "needs a reset", reason);
	scoped_lock(device->lock);
	virtio_device_break(&device->virtio);
	virtio_pci_config_interrupt(&device->pci);
}

static const struct balloon_host_ops host_ops = {
	.discard = balloon_memory_discard,
	.returned = balloon_memory_returned,
	.linger = on_linger,
	.report_changed = on_report_changed,
	.interrupt = on_interrupt,
	.statistics_changed = on_statistics_changed,
	.config_changed = on_config_changed,
	.broken = on_broken,
};

/* ------------------------------------------------ the device thread --- */

static void look_at_all(struct balloon_device *device)
{
	unsigned int queue;

	for (queue = 0; queue < BALLOON_QUEUES; queue++) {
		int index = balloon_queue_number(&device->balloon, queue);

		if (index >= 0)
			device_thread_look(&device->thread, index);
	}
}

void balloon_device_activate(struct balloon_device *device,
			     const struct virtqueue_layout *layout,
			     const struct virtqueue_state *state)
{
	balloon_activate(&device->balloon, device->features, layout, state,
			 VIRTIO_DEVICE_MAX_QUEUES);
	look_at_all(device);
}

void balloon_device_copy_layouts(const struct balloon_device *device,
				 struct virtqueue_layout *layout)
{
	unsigned int i;

	for (i = 0; i < VIRTIO_DEVICE_MAX_QUEUES; i++) {
		layout[i] = device->virtio.queue[i].layout;
		if (!device->virtio.queue[i].enabled)
			layout[i].size = 0;
	}
}

/* Whoever follows the balloon hears that there is nothing in it now. */
static void reset_balloon(struct balloon_device *device)
{
	bool inflated = atomic_load(&device->balloon.config.actual);

	balloon_reset(&device->balloon);
	if (inflated && device->actual_changed)
		device->actual_changed(device->owner);
}

static void on_posted(void *owner)
{
	struct virtqueue_layout layout[VIRTIO_DEVICE_MAX_QUEUES];
	struct balloon_device *device = owner;
	enum virtio_device_event event;

	if (atomic_exchange(&device->bus_given, false))
		look_at_all(device);
	if (atomic_exchange(&device->acknowledged, false))
		balloon_acknowledged(&device->balloon);
	pthread_mutex_lock(device->lock);
	event = virtio_device_take_event(&device->virtio);
	if (event == VIRTIO_EVENT_ACTIVATE) {
		device->features = device->virtio.accepted;
		balloon_device_copy_layouts(device, layout);
	}
	pthread_mutex_unlock(device->lock);

	if (event == VIRTIO_EVENT_ACTIVATE)
		balloon_device_activate(device, layout, NULL);
	if (event != VIRTIO_EVENT_RESET)
		return;
	reset_balloon(device);
	scoped_lock(device->lock);
	virtio_device_reset_done(&device->virtio);
	virtio_pci_device_reset(&device->pci);
}

static bool on_kicked(void *owner, unsigned int index)
{
	struct balloon_device *device = owner;
	unsigned int queue;
	bool more;

	if (!atomic_load(&device->bus))
		return false;
	for (queue = 0; queue < BALLOON_QUEUES; queue++)
		if (balloon_queue_number(&device->balloon, queue) == (int)index)
			break;
	more = queue < BALLOON_QUEUES && balloon_serve(&device->balloon, queue);
	if (queue == BALLOON_INFLATE)
		balloon_memory_inflated(device);
	return more;
}

static const struct device_thread_ops thread_ops = {
	.posted = on_posted,
	.kicked = on_kicked,
	.expired = balloon_memory_expired,
};

/* ---------------------------------------- the driver's steps, vCPUs --- */

static bool on_accepts(void *owner, uint64_t features)
{
	struct balloon_device *device = owner;

	return balloon_accepts(&device->balloon, features);
}

static void on_status_changed(void *owner)
{
	struct balloon_device *device = owner;

	device_thread_post(&device->thread);
}

static void on_config_read(void *owner, uint32_t offset, void *to,
			   uint32_t length)
{
	struct balloon_device *device = owner;

	atomic_fetch_add(&device->traffic.config_reads, 1);
	balloon_config_read(&device->balloon, offset, to, length);
}

static void on_config_write(void *owner, uint32_t offset, const void *from,
			    uint32_t length)
{
	struct balloon_device *device = owner;

	atomic_fetch_add(&device->traffic.config_writes, 1);
	switch (balloon_config_write(&device->balloon, offset, from, length)) {
	case BALLOON_WROTE_ACTUAL:
		if (device->actual_changed)
			device->actual_changed(device->owner);
		break;
	case BALLOON_WROTE_COMMAND:
		atomic_store(&device->acknowledged, true);
		device_thread_post(&device->thread);
		break;
	case BALLOON_WROTE_NOTHING:
		break;
	}
}

static void on_kick(void *owner, uint16_t queue)
{
	struct balloon_device *device = owner;

	device_thread_kick(&device->thread, queue);
}

static const struct virtio_device_ops virtio_ops = {
	.accepts = on_accepts,
	.status_changed = on_status_changed,
	.config_read = on_config_read,
	.config_write = on_config_write,
	.kick = on_kick,
};

static void on_signal(void *owner, uint64_t address, uint32_t data)
{
	struct balloon_device *device = owner;

	kvm_vm_signal_msi(device->vm, address, data);
}

static void move_notify(struct balloon_device *device, uint64_t address,
			bool assign)
{
	unsigned int queue;

	for (queue = 0; queue < device->virtio.queues; queue++)
		kvm_vm_ioeventfd(device->vm, address + queue * 4,
				 device->thread.kick_fd[queue], assign);
}

static void on_notify_moved(void *owner, uint64_t address)
{
	struct balloon_device *device = owner;

	if (device->notify_at)
		move_notify(device, device->notify_at, false);
	if (address)
		move_notify(device, address, true);
	device->notify_at = address;
}

/* Linux takes the bus before a kexec, whose kernel uses all memory before it
 * resets the device: where the rings were may be anything. */
static void on_bus_changed(void *owner, bool given)
{
	struct balloon_device *device = owner;

	atomic_store(&device->bus, given);
	if (!given)
		return;
	atomic_store(&device->bus_given, true);
	device_thread_post(&device->thread);
}

static const struct virtio_pci_ops pci_ops = {
	.signal = on_signal,
	.notify_moved = on_notify_moved,
	.bus_changed = on_bus_changed,
};

/* ------------------------------------------------------ life and view --- */

/* Queues that exist with everything that is offered. */
static uint16_t count_queues(uint64_t features,
			     enum balloon_numbering numbering)
{
	int queue, index, highest = 0;

	for (queue = 0; queue < BALLOON_QUEUES; queue++) {
		index = balloon_queue_index(queue, features, numbering);
		if (index > highest)
			highest = index;
	}
	return highest + 1;
}

int balloon_device_create(struct balloon_device *device,
			  const struct machine_config *config,
			  struct kvm_vm *vm, struct guest_memory *memory,
			  pthread_mutex_t *lock, uint32_t bars,
			  struct error *err)
{
	uint64_t offered;

	memset(device, 0, sizeof(*device));
	device->source.ops = &balloon_device_source_ops;
	device->vm = vm;
	device->memory = memory;
	device->lock = lock;
	pthread_mutex_init(&device->report_lock, NULL);
	pthread_cond_init(&device->report_changed, NULL);
	if (balloon_memory_create(device, err) < 0)
		return -1;
	balloon_init(&device->balloon, config->balloon_options, memory,
		     device->scratch, &host_ops, device);
	balloon_memory_init(device, config->balloon_populate);
	offered = balloon_features(&device->balloon) |
		  1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX |
		  1ull << VIRTIO_RING_F_INDIRECT_DESC;
	virtio_device_init(&device->virtio, VIRTIO_ID_BALLOON, offered,
			   count_queues(offered,
					config->balloon_options.numbering),
			   BALLOON_QUEUE_SIZE, &virtio_ops, device);
	if (device_thread_start(&device->thread, &thread_ops, device, err) < 0) {
		balloon_memory_destroy(device);
		return -1;
	}
	device->created = true;
	virtio_pci_init(&device->pci, &device->virtio, CLASS_MEMORY_OTHER,
			bars, &pci_ops, device);
	balloon_device_set_target(device,
				  machine_balloon_pages(memory->size,
							config->balloon_target));
	return 0;
}

void balloon_device_destroy(struct balloon_device *device)
{
	if (!device->created)
		return;
	device_thread_stop(&device->thread);
	balloon_memory_destroy(device);
	device->created = false;
}

static void call_reset(void *argument)
{
	reset_balloon(argument);
}

void balloon_device_reset(struct balloon_device *device)
{
	device_thread_call(&device->thread, call_reset, device);
	scoped_lock(device->lock);
	virtio_device_clear(&device->virtio);
	virtio_pci_reset(&device->pci);
}

static void call_pause(void *argument)
{
	struct balloon_device *device = argument;

	balloon_pause(&device->balloon);
}

void balloon_device_pause(struct balloon_device *device)
{
	device_thread_call(&device->thread, call_pause, device);
}

bool balloon_device_can_answer(const struct balloon_device *device)
{
	return !device->thread.quiet && atomic_load(&device->bus);
}

static void call_statistics(void *argument)
{
	struct balloon_device *device = argument;

	if (balloon_device_can_answer(device))
		balloon_request_statistics(&device->balloon);
}

void balloon_device_statistics(struct balloon_device *device, bool request,
			       struct balloon_statistics *statistics,
			       uint64_t *age_ms)
{
	struct timespec now, then;

	if (request)
		device_thread_call(&device->thread, call_statistics, device);
	pthread_mutex_lock(&device->report_lock);
	*statistics = device->statistics;
	then = device->statistics_time;
	pthread_mutex_unlock(&device->report_lock);
	clock_gettime(CLOCK_MONOTONIC, &now);
	*age_ms = (now.tv_sec - then.tv_sec) * 1000 +
		  (now.tv_nsec - then.tv_nsec) / 1000000;
}

struct target_call {
	struct balloon_device *device;
	uint32_t pages;
};

static void call_set_target(void *argument)
{
	struct target_call *call = argument;

	balloon_set_target(&call->device->balloon, call->pages);
}

void balloon_device_set_target(struct balloon_device *device, uint32_t pages)
{
	struct target_call call = { device, pages };

	device_thread_call(&device->thread, call_set_target, &call);
}

struct view_call {
	struct balloon_device *device;
	struct balloon_view *view;
};

/* The part that is the device thread's. */
static void call_view(void *argument)
{
	struct view_call *call = argument;
	const struct balloon *balloon = &call->device->balloon;
	struct balloon_view *view = call->view;

	view->report_state = balloon->report.state;
	view->report = balloon->report.counters;
	view->counters = balloon->counters;
	view->held = balloon->hold.pages;
	view->broken = balloon->broken;
	view->protocol = balloon->protocol;
	view->poison = balloon->poison;
	view->kicks = call->device->thread.kicks;
	view->command_id = atomic_load(
		balloon->protocol->feature ?
			&balloon->config.cmd_id_reg :
			&balloon->config.free_page_hint_cmd_id);
}

/* Bytes beside a balloon of @pages, which a guest or a stream has named. */
static uint64_t bytes_beside(const struct balloon_device *device,
			     uint32_t pages)
{
	uint64_t size = device->memory->size;
	uint64_t inside = (uint64_t)pages << GUEST_PAGE_SHIFT;

	return inside < size ? size - inside : 0;
}

struct balloon_size balloon_device_size(const struct balloon_device *device)
{
	const struct balloon *balloon = &device->balloon;

	return (struct balloon_size){
		bytes_beside(device, atomic_load(&balloon->config.num_pages)),
		bytes_beside(device, atomic_load(&balloon->config.actual)),
	};
}

void balloon_device_view(struct balloon_device *device,
			 struct balloon_view *view)
{
	struct view_call call = { device, view };

	memset(view, 0, sizeof(*view));
	view->size = balloon_device_size(device);
	/* What `actual` counts may be about to be discarded: the call waits. */
	device_thread_call(&device->thread, call_view, &call);
	view->discarded = atomic_load(&device->discarded);
	view->discard_errors = atomic_load(&device->discard_errors);
	view->discard_kept = atomic_load(&device->kept);
	view->populated = atomic_load(&device->populated);
	view->config_reads = atomic_load(&device->traffic.config_reads);
	view->config_writes = atomic_load(&device->traffic.config_writes);
	view->config_interrupts =
		atomic_load(&device->traffic.config_interrupts);
	view->queue_interrupts = atomic_load(&device->traffic.queue_interrupts);
	scoped_lock(device->lock);
	view->offered = device->virtio.offered;
	view->driver = device->virtio.status & VIRTIO_CONFIG_S_DRIVER_OK;
	view->negotiated = view->driver ? device->virtio.accepted : 0;
}

void balloon_device_arrived(struct balloon_device *device)
{
	device->source.ops->done(&device->source);
	scoped_lock(device->lock);
	virtio_pci_interrupt_all(&device->pci);
}
