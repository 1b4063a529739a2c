// SPDX-License-Identifier: MIT
/* The balloon's record in a stream: docs/spec/stream.md, STATE kind 5. */
#include "base/cleanup.h"
#include "machine/balloon_device_internal.h"

static void save_transport(const struct balloon_device *device,
			   struct buffer *to)
{
	const struct virtio_device *virtio = &device->virtio;
	const struct virtio_pci_registers *r = &device->pci.registers;
	unsigned int i;

	buffer_put(to, device->pci.pci.config, PCI_CONFIG_SIZE);
	buffer_put_u32(to, r->device_feature_select);
	buffer_put_u32(to, r->driver_feature_select);
	buffer_put_u32(to, r->queue_select);
	buffer_put_u32(to, r->isr);
	buffer_put_u32(to, r->pending);
	for (i = 0; i < VIRTIO_PCI_VECTORS; i++) {
		buffer_put_u64(to, r->msix[i].address);
		buffer_put_u32(to, r->msix[i].data);
		buffer_put_u32(to, r->msix[i].control);
	}
	buffer_put_u64(to, virtio->accepted);
	buffer_put_u32(to, virtio->status);
	buffer_put_u32(to, virtio->activated);
	buffer_put_u32(to, virtio->generation);
	buffer_put_u32(to, virtio->config_vector);
}

static void save_queues(const struct balloon_device *device, struct buffer *to)
{
	unsigned int i;

	for (i = 0; i < VIRTIO_DEVICE_MAX_QUEUES; i++) {
		const struct virtio_device_queue *queue =
			&device->virtio.queue[i];
		struct virtqueue_state state = { 0 };
		unsigned int kind;

		for (kind = 0; kind < BALLOON_QUEUES; kind++)
			if (balloon_queue_number(&device->balloon, kind) ==
			    (int)i)
				state = balloon_queue_state(&device->balloon,
							    kind);
		buffer_put_u32(to, queue->enabled);
		buffer_put_u32(to, queue->vector);
		buffer_put_u32(to, queue->layout.size);
		buffer_put_u64(to, queue->layout.desc.value);
		buffer_put_u64(to, queue->layout.avail.value);
		buffer_put_u64(to, queue->layout.used.value);
		buffer_put_u16(to, state.next_avail);
		buffer_put_u16(to, state.next_used);
	}
}

int balloon_device_save(struct balloon_device *device, struct buffer *to,
			struct error *err)
{
	struct balloon_state state;

	scoped_lock(device->lock);
	buffer_put_u64(to, device->virtio.offered);
	save_transport(device, to);
	save_queues(device, to);
	balloon_save(&device->balloon, &state);
	buffer_put_u32(to, state.num_pages);
	buffer_put_u32(to, state.actual);
	buffer_put_u32(to, state.free_page_hint_cmd_id);
	buffer_put_u32(to, state.poison_val);
	buffer_put_u32(to, state.report_id);
	buffer_put_u32(to, state.report_state);
	buffer_put_u32(to, state.cmd_reg);
	buffer_put_u32(to, state.cmd_id_reg);
	buffer_put_u32(to, state.sign_due);
	buffer_put_u32(to, device->balloon.broken);
	return 0;
}

static void load_transport(struct balloon_device *device,
			   struct buffer_reader *from)
{
	struct virtio_device *virtio = &device->virtio;
	struct virtio_pci_registers *r = &device->pci.registers;
	uint8_t config[PCI_CONFIG_SIZE];
	unsigned int i;

	buffer_get(from, config, sizeof(config));
	r->device_feature_select = buffer_get_u32(from);
	r->driver_feature_select = buffer_get_u32(from);
	r->queue_select = buffer_get_u32(from);
	r->isr = buffer_get_u32(from);
	r->pending = buffer_get_u32(from) & ((1u << VIRTIO_PCI_VECTORS) - 1);
	for (i = 0; i < VIRTIO_PCI_VECTORS; i++) {
		r->msix[i].address = buffer_get_u64(from);
		r->msix[i].data = buffer_get_u32(from);
		r->msix[i].control = buffer_get_u32(from);
	}
	virtio->accepted = buffer_get_u64(from);
	virtio->status = buffer_get_u32(from);
	virtio->activated = buffer_get_u32(from);
	virtio->generation = buffer_get_u32(from);
	virtio->config_vector = buffer_get_u32(from);
	/* Only what software may write is taken over. */
	for (i = 0; i < PCI_CONFIG_SIZE; i++)
		device->pci.pci.config[i] =
			(device->pci.initial[i] &
			 ~device->pci.pci.writable[i]) |
			(config[i] & device->pci.pci.writable[i]);
	pci_device_decode(&device->pci.pci);
}

static void load_queues(struct balloon_device *device,
			struct buffer_reader *from,
			struct virtqueue_state *state)
{
	unsigned int i;

	for (i = 0; i < VIRTIO_DEVICE_MAX_QUEUES; i++) {
		struct virtio_device_queue *queue = &device->virtio.queue[i];

		queue->enabled = buffer_get_u32(from);
		queue->vector = buffer_get_u32(from);
		queue->layout.size = buffer_get_u32(from);
		queue->layout.desc.value = buffer_get_u64(from);
		queue->layout.avail.value = buffer_get_u64(from);
		queue->layout.used.value = buffer_get_u64(from);
		state[i].next_avail = buffer_get_u16(from);
		state[i].next_used = buffer_get_u16(from);
	}
}

static int load_balloon(struct balloon_device *device,
			struct buffer_reader *from, struct error *err)
{
	struct balloon_state state;
	bool broken;

	state.num_pages = buffer_get_u32(from);
	state.actual = buffer_get_u32(from);
	state.free_page_hint_cmd_id = buffer_get_u32(from);
	state.poison_val = buffer_get_u32(from);
	state.report_id = buffer_get_u32(from);
	state.report_state = buffer_get_u32(from);
	state.cmd_reg = buffer_get_u32(from);
	state.cmd_id_reg = buffer_get_u32(from);
	state.sign_due = buffer_get_u32(from);
	broken = buffer_get_u32(from);
	if (from->failed || balloon_load(&device->balloon, &state) < 0)
		return error_set(err, "state of the balloon is cut short or "
				 "holds a value that cannot be");
	/* Until the driver resets it; a second move must know as well. */
	device->balloon.broken = broken;
	return 0;
}

struct load_call {
	struct balloon_device *device;
	struct virtqueue_layout layout[VIRTIO_DEVICE_MAX_QUEUES];
	struct virtqueue_state state[VIRTIO_DEVICE_MAX_QUEUES];
};

static void call_load(void *argument)
{
	struct load_call *call = argument;

	balloon_device_activate(call->device, call->layout, call->state);
}

int balloon_device_load(struct balloon_device *device,
			struct buffer_reader *from, struct error *err)
{
	struct load_call call = { .device = device };
	uint64_t offered = buffer_get_u64(from);
	bool active;

	if (offered != device->virtio.offered)
		return error_set(err, "the balloon offered features %#llx "
				 "there and offers %#llx here",
				 (unsigned long long)offered,
				 (unsigned long long)device->virtio.offered);
	pthread_mutex_lock(device->lock);
	load_transport(device, from);
	load_queues(device, from, call.state);
	balloon_device_copy_layouts(device, call.layout);
	device->features = device->virtio.accepted & offered;
	active = device->virtio.activated;
	pthread_mutex_unlock(device->lock);
	if (load_balloon(device, from, err) < 0)
		return -1;
	if (active)
		device_thread_call(&device->thread, call_load, &call);
	return 0;
}
