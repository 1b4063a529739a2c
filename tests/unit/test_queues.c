// SPDX-License-Identifier: MIT
/* Numbers of the balloon's virtqueues: the table of section 2.3 of the
 * protocol facts, and all combinations of features. */
#include "unit.h"

#include <linux/virtio_balloon.h>

#include "balloon/queues.h"

#define S (1ull << VIRTIO_BALLOON_F_STATS_VQ)
#define H (1ull << VIRTIO_BALLOON_F_FREE_PAGE_HINT)
#define R (1ull << VIRTIO_BALLOON_F_REPORTING)

struct row {
	uint64_t features;
	int spec[3];   /* stats, free page, reporting */
	int packed[3]; /* as Linux counts by what is negotiated */
};

static const struct row table[] = {
	{ 0,	     { -1, -1, -1 }, { -1, -1, -1 } },
	{ S,	     { 2, -1, -1 },  { 2, -1, -1 } },
	{ H,	     { -1, 3, -1 },  { -1, 2, -1 } },
	{ R,	     { -1, -1, 4 },  { -1, -1, 2 } },
	{ S | H,     { 2, 3, -1 },   { 2, 3, -1 } },
	{ S | R,     { 2, -1, 4 },   { 2, -1, 3 } },
	{ H | R,     { -1, 3, 4 },   { -1, 2, 3 } },
	{ S | H | R, { 2, 3, 4 },    { 2, 3, 4 } },
};

static void check_row(const struct row *row, uint64_t others)
{
	uint64_t features = row->features | others;
	int i;

	assert_int_equal(balloon_queue_index(BALLOON_INFLATE, features,
					     BALLOON_NUMBERING_PACKED), 0);
	assert_int_equal(balloon_queue_index(BALLOON_DEFLATE, features,
					     BALLOON_NUMBERING_PACKED), 1);
	assert_int_equal(balloon_queue_index(BALLOON_INFLATE, features,
					     BALLOON_NUMBERING_SPEC), 0);
	assert_int_equal(balloon_queue_index(BALLOON_DEFLATE, features,
					     BALLOON_NUMBERING_SPEC), 1);
	for (i = 0; i < 3; i++) {
		assert_int_equal(balloon_queue_index(BALLOON_STATS + i,
						     features,
						     BALLOON_NUMBERING_SPEC),
				 row->spec[i]);
		assert_int_equal(balloon_queue_index(BALLOON_STATS + i,
						     features,
						     BALLOON_NUMBERING_PACKED),
				 row->packed[i]);
	}
}

static void test_the_table(void **state)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(table); i++)
		check_row(&table[i], 0);
}

static void test_other_features_do_not_matter(void **state)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(table); i++)
		check_row(&table[i], ~(S | H | R));
}

static void test_queues_that_are_none(void **state)
{
	assert_int_equal(balloon_queue_index(BALLOON_QUEUES, ~0ull,
					     BALLOON_NUMBERING_PACKED), -1);
	assert_int_equal(balloon_queue_index(BALLOON_QUEUES, ~0ull,
					     BALLOON_NUMBERING_SPEC), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_table),
		cmocka_unit_test(test_other_features_do_not_matter),
		cmocka_unit_test(test_queues_that_are_none),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
