// SPDX-License-Identifier: MIT
/*
 * virtio behind PCI (VIRTIO 1.3 section 4.1): common configuration, interrupts,
 * and the window in configuration space.
 */
#include "pci_fixture.h"

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
	assert_int_equal(status_changes, 0);
	common_set(VIRTIO_PCI_COMMON_STATUS, 0, 1);
	assert_int_equal(status_changes, 1);
	assert_int_equal(common(VIRTIO_PCI_COMMON_STATUS, 1), 3);
	virtio_device_reset_done(&device);
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
	device.status = VIRTIO_CONFIG_S_DRIVER_OK;
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

/* A message is a write to memory. */
static void test_no_message_without_the_bus(void **state)
{
	msix_enable(PCI_MSIX_FLAGS_ENABLE);
	assert_true(bus_given);
	msix_set(3, 0xfee01000, 0x41, false);
	device.queue[1].vector = 3;
	cfg_write(PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	assert_false(bus_given);
	virtio_pci_queue_interrupt(&pci, 1);
	assert_int_equal(signals, 0);
	cfg_write(PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
	virtio_pci_queue_interrupt(&pci, 1);
	assert_int_equal(signals, 1);
	virtio_pci_reset(&pci);
	assert_false(bus_given);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
		TEST(test_no_message_without_the_bus),
		TEST(test_masked_vectors_wait),
		TEST(test_function_mask),
		TEST(test_every_vector_after_a_move),
		TEST(test_reset_of_the_transport),
		TEST(test_window),
		TEST(test_window_that_cannot_be),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
