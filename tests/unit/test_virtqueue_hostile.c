// SPDX-License-Identifier: MIT
/* Rings as no driver should write them: the queue refuses each by name and
 * touches nothing outside RAM. One test per case. */
#include "unit.h"

#include "base/endian.h"
#include "virtio/virtqueue.h"

#define MiB 0x100000ull
#define SIZE 8
#define DESC 0x1000ull
#define AVAIL 0x2000ull
#define USED 0x3000ull
#define TABLE 0x4000ull
#define DATA 0x8000ull

static struct guest_memory memory;
static struct virtqueue queue;
static struct virtqueue_chain chain;
static const char *reason;

static struct virtqueue_layout good_layout(void)
{
	return (struct virtqueue_layout){
		.size = SIZE,
		.desc = { DESC },
		.avail = { AVAIL },
		.used = { USED },
	};
}

static int start(struct virtqueue_layout layout)
{
	struct virtqueue_state state = { 0, 0 };

	reason = NULL;
	return virtqueue_start(&queue, &memory, &layout, 0, state, &reason);
}

static int setup(void **state)
{
	memset(&memory, 0, sizeof(memory));
	memory_add(&memory, 0, MiB);
	memory_add(&memory, MiB, 4096); /* touches the first */
	memory_add(&memory, 4 * MiB, 4096);
	memory_finish(&memory);
	assert_int_equal(start(good_layout()), 0);
	return 0;
}

static int teardown(void **state)
{
	virtqueue_stop(&queue);
	memory_delete(&memory);
	return 0;
}

static void write_descriptor(uint64_t at, uint64_t address, uint32_t length,
			     uint16_t flags, uint16_t next)
{
	uint8_t *p = ram(&memory, at, 16);

	le64_store(p, address);
	le32_store(p + 8, length);
	le16_store(p + 12, flags);
	le16_store(p + 14, next);
}

static void desc(unsigned int i, uint64_t address, uint32_t length,
		 uint16_t flags, uint16_t next)
{
	write_descriptor(DESC + 16 * i, address, length, flags, next);
}

static void table(unsigned int i, uint64_t address, uint32_t length,
		  uint16_t flags, uint16_t next)
{
	write_descriptor(TABLE + 16 * i, address, length, flags, next);
}

static void offer(uint16_t head)
{
	uint16_t index = le16_load(ram(&memory, AVAIL + 2, 2));

	le16_store(ram(&memory, AVAIL + 4 + 2 * (index % SIZE), 2), head);
	le16_store(ram(&memory, AVAIL + 2, 2), index + 1);
}

static int pop(void)
{
	reason = NULL;
	return virtqueue_pop(&queue, &chain, &reason);
}

static void refused(const char *words)
{
	assert_int_equal(pop(), -1);
	assert_non_null(reason);
	if (!strstr(reason, words))
		fail_msg("refused for \"%s\", not for \"%s\"", reason, words);
}

/*
 * Layouts
 */

static void refuse_layout(struct virtqueue_layout layout, const char *words)
{
	assert_int_equal(start(layout), -1);
	assert_null(queue.memory);
	assert_non_null(reason);
	assert_non_null(strstr(reason, words));
}

static void test_sizes(void **state)
{
	static const uint16_t bad[] = { 0, 3, 6, 7, 9, 1023, 2048, 65535 };
	static const uint16_t good[] = { 1, 2, 4, 128 };
	struct virtqueue_layout layout = good_layout();
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		layout.size = bad[i];
		refuse_layout(layout, "size");
	}
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		layout.size = good[i];
		assert_int_equal(start(layout), 0);
	}
	layout.size = VIRTQUEUE_MAX_SIZE;
	layout.desc.value = 0x10000;
	assert_int_equal(start(layout), 0);
}

static void test_misaligned_rings(void **state)
{
	struct virtqueue_layout layout = good_layout();

	layout.desc.value += 8;
	refuse_layout(layout, "misaligned");
	layout = good_layout();
	layout.avail.value += 1;
	refuse_layout(layout, "misaligned");
	layout = good_layout();
	layout.used.value += 2;
	refuse_layout(layout, "misaligned");
}

static void test_rings_outside_ram(void **state)
{
	static const uint64_t outside[] = {
		MiB - 16, /* over the end of its region */
		MiB + 4096, 1ull << 40, UINT64_MAX - 15,
	};
	struct virtqueue_layout layout;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(outside); i++) {
		layout = good_layout();
		layout.desc.value = outside[i];
		refuse_layout(layout, "RAM");
		layout = good_layout();
		layout.avail.value = outside[i];
		refuse_layout(layout, "RAM");
		layout = good_layout();
		layout.used.value = outside[i];
		refuse_layout(layout, "RAM");
	}
}

static void test_event_fields_must_be_in_ram_too(void **state)
{
	struct virtqueue_layout layout = good_layout();

	layout.avail.value = MiB + 4096 - (4 + 2 * SIZE);
	refuse_layout(layout, "RAM");
	layout.avail.value -= 2;
	assert_int_equal(start(layout), 0);
	layout = good_layout();
	layout.used.value = MiB + 4096 - (4 + 8 * SIZE);
	refuse_layout(layout, "RAM");
	layout.used.value -= 4;
	assert_int_equal(start(layout), 0);
}

/*
 * Indices and heads
 */

static void test_index_ahead_by_the_size_is_fine(void **state)
{
	int i;

	for (i = 0; i < SIZE; i++) {
		desc(i, DATA, 4, 0, 0);
		offer((uint16_t)i);
	}
	for (i = 0; i < SIZE; i++)
		assert_int_equal(pop(), 1);
	assert_int_equal(pop(), 0);
}

static void test_index_too_far_ahead(void **state)
{
	le16_store(ram(&memory, AVAIL + 2, 2), SIZE + 1);
	refused("index");
}

static void test_index_runs_backwards(void **state)
{
	le16_store(ram(&memory, AVAIL + 2, 2), 65535);
	refused("index");
}

static void test_head_out_of_range(void **state)
{
	offer(SIZE);
	refused("head");
}

static void test_head_far_out_of_range(void **state)
{
	offer(65535);
	refused("head");
}

static void test_a_refused_buffer_is_not_skipped(void **state)
{
	offer(65535);
	refused("head");
	refused("head");
	assert_int_equal(virtqueue_save(&queue).next_avail, 0);
}

static void test_same_head_twice_is_served_twice(void **state)
{
	desc(0, DATA, 4, 0, 0);
	offer(0);
	offer(0);
	assert_int_equal(pop(), 1);
	assert_int_equal(pop(), 1);
	assert_int_equal(pop(), 0);
}

/*
 * Chains
 */

static void test_loop_of_one(void **state)
{
	desc(0, DATA, 4, VRING_DESC_F_NEXT, 0);
	offer(0);
	refused("longer");
}

static void test_loop_of_many(void **state)
{
	int i;

	for (i = 0; i < SIZE; i++)
		desc(i, DATA, 4, VRING_DESC_F_NEXT, (i + 1) % SIZE);
	offer(3);
	refused("longer");
}

static void test_chain_as_long_as_the_queue(void **state)
{
	int i;

	for (i = 0; i < SIZE; i++)
		desc(i, DATA, 4, i < SIZE - 1 ? VRING_DESC_F_NEXT : 0, i + 1);
	offer(0);
	assert_int_equal(pop(), 1);
	assert_int_equal(chain.readable, SIZE);
	assert_int_equal(chain.readable_bytes, 4 * SIZE);
}

static void test_next_out_of_range(void **state)
{
	desc(0, DATA, 4, VRING_DESC_F_NEXT, SIZE);
	offer(0);
	refused("next");
}

static void test_next_is_not_looked_at_without_its_flag(void **state)
{
	desc(0, DATA, 4, 0, 65535);
	offer(0);
	assert_int_equal(pop(), 1);
}

static void test_length_zero(void **state)
{
	desc(0, DATA, 0, 0, 0);
	offer(0);
	refused("length 0");
}

static void test_length_zero_later_and_writable(void **state)
{
	desc(0, DATA, 4, VRING_DESC_F_NEXT, 1);
	desc(1, DATA, 0, VRING_DESC_F_WRITE, 0);
	offer(0);
	refused("length 0");
}

static void test_readable_behind_writable(void **state)
{
	desc(0, DATA, 4, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	desc(1, DATA, 4, 0, 0);
	offer(0);
	refused("readable");
}

static void test_lengths_add_up_beyond_32_bits(void **state)
{
	int i;

	for (i = 0; i < SIZE; i++)
		desc(i, DATA, UINT32_MAX, i < SIZE - 1 ? VRING_DESC_F_NEXT : 0,
		     i + 1);
	offer(0);
	assert_int_equal(pop(), 1);
	assert_int_equal(chain.readable_bytes, 8ull * UINT32_MAX);
}

static void test_unknown_flags_are_ignored(void **state)
{
	desc(0, DATA, 4, 0xfff8, 0);
	offer(0);
	assert_int_equal(pop(), 1);
	assert_int_equal(chain.readable, 1);
}

/*
 * Indirect tables
 */

static void indirect(uint64_t address, uint32_t length)
{
	desc(0, address, length, VRING_DESC_F_INDIRECT, 0);
	offer(0);
}

static void test_indirect(void **state)
{
	table(0, DATA, 4, VRING_DESC_F_NEXT, 1);
	table(1, DATA, 5, VRING_DESC_F_WRITE, 0);
	indirect(TABLE, 32);
	assert_int_equal(pop(), 1);
	assert_int_equal(chain.readable, 1);
	assert_int_equal(chain.writable, 1);
}

static void test_indirect_behind_direct(void **state)
{
	/* VIRTIO 1.3 section 2.7.5.3.2: must be handled; so must a write flag
	 * on the descriptor of the table be ignored. */
	desc(0, DATA, 4, VRING_DESC_F_NEXT, 1);
	desc(1, TABLE, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE, 0);
	table(0, DATA + 4, 8, 0, 0);
	offer(0);
	assert_int_equal(pop(), 1);
	assert_int_equal(chain.readable, 2);
	assert_int_equal(chain.segment[1].length, 8);
}

static void test_indirect_at_an_odd_address(void **state)
{
	write_descriptor(TABLE + 3, DATA, 4, 0, 0);
	indirect(TABLE + 3, 16);
	assert_int_equal(pop(), 1);
	assert_int_equal(chain.segment[0].start.value, DATA);
}

static void test_indirect_within_indirect(void **state)
{
	table(0, TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	indirect(TABLE, 16);
	refused("within");
}

static void test_indirect_with_next(void **state)
{
	desc(0, TABLE, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
	desc(1, DATA, 4, 0, 0);
	table(0, DATA, 4, 0, 0);
	offer(0);
	refused("has a next");
}

static void test_indirect_of_length_zero(void **state)
{
	indirect(TABLE, 0);
	refused("length");
}

static void test_indirect_of_a_broken_length(void **state)
{
	indirect(TABLE, 17);
	refused("length");
}

static void test_indirect_shorter_than_an_entry(void **state)
{
	indirect(TABLE, 15);
	refused("length");
}

static void test_indirect_outside_ram(void **state)
{
	indirect(MiB + 4096, 16);
	refused("RAM");
}

static void test_indirect_over_the_end_of_ram(void **state)
{
	indirect(MiB + 4096 - 16, 32);
	refused("RAM");
}

static void test_indirect_over_two_regions(void **state)
{
	indirect(MiB - 16, 32);
	refused("RAM");
}

static void test_indirect_that_wraps(void **state)
{
	indirect(UINT64_MAX - 15, 32);
	refused("RAM");
}

static void test_indirect_of_four_gigabytes(void **state)
{
	indirect(TABLE, 0xfffffff0);
	refused("RAM");
}

static void test_indirect_next_out_of_range(void **state)
{
	table(0, DATA, 4, VRING_DESC_F_NEXT, 2);
	table(1, DATA, 4, 0, 0);
	table(2, DATA, 4, 0, 0); /* there, but behind the table's end */
	indirect(TABLE, 32);
	refused("next");
}

static void test_indirect_loop(void **state)
{
	table(0, DATA, 4, VRING_DESC_F_NEXT, 1);
	table(1, DATA, 4, VRING_DESC_F_NEXT, 0);
	indirect(TABLE, 32);
	refused("longer");
}

static void test_indirect_longer_than_the_queue(void **state)
{
	int i;

	for (i = 0; i <= SIZE; i++)
		table(i, DATA, 4, i < SIZE ? VRING_DESC_F_NEXT : 0, i + 1);
	indirect(TABLE, 16 * (SIZE + 1));
	refused("longer");
}

static void test_indirect_readable_behind_writable(void **state)
{
	table(0, DATA, 4, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1);
	table(1, DATA, 4, 0, 0);
	indirect(TABLE, 32);
	refused("readable");
}

static void test_indirect_length_zero_inside(void **state)
{
	table(0, DATA, 0, 0, 0);
	indirect(TABLE, 16);
	refused("length 0");
}

/*
 * Copying out of what was popped
 */

static int copy(uint64_t offset, void *to, uint64_t length)
{
	return virtqueue_copy_out(&queue, &chain, offset, to, length);
}

static void pop_three(void)
{
	memcpy(ram(&memory, DATA, 3), "abc", 3);
	memcpy(ram(&memory, DATA + 64, 4), "defg", 4);
	desc(0, DATA, 3, VRING_DESC_F_NEXT, 1);
	desc(1, DATA + 64, 4, VRING_DESC_F_NEXT, 2);
	desc(2, DATA + 128, 100, VRING_DESC_F_WRITE, 0);
	offer(0);
	assert_int_equal(pop(), 1);
}

static void test_copy_out(void **state)
{
	char to[8] = "";

	pop_three();
	assert_int_equal(copy(0, to, 7), 0);
	assert_string_equal(to, "abcdefg");
	memset(to, 0, sizeof(to));
	assert_int_equal(copy(2, to, 3), 0);
	assert_string_equal(to, "cde");
	memset(to, 0, sizeof(to));
	assert_int_equal(copy(3, to, 1), 0);
	assert_string_equal(to, "d");
	assert_int_equal(copy(7, to, 0), 0);
}

static void test_copy_out_beyond_the_readable_bytes(void **state)
{
	char to[16];

	pop_three();
	assert_int_equal(copy(0, to, 8), -1);
	assert_int_equal(copy(7, to, 1), -1);
	assert_int_equal(copy(UINT64_MAX, to, 1), -1);
	assert_int_equal(copy(1, to, UINT64_MAX), -1);
}

static void test_copy_out_of_ram(void **state)
{
	static const uint64_t outside[] = {
		MiB + 4096, MiB + 4096 - 3, UINT64_MAX - 1, UINT64_MAX - 3,
	};
	char to[4];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(outside); i++) {
		desc(0, outside[i], 4, 0, 0);
		offer(0);
		assert_int_equal(pop(), 1);
		assert_int_equal(copy(0, to, 4), -1);
	}
}

static void test_copy_out_does_not_wrap_into_ram(void **state)
{
	char to;

	desc(0, UINT64_MAX - 9, 100, 0, 0);
	offer(0);
	assert_int_equal(pop(), 1);
	assert_int_equal(copy(50, &to, 1), -1);
}

static void test_copy_out_over_regions_that_touch(void **state)
{
	char to[5] = "";

	memcpy(ram(&memory, MiB - 2, 2), "hi", 2);
	memcpy(ram(&memory, MiB, 2), "jk", 2);
	desc(0, MiB - 2, 4, 0, 0);
	offer(0);
	assert_int_equal(pop(), 1);
	assert_int_equal(copy(0, to, 4), 0);
	assert_string_equal(to, "hijk");
}

static void test_copy_out_over_a_hole(void **state)
{
	char to[4];

	desc(0, 4 * MiB - 2, 4, 0, 0);
	offer(0);
	assert_int_equal(pop(), 1);
	assert_int_equal(copy(0, to, 4), -1);
	assert_int_equal(copy(2, to, 2), 0);
}

/* Whatever stands in the rings: an answer, and no touch outside RAM (run it
 * under a sanitizer). */
static void test_random_rings(void **state)
{
	struct rng rng = rng_start("virtqueue hostile");
	uint8_t *page;
	uint8_t to[64];
	int i, j, popped;

	for (i = 0; i < 20000; i++) {
		page = ram(&memory, DESC, 16 * SIZE);
		for (j = 0; j < SIZE; j++)
			desc(j,
			     rng_below(&rng, 2)
				     ? rng_next(&rng)
				     : TABLE + 16 * rng_below(&rng, 9),
			     (uint32_t)rng_below(&rng, 3) * 16 + j % 2,
			     (uint16_t)rng_below(&rng, 8),
			     (uint16_t)rng_below(&rng, SIZE + 1));
		memcpy(ram(&memory, TABLE, 16 * SIZE), page, 16 * SIZE);
		assert_int_equal(start(good_layout()), 0);
		le16_store(ram(&memory, AVAIL + 2, 2), 0);
		offer((uint16_t)rng_below(&rng, SIZE));
		popped = pop();
		assert_true(popped == 1 || popped == -1);
		if (popped == 1) {
			assert_in_range(chain.readable + chain.writable, 1,
					SIZE);
			copy(rng_below(&rng, 20), to,
			     rng_below(&rng, sizeof(to)));
		} else {
			assert_non_null(reason);
		}
	}
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		UNIT(test_sizes),
		UNIT(test_misaligned_rings),
		UNIT(test_rings_outside_ram),
		UNIT(test_event_fields_must_be_in_ram_too),
		UNIT(test_index_ahead_by_the_size_is_fine),
		UNIT(test_index_too_far_ahead),
		UNIT(test_index_runs_backwards),
		UNIT(test_head_out_of_range),
		UNIT(test_head_far_out_of_range),
		UNIT(test_a_refused_buffer_is_not_skipped),
		UNIT(test_same_head_twice_is_served_twice),
		UNIT(test_loop_of_one),
		UNIT(test_loop_of_many),
		UNIT(test_chain_as_long_as_the_queue),
		UNIT(test_next_out_of_range),
		UNIT(test_next_is_not_looked_at_without_its_flag),
		UNIT(test_length_zero),
		UNIT(test_length_zero_later_and_writable),
		UNIT(test_readable_behind_writable),
		UNIT(test_lengths_add_up_beyond_32_bits),
		UNIT(test_unknown_flags_are_ignored),
		UNIT(test_indirect),
		UNIT(test_indirect_behind_direct),
		UNIT(test_indirect_at_an_odd_address),
		UNIT(test_indirect_within_indirect),
		UNIT(test_indirect_with_next),
		UNIT(test_indirect_of_length_zero),
		UNIT(test_indirect_of_a_broken_length),
		UNIT(test_indirect_shorter_than_an_entry),
		UNIT(test_indirect_outside_ram),
		UNIT(test_indirect_over_the_end_of_ram),
		UNIT(test_indirect_over_two_regions),
		UNIT(test_indirect_that_wraps),
		UNIT(test_indirect_of_four_gigabytes),
		UNIT(test_indirect_next_out_of_range),
		UNIT(test_indirect_loop),
		UNIT(test_indirect_longer_than_the_queue),
		UNIT(test_indirect_readable_behind_writable),
		UNIT(test_indirect_length_zero_inside),
		UNIT(test_copy_out),
		UNIT(test_copy_out_beyond_the_readable_bytes),
		UNIT(test_copy_out_of_ram),
		UNIT(test_copy_out_does_not_wrap_into_ram),
		UNIT(test_copy_out_over_regions_that_touch),
		UNIT(test_copy_out_over_a_hole),
		UNIT(test_random_rings),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
