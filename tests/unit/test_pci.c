// SPDX-License-Identifier: MIT
/*
 * PCI configuration (mechanism #1): its ports and registers, what is decoded
 * where, and accesses no driver would make.
 */
#include "pci_fixture.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identification),
		TEST(test_ports_of_configuration),
		TEST(test_capabilities),
		TEST(test_size_of_bars),
		TEST(test_decoding),
		TEST(test_accesses_beside_a_bar),
		TEST(test_every_offset_and_length),
		TEST(test_unaligned_reads_of_the_table),
		TEST(test_every_byte_of_configuration),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
