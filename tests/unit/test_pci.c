// SPDX-License-Identifier: MIT
/*
 * PCI configuration (mechanism #1) and virtio behind it (VIRTIO 1.3 section
 * 4.1): registers, interrupts, and accesses no driver would make.
 */
#include "unit.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>

#include "base/endian.h"
#include "pci/virtio_pci.h"

#define BARS 0xe0000000u
#define MSIX_BAR (BARS + 0x8000)
#define SLOT 3
#define QUEUES 5
#define QUEUE_SIZE 128
#define ISR 0x1000u
#define DEVICE 0x2000u
#define NOTIFY 0x3000u
#define PBA 0x800u
#define VERSION_1 (1ull << VIRTIO_F_VERSION_1)
#define OFFERED (VERSION_1 | 0x5)

static struct pci_bus bus;
static struct pci_device bridge;
static struct virtio_device device;
static struct virtio_pci pci;

/* What came out. */
static unsigned int signals, kicks, moves, changes;
static uint64_t signal_address, notify_at;
static uint32_t signal_data;
static uint16_t kicked;
static uint8_t config[64];

static bool accepts(void *owner, uint64_t features)
{
	return true;
}

static void status_changed(void *owner)
{
	changes++;
}

static void config_read(void *owner, uint32_t offset, void *to,
			uint32_t length)
{
	uint32_t i;

	assert_in_range(length, 1, 7);
	for (i = 0; i < length; i++)
		((uint8_t *)to)[i] = offset + i < sizeof(config) ?
					     config[offset + i] : 0;
}

static void config_write(void *owner, uint32_t offset, const void *from,
			 uint32_t length)
{
	uint32_t i;

	for (i = 0; i < length; i++)
		if (offset + i < sizeof(config))
			config[offset + i] = ((const uint8_t *)from)[i];
}

static void kick(void *owner, uint16_t queue)
{
	assert_true(queue < QUEUES);
	kicked = queue;
	kicks++;
}

static const struct virtio_device_ops device_ops = {
	.accepts = accepts,
	.status_changed = status_changed,
	.config_read = config_read,
	.config_write = config_write,
	.kick = kick,
};

static void on_signal(void *owner, uint64_t address, uint32_t data)
{
	signals++;
	signal_address = address;
	signal_data = data;
}

static void on_notify_moved(void *owner, uint64_t address)
{
	moves++;
	notify_at = address;
}

static const struct virtio_pci_ops pci_ops = {
	.signal = on_signal,
	.notify_moved = on_notify_moved,
};

static int setup(void **state)
{
	signals = kicks = moves = changes = 0;
	notify_at = 0;
	memset(config, 0, sizeof(config));
	memset(&bus, 0, sizeof(bus));
	virtio_device_init(&device, 5, OFFERED, QUEUES, QUEUE_SIZE,
			   &device_ops, NULL);
	virtio_pci_init(&pci, &device, 0x058000, BARS, &pci_ops, NULL);
	pci_device_init(&bridge, 0x8086, 0x1234, 0, 0x060000, NULL);
	bus.device[0] = &bridge;
	bus.device[SLOT] = &pci.pci;
	return 0;
}

/* ------------------------------------------------- what a driver does --- */

static void port_write(uint16_t port, uint32_t value, unsigned int length)
{
	uint8_t bytes[4];

	le32_store(bytes, value);
	pci_bus_port_write(&bus, port, bytes, length);
}

static uint32_t port_read(uint16_t port, unsigned int length)
{
	uint8_t bytes[4] = { 0 };

	pci_bus_port_read(&bus, port, bytes, length);
	return le32_load(bytes);
}

static void select_register(unsigned int slot, unsigned int at)
{
	port_write(0xcf8, 0x80000000u | slot << 11 | (at & 0xfc), 4);
}

static uint32_t cfg_read(unsigned int at, unsigned int length)
{
	select_register(SLOT, at);
	return port_read(0xcfc + (at & 3), length);
}

static void cfg_write(unsigned int at, uint32_t value, unsigned int length)
{
	select_register(SLOT, at);
	port_write(0xcfc + (at & 3), value, length);
}

static uint64_t mmio_read(uint64_t address, unsigned int length)
{
	uint8_t bytes[8] = { 0 };

	pci_bus_mmio_read(&bus, address, bytes, length);
	return le64_load(bytes);
}

static void mmio_write(uint64_t address, uint64_t value, unsigned int length)
{
	uint8_t bytes[8];

	le64_store(bytes, value);
	pci_bus_mmio_write(&bus, address, bytes, length);
}

static uint32_t common(unsigned int at, unsigned int length)
{
	return mmio_read(BARS + at, length);
}

static void common_set(unsigned int at, uint32_t value, unsigned int length)
{
	mmio_write(BARS + at, value, length);
}

static void msix_set(unsigned int vector, uint64_t address, uint32_t data,
		     bool masked)
{
	uint64_t at = MSIX_BAR + vector * 16;

	mmio_write(at, address, 4);
	mmio_write(at + 4, address >> 32, 4);
	mmio_write(at + 8, data, 4);
	mmio_write(at + 12, masked, 4);
}

static void msix_enable(uint16_t flags)
{
	cfg_write(pci.msix_cap + PCI_MSIX_FLAGS, flags, 2);
}

/* ------------------------------------------------- configuration space --- */

static void test_identification(void **state)
{
	assert_int_equal(cfg_read(PCI_VENDOR_ID, 4), 0x10451af4);
	assert_int_equal(cfg_read(PCI_REVISION_ID, 1), 1);
	assert_int_equal(cfg_read(PCI_CLASS_REVISION, 4) >> 8, 0x058000);
	assert_int_equal(cfg_read(PCI_SUBSYSTEM_ID, 2), 0x1045);
	assert_int_equal(cfg_read(PCI_HEADER_TYPE, 1), 0);
	/* Read-only. */
	cfg_write(PCI_VENDOR_ID, 0xffffffff, 4);
	cfg_write(PCI_STATUS, 0xffff, 2);
	assert_int_equal(cfg_read(PCI_VENDOR_ID, 4), 0x10451af4);
	assert_int_equal(cfg_read(PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
}

static void test_ports_of_configuration(void **state)
{
	/* The latch is read and written whole. */
	port_write(0xcf8, 0x80001800, 4);
	assert_int_equal(port_read(0xcf8, 4), 0x80001800);
	port_write(0xcf8, 0, 1);
	port_write(0xcf8, 0, 2);
	port_write(0xcf9, 0x06, 1); /* a PC resets by this */
	assert_int_equal(bus.address, 0x80001800);
	assert_int_equal(port_read(0xcf8, 1), 0xff);
	assert_int_equal(port_read(0xcfa, 2), 0xffff);
	/* Bytes and words of the register it selects. */
	assert_int_equal(port_read(0xcfc, 1), 0xf4);
	assert_int_equal(port_read(0xcfd, 1), 0x1a);
	assert_int_equal(port_read(0xcfe, 2), 0x1045);
	assert_int_equal(port_read(0xcff, 1), 0x10);
	/* Over the register's end. */
	assert_int_equal(port_read(0xcfd, 4), 0xffffffff);
	assert_int_equal(port_read(0xcff, 2), 0xffff);
	/* Not enabled; another bus, function, slot; nobody there. */
	port_write(0xcf8, 0x00001800, 4);
	assert_int_equal(port_read(0xcfc, 4), 0xffffffff);
	port_write(0xcf8, 0x80011800, 4);
	assert_int_equal(port_read(0xcfc, 4), 0xffffffff);
	port_write(0xcf8, 0x80001900, 4);
	assert_int_equal(port_read(0xcfc, 4), 0xffffffff);
	port_write(0xcf8, 0x8000f800, 4);
	assert_int_equal(port_read(0xcfc, 4), 0xffffffff);
	port_write(0xcfc, 0x12345678, 4);
	select_register(1, 0);
	assert_int_equal(port_read(0xcfc, 4), 0xffffffff);
	port_write(0xcfc, 0x12345678, 4);
	/* A device that is configuration only. */
	select_register(0, 0);
	assert_int_equal(port_read(0xcfc, 4), 0x12348086);
	select_register(0, PCI_COMMAND);
	port_write(0xcfc, 0xffff, 2);
	assert_int_equal(port_read(0xcfc, 2), 0x406);
}

/* The capability list, walked as Linux does. */
static unsigned int find_capability(uint8_t id, uint8_t type)
{
	unsigned int at = cfg_read(PCI_CAPABILITY_LIST, 1), steps = 0;

	for (; at; at = cfg_read(at + 1, 1)) {
		assert_true(at >= 0x40 && !(at & 3));
		assert_true(steps++ < 48);
		if (cfg_read(at, 1) == id &&
		    (id != PCI_CAP_ID_VNDR || cfg_read(at + 3, 1) == type))
			return at;
	}
	return 0;
}

static void test_capabilities(void **state)
{
	static const struct {
		uint8_t type;
		uint32_t offset;
	} areas[] = {
		{ VIRTIO_PCI_CAP_COMMON_CFG, 0 },
		{ VIRTIO_PCI_CAP_ISR_CFG, ISR },
		{ VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE },
		{ VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY },
	};
	unsigned int at;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(areas); i++) {
		at = find_capability(PCI_CAP_ID_VNDR, areas[i].type);
		assert_int_not_equal(at, 0);
		assert_int_equal(cfg_read(at + 4, 1), 0); /* BAR */
		assert_int_equal(cfg_read(at + 8, 4), areas[i].offset);
		assert_int_equal(cfg_read(at + 12, 4), 0x1000);
	}
	at = find_capability(PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_NOTIFY_CFG);
	assert_int_equal(cfg_read(at + 2, 1), 20);
	assert_int_equal(cfg_read(at + 16, 4), 4);
	assert_int_not_equal(find_capability(PCI_CAP_ID_VNDR,
					     VIRTIO_PCI_CAP_PCI_CFG), 0);
	at = find_capability(PCI_CAP_ID_MSIX, 0);
	assert_int_equal(at, pci.msix_cap);
	assert_int_equal(cfg_read(at + 2, 2), VIRTIO_PCI_VECTORS - 1);
	assert_int_equal(cfg_read(at + 4, 4), 1);
	assert_int_equal(cfg_read(at + 8, 4), PBA | 1);
}

static void test_size_of_bars(void **state)
{
	unsigned int bar;

	assert_int_equal(cfg_read(PCI_BASE_ADDRESS_0, 4), BARS);
	assert_int_equal(cfg_read(PCI_BASE_ADDRESS_1, 4), MSIX_BAR);
	cfg_write(PCI_BASE_ADDRESS_0, 0xffffffff, 4);
	assert_int_equal(cfg_read(PCI_BASE_ADDRESS_0, 4), 0xffffc000);
	/* Asking is not moving. */
	assert_int_equal(pci.pci.bar_at[0], 0);
	cfg_write(PCI_BASE_ADDRESS_0, BARS, 4);
	assert_int_equal(pci.pci.bar_at[0], BARS);
	cfg_write(PCI_BASE_ADDRESS_1, 0xffffffff, 4);
	assert_int_equal(cfg_read(PCI_BASE_ADDRESS_1, 4), 0xfffff000);
	/* The others are not there. */
	for (bar = 2; bar < 6; bar++) {
		cfg_write(PCI_BASE_ADDRESS_0 + 4 * bar, 0xffffffff, 4);
		assert_int_equal(cfg_read(PCI_BASE_ADDRESS_0 + 4 * bar, 4),
				 0);
	}
	cfg_write(PCI_ROM_ADDRESS, 0xffffffff, 4);
	assert_int_equal(cfg_read(PCI_ROM_ADDRESS, 4), 0);
}

static void test_decoding(void **state)
{
	assert_int_equal(notify_at, BARS + NOTIFY);
	assert_int_equal(common(VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	/* Off, and on. */
	cfg_write(PCI_COMMAND, 0, 2);
	assert_int_equal(notify_at, 0);
	assert_int_equal(common(VIRTIO_PCI_COMMON_NUMQ, 2), 0xffff);
	assert_int_equal(mmio_read(MSIX_BAR, 4), 0xffffffff);
	cfg_write(PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	assert_int_equal(notify_at, BARS + NOTIFY);
	assert_int_equal(common(VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	/* Elsewhere. */
	cfg_write(PCI_BASE_ADDRESS_0, 0xd0000000, 4);
	assert_int_equal(notify_at, 0xd0000000u + NOTIFY);
	assert_int_equal(common(VIRTIO_PCI_COMMON_NUMQ, 2), 0xffff);
	assert_int_equal(mmio_read(0xd0000000u + VIRTIO_PCI_COMMON_NUMQ, 2),
			 QUEUES);
	/* By bytes: in between it lies at neither place. */
	moves = 0;
	cfg_write(PCI_BASE_ADDRESS_0 + 3, 0xc1, 1);
	assert_int_equal(notify_at, 0xc1000000u + NOTIFY);
	cfg_write(PCI_BASE_ADDRESS_0 + 2, 0x0001, 2);
	assert_int_equal(cfg_read(PCI_BASE_ADDRESS_0, 4), 0x10000);
	assert_int_equal(notify_at, 0x10000 + NOTIFY);
	assert_int_equal(moves, 2);
	/* What does not move a BAR tells nobody. */
	cfg_write(PCI_INTERRUPT_LINE, 11, 1);
	cfg_write(PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	assert_int_equal(moves, 2);
	assert_int_equal(cfg_read(PCI_INTERRUPT_LINE, 1), 11);
	/* A reset puts it back. */
	virtio_pci_reset(&pci);
	assert_int_equal(notify_at, BARS + NOTIFY);
	assert_int_equal(cfg_read(PCI_INTERRUPT_LINE, 1), 0);
}

static void test_accesses_beside_a_bar(void **state)
{
	static const struct {
		uint64_t address;
		unsigned int length;
		bool hit;
	} table[] = {
		{ BARS, 1, true },
		{ BARS - 1, 1, false },
		{ BARS - 1, 2, false },
		{ BARS + 0x3fff, 1, true },
		{ BARS + 0x3ff8, 8, true },
		{ BARS + 0x3ffc, 8, false },
		{ BARS + 0x4000, 1, false },
		{ MSIX_BAR + 0xfff, 1, true },
		{ MSIX_BAR + 0xffe, 4, false },
		{ 0, 4, false },
		{ UINT64_MAX, 1, false },
		{ UINT64_MAX - 3, 8, false }, /* wraps */
		{ (1ull << 32) + BARS, 4, false },
	};
	uint8_t bytes[8];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		bool hit = pci_bus_mmio_read(&bus, table[i].address, bytes,
					     table[i].length);

		if (hit != table[i].hit)
			print_error("%#llx, %u\n",
				    (unsigned long long)table[i].address,
				    table[i].length);
		assert_int_equal(hit, table[i].hit);
		if (!hit)
			assert_int_equal(bytes[0], 0xff);
		memset(bytes, 0, sizeof(bytes));
		assert_int_equal(pci_bus_mmio_write(&bus, table[i].address,
						    bytes, table[i].length),
				 table[i].hit);
	}
}

/* ---------------------------------------------- common configuration --- */

static void test_features(void **state)
{
	common_set(VIRTIO_PCI_COMMON_DFSELECT, 0, 4);
	assert_int_equal(common(VIRTIO_PCI_COMMON_DF, 4), 5);
	common_set(VIRTIO_PCI_COMMON_DFSELECT, 1, 4);
	assert_int_equal(common(VIRTIO_PCI_COMMON_DFSELECT, 4), 1);
	assert_int_equal(common(VIRTIO_PCI_COMMON_DF, 4), 1);
	common_set(VIRTIO_PCI_COMMON_DFSELECT, 2, 4);
	assert_int_equal(common(VIRTIO_PCI_COMMON_DF, 4), 0);
	common_set(VIRTIO_PCI_COMMON_DFSELECT, 0xffffffff, 4);
	assert_int_equal(common(VIRTIO_PCI_COMMON_DF, 4), 0);
	/* Read-only. */
	common_set(VIRTIO_PCI_COMMON_DFSELECT, 0, 4);
	common_set(VIRTIO_PCI_COMMON_DF, 0xffffffff, 4);
	assert_int_equal(common(VIRTIO_PCI_COMMON_DF, 4), 5);

	common_set(VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
	common_set(VIRTIO_PCI_COMMON_GF, 1, 4);
	common_set(VIRTIO_PCI_COMMON_GFSELECT, 0, 4);
	common_set(VIRTIO_PCI_COMMON_GF, 4, 4);
	assert_int_equal(common(VIRTIO_PCI_COMMON_GF, 4), 4);
	assert_int_equal(device.accepted, VERSION_1 | 4);
	common_set(VIRTIO_PCI_COMMON_GFSELECT, 7, 4);
	common_set(VIRTIO_PCI_COMMON_GF, 4, 4);
	assert_int_equal(common(VIRTIO_PCI_COMMON_GF, 4), 0);
	assert_int_equal(device.accepted, VERSION_1 | 4);
}

static void test_status_and_generation(void **state)
{
	uint32_t generation = common(VIRTIO_PCI_COMMON_CFGGENERATION, 1);

	common_set(VIRTIO_PCI_COMMON_STATUS, 1, 1);
	assert_int_equal(common(VIRTIO_PCI_COMMON_STATUS, 1), 1);
	common_set(VIRTIO_PCI_COMMON_STATUS, 3, 1);
	assert_int_equal(common(VIRTIO_PCI_COMMON_STATUS, 1), 3);
	common_set(VIRTIO_PCI_COMMON_STATUS, 0, 1);
	assert_int_equal(common(VIRTIO_PCI_COMMON_STATUS, 1), 0);
	virtio_pci_config_interrupt(&pci);
	assert_int_not_equal(common(VIRTIO_PCI_COMMON_CFGGENERATION, 1),
			     generation);
}

/* Registers of a queue: where, width, a value, what it reads as then. */
static const struct {
	unsigned int at, length;
	uint32_t value;
} queue_registers[] = {
	{ VIRTIO_PCI_COMMON_Q_SIZE, 2, 64 },
	{ VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0x11111000 },
	{ VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0x22 },
	{ VIRTIO_PCI_COMMON_Q_AVAILLO, 4, 0x33333000 },
	{ VIRTIO_PCI_COMMON_Q_AVAILHI, 4, 0x44 },
	{ VIRTIO_PCI_COMMON_Q_USEDLO, 4, 0x55555000 },
	{ VIRTIO_PCI_COMMON_Q_USEDHI, 4, 0x66 },
	{ VIRTIO_PCI_COMMON_Q_MSIX, 2, 3 },
};

static void test_queues(void **state)
{
	size_t i;

	common_set(VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_SELECT, 2), 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_SIZE, 2), QUEUE_SIZE);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_NOFF, 2), 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
	for (i = 0; i < ARRAY_SIZE(queue_registers); i++)
		common_set(queue_registers[i].at, queue_registers[i].value,
			   queue_registers[i].length);
	for (i = 0; i < ARRAY_SIZE(queue_registers); i++)
		assert_int_equal(common(queue_registers[i].at,
					queue_registers[i].length),
				 queue_registers[i].value);
	assert_int_equal(device.queue[2].layout.size, 64);
	assert_int_equal(device.queue[2].layout.desc.value, 0x2211111000);
	assert_int_equal(device.queue[2].layout.avail.value, 0x4433333000);
	assert_int_equal(device.queue[2].layout.used.value, 0x6655555000);
	/* Not another one's. */
	assert_int_equal(device.queue[1].layout.desc.value, 0);
	/* Sizes that cannot be. */
	common_set(VIRTIO_PCI_COMMON_Q_SIZE, 0, 2);
	common_set(VIRTIO_PCI_COMMON_Q_SIZE, QUEUE_SIZE + 1, 2);
	common_set(VIRTIO_PCI_COMMON_Q_SIZE, 0xffff, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_SIZE, 2), 64);
	/* Only 1 enables. */
	common_set(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	common_set(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

static void test_enabled_queue_keeps_its_place(void **state)
{
	size_t i;

	common_set(VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	for (i = 0; i < ARRAY_SIZE(queue_registers); i++)
		common_set(queue_registers[i].at, queue_registers[i].value,
			   queue_registers[i].length);
	common_set(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	for (i = 0; i < ARRAY_SIZE(queue_registers); i++)
		common_set(queue_registers[i].at, 5, queue_registers[i].length);
	common_set(VIRTIO_PCI_COMMON_Q_ENABLE, 0, 2);
	for (i = 0; i < ARRAY_SIZE(queue_registers); i++)
		assert_int_equal(common(queue_registers[i].at,
					queue_registers[i].length),
				 queue_registers[i].at ==
						 VIRTIO_PCI_COMMON_Q_MSIX ?
					 5 : queue_registers[i].value);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

static void test_queue_that_does_not_exist(void **state)
{
	size_t i;

	common_set(VIRTIO_PCI_COMMON_Q_SELECT, QUEUES, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	for (i = 0; i < ARRAY_SIZE(queue_registers); i++) {
		common_set(queue_registers[i].at, queue_registers[i].value,
			   queue_registers[i].length);
		assert_int_equal(common(queue_registers[i].at,
					queue_registers[i].length), 0);
	}
	common_set(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_false(device.queue[QUEUES].enabled);
	common_set(VIRTIO_PCI_COMMON_Q_SELECT, 0xffff, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_NOFF, 2), 0);
}

/* Until a reset is carried out nothing may be set up. */
static void test_queue_while_a_reset_is_pending(void **state)
{
	device.activated = true;
	common_set(VIRTIO_PCI_COMMON_STATUS, 0, 1);
	assert_true(device.reset_pending);
	common_set(VIRTIO_PCI_COMMON_Q_DESCLO, 0x1000, 4);
	common_set(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
}

static void test_64_bit_accesses(void **state)
{
	mmio_write(BARS + VIRTIO_PCI_COMMON_Q_DESCLO, 0x123456789abcd000, 8);
	assert_int_equal(device.queue[0].layout.desc.value,
			 0x123456789abcd000);
	assert_int_equal(mmio_read(BARS + VIRTIO_PCI_COMMON_Q_DESCLO, 8),
			 0x123456789abcd000);
	mmio_write(MSIX_BAR + 16, 0xfee0000012345678, 8);
	assert_int_equal(mmio_read(MSIX_BAR + 16, 8), 0xfee0000012345678);
	assert_int_equal(pci.registers.msix[1].address, 0xfee0000012345678);
}

static void test_kicks(void **state)
{
	unsigned int queue;

	for (queue = 0; queue < QUEUES; queue++) {
		mmio_write(BARS + NOTIFY + 4 * queue, queue, 2);
		assert_int_equal(kicked, queue);
	}
	assert_int_equal(kicks, QUEUES);
	mmio_write(BARS + NOTIFY + 4 * QUEUES, QUEUES, 2);
	mmio_write(BARS + NOTIFY + 0xffc, 0, 4);
	assert_int_equal(kicks, QUEUES);
	assert_int_equal(mmio_read(BARS + NOTIFY, 4), 0);
}

static void test_device_configuration(void **state)
{
	mmio_write(BARS + DEVICE + 4, 0x11223344, 4);
	assert_int_equal(mmio_read(BARS + DEVICE + 4, 4), 0x11223344);
	assert_int_equal(mmio_read(BARS + DEVICE + 5, 1), 0x33);
	assert_int_equal(mmio_read(BARS + DEVICE + 6, 2), 0x1122);
	assert_int_equal(mmio_read(BARS + DEVICE + 0xff8, 8), 0);
}

/* ----------------------------------------------------------- interrupts --- */

static void test_vectors(void **state)
{
	common_set(VIRTIO_PCI_COMMON_MSIX, 0, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_MSIX, 2), 0);
	common_set(VIRTIO_PCI_COMMON_MSIX, VIRTIO_PCI_VECTORS, 2);
	/* Not to be had: the driver reads that. */
	assert_int_equal(common(VIRTIO_PCI_COMMON_MSIX, 2), 0xffff);
	common_set(VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	common_set(VIRTIO_PCI_COMMON_Q_MSIX, 15, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_MSIX, 2), 15);
	common_set(VIRTIO_PCI_COMMON_Q_MSIX, 16, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);

	msix_enable(PCI_MSIX_FLAGS_ENABLE);
	msix_set(3, 0xfee01000, 0x41, false);
	virtio_pci_queue_interrupt(&pci, 1); /* no vector */
	assert_int_equal(signals, 0);
	common_set(VIRTIO_PCI_COMMON_Q_MSIX, 3, 2);
	virtio_pci_queue_interrupt(&pci, 1);
	assert_int_equal(signals, 1);
	assert_int_equal(signal_address, 0xfee01000);
	assert_int_equal(signal_data, 0x41);
	common_set(VIRTIO_PCI_COMMON_MSIX, 3, 2);
	virtio_pci_config_interrupt(&pci);
	assert_int_equal(signals, 2);
	/* Off altogether: nothing, and nothing is remembered. */
	msix_enable(0);
	virtio_pci_config_interrupt(&pci);
	msix_enable(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(signals, 2);
}

static void test_isr(void **state)
{
	assert_int_equal(mmio_read(BARS + ISR, 1), 0);
	virtio_pci_queue_interrupt(&pci, 0);
	virtio_pci_config_interrupt(&pci);
	assert_int_equal(mmio_read(BARS + ISR + 1, 1), 0);
	assert_int_equal(mmio_read(BARS + ISR, 1), 3);
	assert_int_equal(mmio_read(BARS + ISR, 1), 0);
}

static void test_masked_vectors_wait(void **state)
{
	common_set(VIRTIO_PCI_COMMON_MSIX, 2, 2);
	msix_enable(PCI_MSIX_FLAGS_ENABLE);
	/* Masked from power-on. */
	assert_int_equal(mmio_read(MSIX_BAR + 2 * 16 + 12, 4), 1);
	msix_set(2, 0xfee00000, 0x50, true);
	virtio_pci_config_interrupt(&pci);
	virtio_pci_config_interrupt(&pci);
	assert_int_equal(signals, 0);
	assert_int_equal(mmio_read(MSIX_BAR + PBA, 4), 1 << 2);
	/* A write elsewhere sets nothing free. */
	msix_set(1, 0xfee00000, 0x60, false);
	assert_int_equal(signals, 0);
	mmio_write(MSIX_BAR + 2 * 16 + 12, 0, 4);
	assert_int_equal(signals, 1); /* once for both */
	assert_int_equal(signal_data, 0x50);
	assert_int_equal(mmio_read(MSIX_BAR + PBA, 4), 0);
	/* The pending bits are read-only. */
	mmio_write(MSIX_BAR + PBA, 0xffffffff, 4);
	assert_int_equal(mmio_read(MSIX_BAR + PBA, 4), 0);
	assert_int_equal(signals, 1);
}

static void test_function_mask(void **state)
{
	common_set(VIRTIO_PCI_COMMON_MSIX, 2, 2);
	common_set(VIRTIO_PCI_COMMON_Q_MSIX, 5, 2);
	msix_set(2, 0xfee00000, 0x50, false);
	msix_set(5, 0xfee00000, 0x51, false);
	msix_enable(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	virtio_pci_config_interrupt(&pci);
	virtio_pci_queue_interrupt(&pci, 0);
	assert_int_equal(signals, 0);
	assert_int_equal(mmio_read(MSIX_BAR + PBA, 4), 1 << 2 | 1 << 5);
	mmio_write(MSIX_BAR + 5 * 16 + 12, 1, 4);
	/* One of the two behind its own mask as well; by the high byte. */
	cfg_write(pci.msix_cap + PCI_MSIX_FLAGS + 1,
		  PCI_MSIX_FLAGS_ENABLE >> 8, 1);
	assert_int_equal(signals, 1);
	assert_int_equal(signal_data, 0x50);
	mmio_write(MSIX_BAR + 5 * 16 + 12, 0, 4);
	assert_int_equal(signals, 2);
	assert_int_equal(signal_data, 0x51);
}

static void test_every_vector_after_a_move(void **state)
{
	unsigned int i;

	for (i = 0; i < VIRTIO_PCI_VECTORS; i++)
		msix_set(i, 0xfee00000, i, false);
	msix_enable(PCI_MSIX_FLAGS_ENABLE);
	common_set(VIRTIO_PCI_COMMON_MSIX, 0, 2);
	for (i = 0; i < 3; i++) {
		common_set(VIRTIO_PCI_COMMON_Q_SELECT, i, 2);
		common_set(VIRTIO_PCI_COMMON_Q_MSIX, i + 1, 2);
		if (i < 2)
			common_set(VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	}
	virtio_pci_interrupt_all(&pci); /* no driver */
	assert_int_equal(signals, 0);
	device.status |= VIRTIO_CONFIG_S_DRIVER_OK;
	virtio_pci_interrupt_all(&pci);
	assert_int_equal(signals, 3); /* configuration and two queues */
}

static void test_reset_of_the_transport(void **state)
{
	msix_set(2, 0xfee00000, 0x50, false);
	msix_enable(PCI_MSIX_FLAGS_ENABLE);
	common_set(VIRTIO_PCI_COMMON_Q_SELECT, 4, 2);
	common_set(VIRTIO_PCI_COMMON_DFSELECT, 1, 4);
	virtio_pci_config_interrupt(&pci);
	virtio_pci_device_reset(&pci);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_SELECT, 2), 0);
	assert_int_equal(common(VIRTIO_PCI_COMMON_DFSELECT, 4), 0);
	assert_int_equal(mmio_read(BARS + ISR, 1), 0);
	/* MSI-X is PCI's, not the device's. */
	assert_int_equal(mmio_read(MSIX_BAR + 2 * 16 + 8, 4), 0x50);
	virtio_pci_reset(&pci);
	assert_int_equal(mmio_read(MSIX_BAR + 2 * 16 + 8, 4), 0);
	assert_int_equal(mmio_read(MSIX_BAR + 2 * 16 + 12, 4), 1);
	assert_int_equal(cfg_read(pci.msix_cap + 2, 2),
			 VIRTIO_PCI_VECTORS - 1);
}

/* --------------------------------------------- window in configuration --- */

static void window(uint8_t bar, uint32_t offset, uint32_t length)
{
	cfg_write(pci.pci_cfg_cap + 4, bar, 1);
	cfg_write(pci.pci_cfg_cap + 8, offset, 4);
	cfg_write(pci.pci_cfg_cap + 12, length, 4);
}

static uint32_t through(uint32_t offset, uint32_t length)
{
	window(0, offset, length);
	return cfg_read(pci.pci_cfg_cap + 16, length);
}

static void test_window(void **state)
{
	assert_int_equal(through(VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	window(0, VIRTIO_PCI_COMMON_Q_SELECT, 2);
	cfg_write(pci.pci_cfg_cap + 16, 3, 2);
	assert_int_equal(common(VIRTIO_PCI_COMMON_Q_SELECT, 2), 3);
	assert_int_equal(through(VIRTIO_PCI_COMMON_Q_NOFF, 2), 3);
	config[8] = 0x77;
	assert_int_equal(through(DEVICE + 8, 1), 0x77);
	window(0, NOTIFY + 8, 2);
	cfg_write(pci.pci_cfg_cap + 16, 2, 2);
	assert_int_equal(kicked, 2);
	/* Also where the BARs are not decoded. */
	cfg_write(PCI_COMMAND, 0, 2);
	assert_int_equal(through(VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
}

static void test_window_that_cannot_be(void **state)
{
	static const struct {
		uint8_t bar;
		uint32_t offset, length;
	} table[] = {
		{ 1, 0, 4 }, { 6, 0, 4 }, { 255, 0, 4 },
		{ 0, 0, 0 }, { 0, 0, 3 }, { 0, 0, 8 }, { 0, 0, 0xffffffff },
		{ 0, 1, 4 }, { 0, 2, 4 }, { 0, 1, 2 },
		{ 0, 0x4000, 1 }, { 0, 0x3ffe, 4 }, { 0, 0xfffffffc, 4 },
		{ 0, 0xffffffff, 1 },
	};
	size_t i;

	/* Nothing happens, of whatever width. */
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		window(table[i].bar, table[i].offset, table[i].length);
		cfg_write(pci.pci_cfg_cap + 16, 0xffffffff, 4);
		cfg_write(pci.pci_cfg_cap + 17, 0xff, 1);
		cfg_read(pci.pci_cfg_cap + 16, 4);
		cfg_read(pci.pci_cfg_cap + 18, 2);
	}
	assert_int_equal(device.status, 0);
	assert_int_equal(kicks, 0);
}

/* ---------------------------------------------------------- the hostile --- */

/*
 * Every offset of both BARs with every length KVM can hand over, which on x86
 * is any from 1 to 8: an access over a page's end comes in two pieces.
 * Nothing but the device's registers may be read; the sanitizers watch.
 */
static void test_every_offset_and_length(void **state)
{
	static const struct {
		uint32_t base, size;
	} bars[] = { { BARS, 0x4000 }, { MSIX_BAR, 0x1000 } };
	uint8_t *bytes;
	unsigned int bar, length;
	uint64_t at;

	for (bar = 0; bar < 2; bar++) {
		for (length = 1; length <= 8; length++) {
			/* No byte more than was asked for. */
			bytes = malloc(length);
			assert_non_null(bytes);
			for (at = 0; at + length <= bars[bar].size; at++) {
				uint64_t address = bars[bar].base + at;

				memset(bytes, at, length);
				assert_true(pci_bus_mmio_write(
					&bus, address, bytes, length));
				assert_true(pci_bus_mmio_read(
					&bus, address, bytes, length));
			}
			free(bytes);
		}
	}
}

/* What is not a register of the table reads as zero, whatever the width. */
static void test_unaligned_reads_of_the_table(void **state)
{
	unsigned int at, length, i;

	for (length = 1; length <= 7; length++) {
		for (at = 0x400; at < 0x420; at++) {
			uint8_t bytes[8];

			memset(bytes, 0xee, sizeof(bytes));
			pci_bus_mmio_read(&bus, MSIX_BAR + at, bytes, length);
			for (i = 0; i < length; i++)
				assert_int_equal(bytes[i], 0);
		}
	}
}

static void test_every_byte_of_configuration(void **state)
{
	struct rng rng = rng_start("every byte of configuration");
	unsigned int i;

	for (i = 0; i < 100000; i++) {
		static const uint8_t lengths[] = { 1, 2, 4 };
		unsigned int length = lengths[rng_below(&rng, 3)];

		port_write(0xcf8 + rng_below(&rng, 8),
			   rng_chance(&rng, 1, 2) ?
				   0x80000000u | SLOT << 11 |
					   rng_below(&rng, 256) :
				   rng_next(&rng), length);
		port_read(0xcf8 + rng_below(&rng, 8), length);
		if (rng_chance(&rng, 1, 2)) {
			select_register(SLOT, rng_below(&rng, 256));
			port_write(0xcfc + rng_below(&rng, 4), rng_next(&rng),
				   length);
		}
	}
	assert_int_equal(le32_load(pci.pci.config), 0x10451af4);
	virtio_pci_reset(&pci);
	assert_int_equal(common(VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identification),
		TEST(test_ports_of_configuration),
		TEST(test_capabilities),
		TEST(test_size_of_bars),
		TEST(test_decoding),
		TEST(test_accesses_beside_a_bar),
		TEST(test_features),
		TEST(test_status_and_generation),
		TEST(test_queues),
		TEST(test_enabled_queue_keeps_its_place),
		TEST(test_queue_that_does_not_exist),
		TEST(test_queue_while_a_reset_is_pending),
		TEST(test_64_bit_accesses),
		TEST(test_kicks),
		TEST(test_device_configuration),
		TEST(test_vectors),
		TEST(test_isr),
		TEST(test_masked_vectors_wait),
		TEST(test_function_mask),
		TEST(test_every_vector_after_a_move),
		TEST(test_reset_of_the_transport),
		TEST(test_window),
		TEST(test_window_that_cannot_be),
		TEST(test_every_offset_and_length),
		TEST(test_unaligned_reads_of_the_table),
		TEST(test_every_byte_of_configuration),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
