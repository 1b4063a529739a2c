// SPDX-License-Identifier: MIT
/* virtio over PCI, modern transport, MSI-X. */
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <stddef.h>
#include <string.h>

#include "base/endian.h"
#include "pci/virtio_pci.h"

#define VENDOR_VIRTIO 0x1af4
#define DEVICE_MODERN 0x1040
#define REVISION_MODERN 1

#define BAR_REGISTERS 0
#define BAR_MSIX 1
#define BAR_REGISTERS_SIZE 0x4000u
#define BAR_MSIX_SIZE 0x1000u
#define BAR_MSIX_OFFSET 0x8000u /* of its initial place */

/* Areas of BAR 0, a page each. */
#define AREA_SIZE 0x1000u
#define AREA_COMMON 0u
#define AREA_ISR 1u
#define AREA_DEVICE 2u
#define AREA_NOTIFY 3u
#define NOTIFY_MULTIPLIER 4u

#define PBA_OFFSET 0x800u
#define ISR_QUEUE 1
#define ISR_CONFIG 2

static struct virtio_pci *to_virtio_pci(struct pci_device *pci)
{
	return (struct virtio_pci *)pci;
}

/* ------------------------------------------------------------- MSI-X --- */

static uint16_t msix_control(const struct virtio_pci *pci)
{
	return le16_load(pci->pci.config + pci->msix_cap + PCI_MSIX_FLAGS);
}

static bool vector_masked(const struct virtio_pci *pci, unsigned int vector)
{
	return (msix_control(pci) & PCI_MSIX_FLAGS_MASKALL) ||
	       (pci->registers.msix[vector].control &
		PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

static void raise_vector(struct virtio_pci *pci, uint16_t vector)
{
	const struct msix_entry *entry;

	/* A message is a write: without the bus there is none. */
	if (vector >= VIRTIO_PCI_VECTORS || !pci->pci.master ||
	    !(msix_control(pci) & PCI_MSIX_FLAGS_ENABLE))
		return;
	if (vector_masked(pci, vector)) {
		pci->registers.pending |= 1u << vector;
		return;
	}
	entry = &pci->registers.msix[vector];
	pci->ops->signal(pci->owner, entry->address, entry->data);
}

/* A mask may have gone: what waited behind it is delivered. */
static void deliver_pending(struct virtio_pci *pci)
{
	unsigned int vector;

	if (!(msix_control(pci) & PCI_MSIX_FLAGS_ENABLE))
		return;
	for (vector = 0; vector < VIRTIO_PCI_VECTORS; vector++) {
		if (!(pci->registers.pending & 1u << vector) ||
		    vector_masked(pci, vector))
			continue;
		pci->registers.pending &= ~(1u << vector);
		raise_vector(pci, vector);
	}
}

static uint32_t *msix_word(struct virtio_pci *pci, uint64_t offset)
{
	struct msix_entry *entry = &pci->registers.msix[offset / 16];

	switch (offset % 16) {
	case 0:
		return (uint32_t *)&entry->address;
	case 4:
		return (uint32_t *)&entry->address + 1;
	case 8:
		return &entry->data;
	default:
		return &entry->control;
	}
}

static uint32_t msix_read(struct virtio_pci *pci, uint64_t offset)
{
	if (offset < VIRTIO_PCI_VECTORS * 16)
		return *msix_word(pci, offset);
	return offset == PBA_OFFSET ? pci->registers.pending : 0;
}

static void msix_write(struct virtio_pci *pci, uint64_t offset, uint32_t value)
{
	if (offset < VIRTIO_PCI_VECTORS * 16)
		*msix_word(pci, offset) = value;
	deliver_pending(pci);
}

void virtio_pci_queue_interrupt(struct virtio_pci *pci, uint16_t queue)
{
	pci->registers.isr |= ISR_QUEUE;
	raise_vector(pci, pci->device->queue[queue].vector);
}

void virtio_pci_config_interrupt(struct virtio_pci *pci)
{
	pci->device->generation++;
	pci->registers.isr |= ISR_CONFIG;
	raise_vector(pci, pci->device->config_vector);
}

void virtio_pci_interrupt_all(struct virtio_pci *pci)
{
	unsigned int queue;

	if (!(pci->device->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	virtio_pci_config_interrupt(pci);
	for (queue = 0; queue < pci->device->queues; queue++)
		if (pci->device->queue[queue].enabled)
			virtio_pci_queue_interrupt(pci, queue);
}

/* ------------------------------------------- common configuration --- */

static struct virtio_device_queue *selected_queue(struct virtio_pci *pci)
{
	uint16_t queue = pci->registers.queue_select;

	return queue < pci->device->queues ? &pci->device->queue[queue] : NULL;
}

static uint32_t feature_word(uint64_t features, uint32_t select)
{
	return select > 1 ? 0 : (uint32_t)(features >> (32 * select));
}

static uint32_t queue_read(struct virtio_pci *pci, uint64_t offset)
{
	const struct virtio_device_queue *queue = selected_queue(pci);

	if (!queue)
		return 0;
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return queue->layout.size;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return queue->vector;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return queue->enabled;
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return pci->registers.queue_select;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		return queue->layout.desc.value;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return queue->layout.desc.value >> 32;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		return queue->layout.avail.value;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return queue->layout.avail.value >> 32;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		return queue->layout.used.value;
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return queue->layout.used.value >> 32;
	default:
		return 0;
	}
}

static uint32_t common_read(struct virtio_pci *pci, uint64_t offset)
{
	struct virtio_pci_registers *r = &pci->registers;
	struct virtio_device *device = pci->device;

	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return r->device_feature_select;
	case VIRTIO_PCI_COMMON_DF:
		return feature_word(device->offered, r->device_feature_select);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return r->driver_feature_select;
	case VIRTIO_PCI_COMMON_GF:
		return feature_word(device->accepted, r->driver_feature_select);
	case VIRTIO_PCI_COMMON_MSIX:
		return device->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ:
		return device->queues;
	case VIRTIO_PCI_COMMON_STATUS:
		return device->status;
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return device->generation;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return r->queue_select;
	default:
		return queue_read(pci, offset);
	}
}

static uint16_t checked_vector(uint32_t value)
{
	return value < VIRTIO_PCI_VECTORS ? value : VIRTIO_NO_VECTOR;
}

static void set_half(uint64_t *value, bool high, uint32_t half)
{
	unsigned int shift = high ? 32 : 0;

	*value = (*value & ~(0xffffffffull << shift)) | (uint64_t)half << shift;
}

/* A queue that is enabled keeps its place until the device is reset. */
static void queue_write(struct virtio_pci *pci, uint64_t offset, uint32_t value)
{
	struct virtio_device_queue *queue = selected_queue(pci);

	if (!queue)
		return;
	if (offset == VIRTIO_PCI_COMMON_Q_MSIX)
		queue->vector = checked_vector(value);
	if (queue->enabled || pci->device->reset_pending)
		return;
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		if (value && value <= pci->device->queue_size)
			queue->layout.size = value;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		queue->enabled = value == 1;
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_half(&queue->layout.desc.value,
			 offset == VIRTIO_PCI_COMMON_Q_DESCHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_half(&queue->layout.avail.value,
			 offset == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_half(&queue->layout.used.value,
			 offset == VIRTIO_PCI_COMMON_Q_USEDHI, value);
		break;
	default:
		break;
	}
}

static void common_write(struct virtio_pci *pci, uint64_t offset,
			 uint32_t value)
{
	struct virtio_pci_registers *r = &pci->registers;

	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		r->device_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		r->driver_feature_select = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		virtio_device_set_features(pci->device,
					   r->driver_feature_select, value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		pci->device->config_vector = checked_vector(value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		virtio_device_set_status(pci->device, value);
		/* A reset that needed no thread is done already. */
		if (!pci->device->status)
			virtio_pci_device_reset(pci);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		r->queue_select = value;
		break;
	default:
		queue_write(pci, offset, value);
		break;
	}
}

/* --------------------------------------------------------------- BARs --- */

static uint8_t read_isr(struct virtio_pci *pci)
{
	uint8_t isr = pci->registers.isr;

	pci->registers.isr = 0;
	return isr;
}

static void registers_read(struct virtio_pci *pci, uint64_t offset, void *to,
			   unsigned int length)
{
	uint8_t value[4] = { 0 };

	if (offset / AREA_SIZE == AREA_DEVICE) {
		pci->device->ops->config_read(pci->device->owner,
					      offset % AREA_SIZE, to, length);
		return;
	}
	memset(to, 0, length);
	if (offset / AREA_SIZE == AREA_COMMON)
		le32_store(value, common_read(pci, offset));
	else if (offset == AREA_ISR * AREA_SIZE)
		value[0] = read_isr(pci);
	memcpy(to, value, length < 4 ? length : 4);
}

static void registers_write(struct virtio_pci *pci, uint64_t offset,
			    const void *from, unsigned int length)
{
	uint8_t value[4] = { 0 };
	uint64_t queue;

	switch (offset / AREA_SIZE) {
	case AREA_DEVICE:
		pci->device->ops->config_write(pci->device->owner,
					       offset % AREA_SIZE, from,
					       length);
		break;
	case AREA_COMMON:
		memcpy(value, from, length < 4 ? length : 4);
		common_write(pci, offset, le32_load(value));
		break;
	case AREA_NOTIFY:
		queue = offset % AREA_SIZE / NOTIFY_MULTIPLIER;
		if (queue < pci->device->queues)
			pci->device->ops->kick(pci->device->owner, queue);
		break;
	default:
		break;
	}
}

static void bar_read(struct pci_device *device, unsigned int bar,
		     uint64_t offset, void *to, unsigned int length)
{
	struct virtio_pci *pci = to_virtio_pci(device);
	uint8_t value[12] = { 0 }; /* an access may be odd and up to 7 long */

	/* 64-bit fields are two 32-bit accesses (4.1.3.1). */
	if (length == 8) {
		bar_read(device, bar, offset, to, 4);
		bar_read(device, bar, offset + 4, (uint8_t *)to + 4, 4);
		return;
	}
	if (bar == BAR_REGISTERS) {
		registers_read(pci, offset, to, length);
		return;
	}
	le32_store(value, msix_read(pci, offset & ~3ull));
	memcpy(to, value + (offset & 3), length);
}

static void bar_write(struct pci_device *device, unsigned int bar,
		      uint64_t offset, const void *from, unsigned int length)
{
	struct virtio_pci *pci = to_virtio_pci(device);

	if (length == 8) {
		bar_write(device, bar, offset, from, 4);
		bar_write(device, bar, offset + 4, (const uint8_t *)from + 4,
			  4);
		return;
	}
	if (bar == BAR_REGISTERS)
		registers_write(pci, offset, from, length);
	else if (length == 4 && !(offset & 3))
		msix_write(pci, offset, le32_load(from));
}

static void bar_moved(struct pci_device *device, unsigned int bar,
		      uint64_t address)
{
	struct virtio_pci *pci = to_virtio_pci(device);

	if (bar == BAR_REGISTERS)
		pci->ops->notify_moved(pci->owner,
				       address ? address + AREA_NOTIFY *
								 AREA_SIZE :
						 0);
}

static void master_changed(struct pci_device *device, bool on)
{
	struct virtio_pci *pci = to_virtio_pci(device);

	pci->ops->bus_changed(pci->owner, on);
}

/* ------------------------------------------ configuration space --- */

/* The window into BAR 0 through configuration space (4.1.4.9). */
static bool window(const struct virtio_pci *pci, uint64_t *offset,
		   uint32_t *length)
{
	const uint8_t *cap = pci->pci.config + pci->pci_cfg_cap;

	*offset = le32_load(cap + offsetof(struct virtio_pci_cap, offset));
	*length = le32_load(cap + offsetof(struct virtio_pci_cap, length));
	return cap[offsetof(struct virtio_pci_cap, bar)] == BAR_REGISTERS &&
	       (*length == 1 || *length == 2 || *length == 4) &&
	       *offset <= BAR_REGISTERS_SIZE - *length &&
	       !(*offset & (*length - 1));
}

static bool touches(unsigned int offset, unsigned int length, unsigned int at,
		    unsigned int size)
{
	return offset < at + size && at < offset + length;
}

static void config_reading(struct pci_device *device, unsigned int offset,
			   unsigned int length)
{
	struct virtio_pci *pci = to_virtio_pci(device);
	unsigned int data = pci->pci_cfg_cap +
			    offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
	uint64_t at;
	uint32_t size;

	if (touches(offset, length, data, 4) && window(pci, &at, &size))
		bar_read(device, BAR_REGISTERS, at, device->config + data,
			 size);
}

static void config_written(struct pci_device *device, unsigned int offset,
			   unsigned int length)
{
	struct virtio_pci *pci = to_virtio_pci(device);
	unsigned int data = pci->pci_cfg_cap +
			    offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
	uint64_t at;
	uint32_t size;

	if (touches(offset, length, pci->msix_cap + PCI_MSIX_FLAGS, 2))
		deliver_pending(pci);
	if (touches(offset, length, data, 4) && window(pci, &at, &size))
		bar_write(device, BAR_REGISTERS, at, device->config + data,
			  size);
}

static const struct pci_device_ops pci_ops = {
	.bar_moved = bar_moved,
	.master_changed = master_changed,
	.bar_read = bar_read,
	.bar_write = bar_write,
	.config_written = config_written,
	.config_reading = config_reading,
};

static unsigned int add_area(struct virtio_pci *pci, uint8_t type,
			     unsigned int area, unsigned int length)
{
	unsigned int at = pci_device_add_capability(&pci->pci, PCI_CAP_ID_VNDR,
						    length);
	uint8_t *cap = pci->pci.config + at;

	cap[offsetof(struct virtio_pci_cap, cap_len)] = length;
	cap[offsetof(struct virtio_pci_cap, cfg_type)] = type;
	cap[offsetof(struct virtio_pci_cap, bar)] = BAR_REGISTERS;
	le32_store(cap + offsetof(struct virtio_pci_cap, offset),
		   area * AREA_SIZE);
	le32_store(cap + offsetof(struct virtio_pci_cap, length), AREA_SIZE);
	return at;
}

static void add_capabilities(struct virtio_pci *pci)
{
	uint8_t *config = pci->pci.config, *writable = pci->pci.writable;
	unsigned int at;

	add_area(pci, VIRTIO_PCI_CAP_COMMON_CFG, AREA_COMMON,
		 sizeof(struct virtio_pci_cap));
	add_area(pci, VIRTIO_PCI_CAP_ISR_CFG, AREA_ISR,
		 sizeof(struct virtio_pci_cap));
	add_area(pci, VIRTIO_PCI_CAP_DEVICE_CFG, AREA_DEVICE,
		 sizeof(struct virtio_pci_cap));
	at = add_area(pci, VIRTIO_PCI_CAP_NOTIFY_CFG, AREA_NOTIFY,
		      sizeof(struct virtio_pci_notify_cap));
	le32_store(config + at + offsetof(struct virtio_pci_notify_cap,
					  notify_off_multiplier),
		   NOTIFY_MULTIPLIER);
	at = add_area(pci, VIRTIO_PCI_CAP_PCI_CFG, AREA_COMMON,
		      sizeof(struct virtio_pci_cfg_cap));
	writable[at + offsetof(struct virtio_pci_cap, bar)] = 0xff;
	memset(writable + at + offsetof(struct virtio_pci_cap, offset), 0xff,
	       sizeof(struct virtio_pci_cfg_cap) -
		       offsetof(struct virtio_pci_cap, offset));
	pci->pci_cfg_cap = at;

	at = pci_device_add_capability(&pci->pci, PCI_CAP_ID_MSIX,
				       PCI_CAP_MSIX_SIZEOF);
	le16_store(config + at + PCI_MSIX_FLAGS, VIRTIO_PCI_VECTORS - 1);
	le16_store(writable + at + PCI_MSIX_FLAGS,
		   PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	le32_store(config + at + PCI_MSIX_TABLE, BAR_MSIX);
	le32_store(config + at + PCI_MSIX_PBA, PBA_OFFSET | BAR_MSIX);
	pci->msix_cap = at;
}

static void reset_registers(struct virtio_pci *pci)
{
	unsigned int vector;

	memset(&pci->registers, 0, sizeof(pci->registers));
	for (vector = 0; vector < VIRTIO_PCI_VECTORS; vector++)
		pci->registers.msix[vector].control =
			PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

void virtio_pci_init(struct virtio_pci *pci, struct virtio_device *device,
		     uint32_t class_code, uint32_t bars,
		     const struct virtio_pci_ops *ops, void *owner)
{
	memset(pci, 0, sizeof(*pci));
	pci->device = device;
	pci->ops = ops;
	pci->owner = owner;
	pci_device_init(&pci->pci, VENDOR_VIRTIO, DEVICE_MODERN + device->id,
			REVISION_MODERN, class_code, &pci_ops);
	le16_store(pci->pci.config + PCI_SUBSYSTEM_VENDOR_ID, VENDOR_VIRTIO);
	le16_store(pci->pci.config + PCI_SUBSYSTEM_ID,
		   DEVICE_MODERN + device->id);
	pci_device_add_bar(&pci->pci, BAR_REGISTERS, BAR_REGISTERS_SIZE, bars);
	pci_device_add_bar(&pci->pci, BAR_MSIX, BAR_MSIX_SIZE,
			   bars + BAR_MSIX_OFFSET);
	add_capabilities(pci);
	/* Decoded from the start, so that a guest without a PCI allocator of
	 * its own finds the device in place. */
	pci->pci.config[PCI_COMMAND] = PCI_COMMAND_MEMORY;
	memcpy(pci->initial, pci->pci.config, sizeof(pci->initial));
	reset_registers(pci);
	pci_device_decode(&pci->pci);
}

void virtio_pci_reset(struct virtio_pci *pci)
{
	reset_registers(pci);
	pci_device_reset(&pci->pci, pci->initial);
}

void virtio_pci_device_reset(struct virtio_pci *pci)
{
	pci->registers.device_feature_select = 0;
	pci->registers.driver_feature_select = 0;
	pci->registers.queue_select = 0;
	pci->registers.isr = 0;
}
