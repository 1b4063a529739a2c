// SPDX-License-Identifier: MIT
/*
 * A stream that is right, cut short at every byte and mutilated at random: what
 * is left ends with one line that says why, or with a guest that runs.
 */
#include "stream_fixture.h"

#include <xxhash.h>

static void put_small_stream(void)
{
	uint8_t page[4096];

	put_start();
	le32_store(stream.data + 16, STREAM_FLAG_VERIFY);
	put_pages(7, 1);
	put_record(STREAM_ZERO, 32);
	put_run(8, 1);
	put_run(HIGH_FIRST, 3);
	put_record(STREAM_WAITING, 0);
	put_record(STREAM_VERIFY, 24);
	put_run(7, 1);
	memset(page, 0xaa, sizeof(page));
	buffer_put_u64(&stream, XXH3_64bits(page, sizeof(page)));
	put_finish();
}

static void test_cut_at_every_byte(void **state)
{
	struct answers answers;
	struct buffer whole;
	size_t cut;

	put_small_stream();
	whole = stream;
	memset(&stream, 0, sizeof(stream));
	for (cut = 0; cut <= whole.used; cut++) {
		if (cut > 500 && cut + 300 < whole.used && cut % 7)
			continue;
		forget();
		answers = receive(whole.data, cut);
		if (cut < whole.used)
			check_refused(&answers);
		else
			assert_int_equal(world->rc, 0);
	}
	buffer_free(&whole);
	forget();
}

#define MUTATIONS 3000

static uint64_t interesting(struct rng *rng)
{
	static const uint64_t values[] = {
		0, 1, 7, 8, 15, 16, 17, 4095, 4096, 4097, 1024, 1025,
		0x10, 0x11, 0x20, 0x30, 0x3f, 0x40, 0x80000001, 0x7fffffff,
		0xffffffff, 1ull << 20, (1ull << 20) + 1, 1ull << 52,
		(1ull << 52) + 1, 1ull << 63, UINT64_MAX, FRAMES - 1, FRAMES,
		LOW_PAGES - 1, LOW_PAGES, HIGH_FIRST,
	};

	return values[rng_below(rng, ARRAY_SIZE(values))];
}

static void mutate(struct rng *rng, uint8_t *bytes, size_t *count)
{
	size_t at = rng_below(rng, *count), some;

	/* Not so often in the middle of the page. */
	if (at > 400 && at + 300 < *count && rng_chance(rng, 9, 10))
		at = rng_below(rng, 400);
	switch (rng_below(rng, 5)) {
	case 0:
		bytes[at] ^= 1u << rng_below(rng, 8);
		break;
	case 1:
		if (at + 4 <= *count)
			le32_store(bytes + at, interesting(rng));
		break;
	case 2:
		if (at + 8 <= *count)
			le64_store(bytes + at, interesting(rng));
		break;
	case 3: /* a piece goes */
		some = 1 + rng_below(rng, 64);
		if (at + some < *count) {
			memmove(bytes + at, bytes + at + some,
				*count - at - some);
			*count -= some;
		}
		break;
	default: /* a piece comes twice */
		some = 1 + rng_below(rng, 64);
		if (at + some < *count) {
			memmove(bytes + at + some, bytes + at, *count - at);
			*count += some;
		}
		break;
	}
}

static void test_random_mutations(void **state)
{
	struct rng rng = rng_start("random mutations");
	uint8_t bytes[8192];
	struct buffer valid;
	unsigned int i, n, fine = 0;
	struct answers answers;
	size_t count;

	put_small_stream();
	valid = stream;
	memset(&stream, 0, sizeof(stream));
	assert_true(valid.used < 6000);
	for (i = 0; i < MUTATIONS; i++) {
		memcpy(bytes, valid.data, valid.used);
		count = valid.used;
		for (n = 1 + rng_below(&rng, 4); n; n--)
			mutate(&rng, bytes, &count);
		forget();
		answers = receive(bytes, count);
		if (world->rc < 0)
			check_refused(&answers);
		else
			fine++;
		assert_int_equal(world->arrived, world->rc == 0);
	}
	printf("# %u of %u mutations make no difference\n", fine, MUTATIONS);
	buffer_free(&valid);
	forget();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut_at_every_byte),
		cmocka_unit_test(test_random_mutations),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, destination_setup,
				      destination_teardown);
}
