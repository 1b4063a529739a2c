// SPDX-License-Identifier: MIT
/*
 * The balloon of a machine, without a KVM: what its thread, its transport and
 * its record in a stream add to the balloon. docs/spec/command-register.md is
 * cited by number.
 */
#include "unit.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <sched.h>
#include <semaphore.h>
#include <unistd.h>

#include "base/endian.h"
#include "machine/balloon_device.h"
#include "memory/backing.h"
#include "virtio/vring_driver.h"

#define MEMORY BACKING_MIN_SIZE
#define FEATURES                                                              \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_BALLOON_F_FREE_PAGE_HINT | \
	 1ull << BALLOON_F_COMMAND_REGISTER)
#define MUST_TELL (1ull << VIRTIO_BALLOON_F_MUST_TELL_HOST)
#define START BALLOON_CMD_REPORT_START
#define STOP BALLOON_CMD_REPORT_STOP
#define DONE BALLOON_CMD_REPORT_DONE

#define RING_SIZE 16
#define RING_AT(queue) (0x10000ull + 0x4000ull * (queue))
#define WORD_AT 0x80000ull
#define PAGE_AT 0x500000ull

static struct machine {
	struct guest_memory memory;
	struct page_set hinted;
	struct kvm_vm vm; /* nobody's */
	pthread_mutex_t lock;
	struct balloon_device here, there;
	struct vring_driver ring[BALLOON_QUEUES];
	uint8_t status; /* as the report changed last */
	struct balloon_host_ops ops;
} machine;

static void create(struct balloon_device *device)
{
	static const struct machine_config config = {
		.memory = MEMORY,
		.balloon_options = {
			.hinting = true,
			.must_tell_host = true,
			.protocol = &balloon_protocol_command_register,
		},
	};

	assert_int_equal(balloon_device_create(device, &config, &machine.vm,
					       &machine.memory, &machine.lock,
					       0, NULL), 0);
}

static int setup(void **state)
{
	memset(&machine, 0, sizeof(machine));
	machine.vm.vm_fd = -1;
	pthread_mutex_init(&machine.lock, NULL);
	assert_int_equal(backing_create(&machine.memory, BACKING_ANONYMOUS,
					MEMORY, NULL), 0);
	machine.hinted = page_set_new(machine.memory.frames);
	create(&machine.here);
	return 0;
}

static int teardown(void **state)
{
	balloon_device_destroy(&machine.here);
	balloon_device_destroy(&machine.there);
	page_set_delete(&machine.hinted);
	backing_destroy(&machine.memory);
	return 0;
}

/* ------------------------------------------------------------ a driver --- */

/* The thread has done what was posted before. */
static void settle(struct balloon_device *device)
{
	struct balloon_view view;

	balloon_device_view(device, &view);
}

static uint32_t device_register(struct balloon_device *device, uint32_t offset)
{
	uint8_t raw[4];

	device->virtio.ops->config_read(device, offset, raw, sizeof(raw));
	return le32_load(raw);
}

static uint32_t bits(struct balloon_device *device)
{
	return device_register(device, BALLOON_CMD_REG);
}

static void acknowledge(struct balloon_device *device, uint32_t which)
{
	uint8_t raw[4];

	le32_store(raw, which);
	device->virtio.ops->config_write(device, BALLOON_CMD_REG, raw,
					 sizeof(raw));
	settle(device);
}

static uint8_t generation(struct balloon_device *device)
{
	uint8_t now;

	settle(device);
	pthread_mutex_lock(&machine.lock);
	now = device->virtio.generation;
	pthread_mutex_unlock(&machine.lock);
	return now;
}

static void lay_out(struct virtio_device *virtio, enum balloon_queue queue)
{
	int index = balloon_queue_index(queue, FEATURES,
					BALLOON_NUMBERING_PACKED);
	uint64_t at = RING_AT(queue);

	vring_driver_init(&machine.ring[queue], RING_SIZE,
			  ram(&machine.memory, at,
			      vring_driver_bytes(RING_SIZE)), FEATURES);
	virtio->queue[index].layout = (struct virtqueue_layout){
		.size = RING_SIZE,
		.desc = { at },
		.avail = { at + vring_driver_avail_offset(RING_SIZE) },
		.used = { at + vring_driver_used_offset(RING_SIZE) },
	};
	virtio->queue[index].enabled = true;
}

static void set_status(struct virtio_device *virtio, uint8_t status)
{
	pthread_mutex_lock(&machine.lock);
	virtio_device_set_status(virtio, status);
	pthread_mutex_unlock(&machine.lock);
}

static void set_bus_master(struct balloon_device *device, bool on)
{
	pthread_mutex_lock(&machine.lock);
	device->pci.pci.config[PCI_COMMAND] =
		PCI_COMMAND_MEMORY | (on ? PCI_COMMAND_MASTER : 0);
	pci_device_decode(&device->pci.pci);
	pthread_mutex_unlock(&machine.lock);
}

/* @more: features beside FEATURES */
static void begin_with(struct balloon_device *device, uint64_t more)
{
	struct virtio_device *virtio = &device->virtio;

	set_bus_master(device, true);
	virtio_device_set_features(virtio, 0, (uint32_t)(FEATURES | more));
	virtio_device_set_features(virtio, 1, (uint32_t)(FEATURES >> 32));
	lay_out(virtio, BALLOON_INFLATE);
	lay_out(virtio, BALLOON_DEFLATE);
	lay_out(virtio, BALLOON_FREE_PAGE);
	set_status(virtio, VIRTIO_CONFIG_S_ACKNOWLEDGE |
				   VIRTIO_CONFIG_S_DRIVER |
				   VIRTIO_CONFIG_S_FEATURES_OK |
				   VIRTIO_CONFIG_S_DRIVER_OK);
	settle(device);
}

static void begin_driver(struct balloon_device *device)
{
	begin_with(device, 0);
}

/* One word, as an out-buffer; returns when it has come back. */
static void send(struct balloon_device *device, enum balloon_queue queue,
		 uint32_t word)
{
	struct vring_segment segment = { WORD_AT, 4 };
	uint64_t token;

	le32_store(ram(&machine.memory, WORD_AT, 4), word);
	assert_int_equal(vring_driver_add(&machine.ring[queue], &segment, 1, 0,
					  0), 0);
	device->virtio.ops->kick(device,
				 balloon_queue_index(queue, FEATURES,
						     BALLOON_NUMBERING_PACKED));
	while (!vring_driver_take_used(&machine.ring[queue], &token, NULL))
		sched_yield();
	settle(device);
}

static void send_sign(struct balloon_device *device)
{
	send(device, BALLOON_FREE_PAGE, VIRTIO_BALLOON_CMD_ID_STOP);
}

static bool start(struct balloon_device *device)
{
	return device->source.ops->start(&device->source, &machine.hinted);
}

static void drain(struct balloon_device *device)
{
	struct free_page_progress progress;

	device->source.ops->drain(&device->source, &progress);
}

/* --------------------------------------------------------------- tests --- */

static void test_d1_each_request_moves_the_generation(void **state)
{
	struct balloon_device *device = &machine.here;
	uint8_t before;

	begin_driver(device);
	before = generation(device);
	assert_true(start(device));
	assert_int_equal(generation(device), (uint8_t)(before + 1));
	drain(device);
	assert_int_equal(generation(device), (uint8_t)(before + 2));
	/* Bits that are set already move it as well. */
	balloon_device_set_target(device, 5);
	balloon_device_set_target(device, 6);
	assert_int_equal(generation(device), (uint8_t)(before + 4));
}

static void test_d3_a_start_hears_of_the_acknowledgement(void **state)
{
	struct balloon_device *device = &machine.here;

	begin_driver(device);
	start(device);
	drain(device);
	send_sign(device);
	start(device);
	assert_int_equal(bits(device), START | STOP);
	acknowledge(device, START | STOP);
	assert_int_equal(bits(device), START);
}

static void on_report_changed(void *host, enum report_state state)
{
	machine.status = machine.here.virtio.status;
}

/* The status register does not read 0 before whoever waits has heard. */
static void test_d7_the_status_is_zero_behind_all_else(void **state)
{
	struct balloon_device *device = &machine.here;

	machine.ops = *device->balloon.ops;
	machine.ops.report_changed = on_report_changed;
	device->balloon.ops = &machine.ops;
	begin_driver(device);
	start(device);
	set_status(&device->virtio, 0);
	settle(device);
	assert_int_equal(device->virtio.status, 0);
	assert_true(machine.status & VIRTIO_CONFIG_S_DRIVER_OK);
	assert_int_equal(bits(device), 0);
}

/* A driver may write before DRIVER_OK (D35); its successor does not read it. */
static void test_a_reset_before_driver_ok(void **state)
{
	struct balloon_device *device = &machine.here;
	uint8_t word[4];

	set_status(&device->virtio, VIRTIO_CONFIG_S_ACKNOWLEDGE |
					    VIRTIO_CONFIG_S_DRIVER);
	le32_store(word, 777);
	device->virtio.ops->config_write(
		device, offsetof(struct virtio_balloon_config, actual), word,
		sizeof(word));
	set_status(&device->virtio, 0);
	settle(device);
	assert_int_equal(device->virtio.status, 0);
	assert_int_equal(device_register(device,
					 offsetof(struct virtio_balloon_config,
						  actual)), 0);
}

static void count_change(void *owner)
{
	++*(unsigned int *)owner;
}

/* Whoever follows its events hears that the balloon is empty. */
static void test_a_reset_tells_of_what_was_inflated(void **state)
{
	struct balloon_device *device = &machine.here;
	unsigned int changes = 0;

	device->actual_changed = count_change;
	device->owner = &changes;
	begin_driver(device);
	atomic_store(&device->balloon.config.actual, 5);
	set_status(&device->virtio, 0);
	settle(device);
	assert_int_equal(changes, 1);
	begin_driver(device);
	balloon_device_reset(device);
	assert_int_equal(changes, 1);
}

static void move_on(struct balloon_device *from, struct balloon_device *to)
{
	struct buffer record = { 0 };
	struct buffer_reader reader;

	device_thread_quiesce(&from->thread);
	assert_int_equal(balloon_device_save(from, &record, NULL), 0);
	create(to);
	reader = (struct buffer_reader){ record.data, record.used, false };
	assert_int_equal(balloon_device_load(to, &reader, NULL), 0);
	assert_int_equal(reader.left, 0);
	buffer_free(&record);
}

static void move(void)
{
	move_on(&machine.here, &machine.there);
}

static void test_d8_done_on_arrival(void **state)
{
	uint8_t before;

	begin_driver(&machine.here);
	start(&machine.here);
	move();
	acknowledge(&machine.there, START);
	before = generation(&machine.there);
	balloon_device_arrived(&machine.there);
	assert_int_equal(bits(&machine.there), DONE);
	assert_true((uint8_t)(generation(&machine.there) - before) > 0);
}

static void test_d9_the_record_carries_the_report(void **state)
{
	struct balloon_device *here = &machine.here, *there = &machine.there;
	struct balloon_state before, after;

	begin_driver(here);
	start(here);
	balloon_device_set_target(here, 5);
	drain(here);
	acknowledge(here, START);
	balloon_save(&here->balloon, &before);
	move();
	balloon_save(&there->balloon, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(before.sign_due, 1);
	/* The sign over there is the one that was due here. */
	send_sign(there);
	start(there);
	assert_int_equal(device_register(there, BALLOON_CMD_ID_REG),
			 before.report_id);
	acknowledge(there, STOP);
	assert_int_equal(device_register(there, BALLOON_CMD_ID_REG),
			 before.report_id + 1);
}

/* What broke it may be gone from memory meanwhile; the buffers that were in the
 * ring are not, and must not be served a second time. */
static void test_a_broken_device_stays_broken_over_two_moves(void **state)
{
	struct balloon_device *here = &machine.here, *there = &machine.there;
	struct vring_driver *ring = &machine.ring[BALLOON_INFLATE];
	struct balloon_view view;
	uint16_t index;

	begin_driver(here);
	send(here, BALLOON_INFLATE, PAGE_AT / 4096);
	*(uint8_t *)ram(&machine.memory, PAGE_AT, 1) = 0x55;
	index = ring->avail->idx;
	ring->avail->idx = index + 1000;
	here->virtio.ops->kick(here, 0);
	do
		balloon_device_view(here, &view);
	while (!view.broken);
	ring->avail->idx = index;
	move_on(here, there);
	balloon_device_destroy(here);
	move_on(there, here);
	here->virtio.ops->kick(here, 0);
	balloon_device_view(here, &view);
	assert_true(view.broken);
	assert_int_equal(*(uint8_t *)ram(&machine.memory, PAGE_AT, 1), 0x55);
	/* Its driver's reset mends it. */
	set_status(&here->virtio, 0);
	balloon_device_view(here, &view);
	assert_false(view.broken);
}

static void test_m1_discarded_pages_are_in_the_log(void **state)
{
	begin_driver(&machine.here);
	assert_false(marked(&machine.memory, PAGE_AT, 4096));
	send(&machine.here, BALLOON_INFLATE, PAGE_AT / 4096);
	assert_true(marked(&machine.memory, PAGE_AT, 4096));
}

/* ------------------------------------------------- parts of huge pages --- */

#define HELD_AT 0x600001ull /* a page's content */

static uint64_t held(struct balloon_device *device)
{
	struct balloon_view view;

	balloon_device_view(device, &view);
	return view.held;
}

static uint8_t *content(void)
{
	return ram(&machine.memory, HELD_AT, 1);
}

/* A driver that has to tell, on a host with huge pages; @ends: which are
 * transparent. */
static struct balloon_device *begin_holding(bool ends)
{
	const struct balloon_hold hold = { .block = 512, .most = 100 };
	struct balloon_device *device = &machine.here;

	balloon_hold(&device->balloon, hold, device->inside, device->held);
	device->hold_ends = ends;
	begin_with(device, MUST_TELL);
	*content() = 0xaa;
	return device;
}

static void inflate_one(struct balloon_device *device)
{
	send(device, BALLOON_INFLATE, HELD_AT / 4096);
}

static void test_held_pages_wait_no_longer_than_a_while(void **state)
{
	struct balloon_device *device = begin_holding(true);

	inflate_one(device);
	while (held(device))
		sched_yield();
	assert_int_equal(*content(), 0);
	assert_true(marked(&machine.memory, HELD_AT, 1));
}

static void expire_soon(void *argument)
{
	struct balloon_device *device = argument;

	device_thread_set_deadline(&device->thread, 1);
}

/* While the guest stands still nobody looks at the time. */
static void test_held_pages_wait_over_a_pause(void **state)
{
	struct balloon_device *device = begin_holding(false);

	inflate_one(device);
	device_thread_quiesce(&device->thread);
	device_thread_call(&device->thread, expire_soon, device);
	usleep(20000);
	assert_int_equal(held(device), 1);
	assert_int_equal(*content(), 0xaa);
	device_thread_resume(&device->thread);
	while (held(device))
		sched_yield();
	assert_int_equal(*content(), 0);
}

/* As a pause and a move's stop do: before state is saved. */
static void test_held_pages_go_when_the_guest_stops(void **state)
{
	struct balloon_device *device = begin_holding(true);

	inflate_one(device);
	device_thread_quiesce(&device->thread);
	balloon_device_flush(device);
	assert_int_equal(held(device), 0);
	assert_int_equal(*content(), 0);
	assert_true(marked(&machine.memory, HELD_AT, 1));
}

static void test_held_pages_of_hugetlb_stay(void **state)
{
	struct balloon_device *device = begin_holding(false);

	inflate_one(device);
	assert_int_equal(device->thread.deadline_ms, 0);
	device_thread_quiesce(&device->thread);
	balloon_device_flush(device);
	assert_int_equal(held(device), 1);
	assert_int_equal(*content(), 0xaa);
}

/* kexec: the next kernel uses the page, and has not reset the device yet. */
static void test_held_pages_of_a_driver_that_has_gone(void **state)
{
	struct balloon_device *device = begin_holding(false);

	inflate_one(device);
	device->hold_ends = true;
	set_bus_master(device, false);
	balloon_device_flush(device);
	assert_int_equal(held(device), 0);
	assert_int_equal(*content(), 0xaa);
	assert_false(marked(&machine.memory, HELD_AT, 1));
}

/* Its rings are the next kernel's memory: nothing that makes the device look at
 * them may, until the bus is given anew. */
static void test_rings_of_a_driver_that_has_gone(void **state)
{
	struct vring_segment segment = { WORD_AT, 4 };
	struct vring_driver *ring = &machine.ring[BALLOON_INFLATE];
	struct balloon_device *device = &machine.here;
	uint8_t *page = ram(&machine.memory, PAGE_AT, 1);
	uint64_t token;

	begin_driver(device);
	set_bus_master(device, false);
	*page = 0x55;
	le32_store(ram(&machine.memory, WORD_AT, 4), PAGE_AT / 4096);
	assert_int_equal(vring_driver_add(ring, &segment, 1, 0, 0), 0);
	device->virtio.ops->kick(device, 0);
	device_thread_quiesce(&device->thread);
	device_thread_resume(&device->thread);
	settle(device);
	assert_false(start(device));
	settle(device);
	assert_false(vring_driver_take_used(ring, &token, NULL));
	assert_int_equal(*page, 0x55);

	set_bus_master(device, true);
	while (!vring_driver_take_used(ring, &token, NULL))
		sched_yield();
	settle(device);
	assert_int_equal(*page, 0);
}

static void test_held_pages_that_are_deflated(void **state)
{
	struct balloon_device *device = begin_holding(false);

	inflate_one(device);
	send(device, BALLOON_DEFLATE, HELD_AT / 4096);
	assert_int_equal(held(device), 0);
	device->hold_ends = true;
	balloon_device_flush(device);
	assert_int_equal(*content(), 0xaa);
}

static void test_held_pages_and_a_reset(void **state)
{
	struct balloon_device *device = begin_holding(false);

	inflate_one(device);
	set_status(&device->virtio, 0);
	assert_int_equal(held(device), 0);
	assert_int_equal(*content(), 0xaa);
}

/* ------------------------------------------------------------- its view --- */

/* `actual` is whatever the guest wrote. */
static void test_a_guest_that_has_more_in_its_balloon_than_it_has(void **state)
{
	struct balloon_device *device = &machine.here;

	atomic_store(&device->balloon.config.actual, UINT32_MAX);
	balloon_device_set_target(device, MEMORY / 4096 + 1);
	assert_int_equal(balloon_device_size(device).actual, 0);
	assert_int_equal(balloon_device_size(device).target, 0);
	atomic_store(&device->balloon.config.actual, MEMORY / 4096 - 1);
	assert_int_equal(balloon_device_size(device).actual, 4096);
}

static sem_t discarding;

/* A drain whose buffer is back already, until somebody asks. */
static void discard_slowly(void *argument)
{
	struct balloon_device *device = argument;
	bool asked = false;

	sem_post(&discarding);
	while (!asked) {
		sched_yield();
		pthread_mutex_lock(&device->thread.lock);
		asked = device->thread.calls;
		pthread_mutex_unlock(&device->thread.lock);
	}
	atomic_fetch_add(&device->discarded, 5);
}

static void *drain_slowly(void *argument)
{
	struct balloon_device *device = argument;

	device_thread_call(&device->thread, discard_slowly, device);
	return NULL;
}

/* Who has seen `actual` sees what was discarded for it, too. */
static void test_a_view_waits_for_what_is_discarded(void **state)
{
	struct balloon_view view;
	pthread_t thread;

	sem_init(&discarding, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, drain_slowly,
					&machine.here), 0);
	sem_wait(&discarding);
	balloon_device_view(&machine.here, &view);
	assert_int_equal(view.discarded, 5);
	pthread_join(thread, NULL);
	sem_destroy(&discarding);
}

/* ----------------------------------- memory that is there before its use --- */

#define BLOCK 512u
#define BACK_AT 0x800000ull /* a block that nobody has touched */
#define BACK (BACK_AT / 4096)

/* A device that populates, whose balloon has these of its pages inside. */
static struct balloon_device *begin_populating(uint64_t more, uint32_t actual,
					       uint64_t inside)
{
	const struct balloon_hold hold = { .block = BLOCK, .most = 0 };
	struct balloon_device *device = &machine.here;

	balloon_hold(&device->balloon, hold, device->inside, device->held);
	device->populate = true;
	begin_with(device, more);
	for (; inside; inside &= inside - 1)
		send(device, BALLOON_INFLATE,
		     BACK + (uint32_t)__builtin_ctzll(inside));
	atomic_store(&device->balloon.config.actual, actual);
	return device;
}

static uint64_t there(void)
{
	const struct page_run block = { BACK, BLOCK };
	struct page_set set;
	uint64_t count;

	assert_int_equal(page_set_create(&set, machine.memory.frames, NULL),
			 0);
	assert_int_equal(backing_populated(&machine.memory, block, &set, NULL),
			 0);
	count = page_set_count(&set);
	page_set_free(&set);
	return count;
}

static uint64_t populated(struct balloon_device *device)
{
	struct balloon_view view;

	balloon_device_view(device, &view);
	return view.populated;
}

/* The block is whole when the last of it is taken back, and not before. */
static void test_what_was_asked_back_is_there(void **state)
{
	struct balloon_device *device = begin_populating(MUST_TELL, 10, 3);

	send(device, BALLOON_DEFLATE, BACK);
	assert_int_equal(there(), 0);
	*(uint8_t *)ram(&machine.memory, BACK_AT, 1) = 0xaa;
	send(device, BALLOON_DEFLATE, BACK + 1);
	assert_int_equal(there(), BLOCK);
	assert_int_equal(populated(device), BLOCK);
	assert_int_equal(*(uint8_t *)ram(&machine.memory, BACK_AT, 1), 0xaa);
}

/* Of a driver that need not tell nothing is known but these pages. */
static void test_what_was_asked_back_silently_is_there(void **state)
{
	struct balloon_device *device = begin_populating(0, 10, 1);

	send(device, BALLOON_DEFLATE, BACK);
	assert_true(there() >= 1);
	assert_int_equal(populated(device), 1);
}

/* Out of memory: it takes back what the host did not offer. */
static void test_what_a_guest_takes_by_itself_comes_at_its_touch(void **state)
{
	struct balloon_device *device = begin_populating(MUST_TELL, 10, 1);

	balloon_device_set_target(device, 10);
	send(device, BALLOON_DEFLATE, BACK);
	assert_int_equal(there(), 0);
	assert_int_equal(populated(device), 0);
}

static void test_nothing_is_populated_unless_asked_for(void **state)
{
	struct balloon_device *device = begin_populating(MUST_TELL, 10, 1);

	device->populate = false;
	send(device, BALLOON_DEFLATE, BACK);
	assert_int_equal(there(), 0);
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_d1_each_request_moves_the_generation),
		UNIT(test_d3_a_start_hears_of_the_acknowledgement),
		UNIT(test_d7_the_status_is_zero_behind_all_else),
		UNIT(test_a_reset_before_driver_ok),
		UNIT(test_a_reset_tells_of_what_was_inflated),
		UNIT(test_d8_done_on_arrival),
		UNIT(test_d9_the_record_carries_the_report),
		UNIT(test_a_broken_device_stays_broken_over_two_moves),
		UNIT(test_m1_discarded_pages_are_in_the_log),
		UNIT(test_held_pages_wait_no_longer_than_a_while),
		UNIT(test_held_pages_wait_over_a_pause),
		UNIT(test_held_pages_go_when_the_guest_stops),
		UNIT(test_held_pages_of_hugetlb_stay),
		UNIT(test_held_pages_of_a_driver_that_has_gone),
		UNIT(test_rings_of_a_driver_that_has_gone),
		UNIT(test_held_pages_that_are_deflated),
		UNIT(test_held_pages_and_a_reset),
		UNIT(test_a_guest_that_has_more_in_its_balloon_than_it_has),
		UNIT(test_a_view_waits_for_what_is_discarded),
		UNIT(test_what_was_asked_back_is_there),
		UNIT(test_what_was_asked_back_silently_is_there),
		UNIT(test_what_a_guest_takes_by_itself_comes_at_its_touch),
		UNIT(test_nothing_is_populated_unless_asked_for),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
