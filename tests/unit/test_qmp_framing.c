// SPDX-License-Identifier: MIT
/* Framing of the control socket: objects out of bytes, however they arrive. */
#include "unit.h"

#include <jansson.h>

#include "qmp/framing.h"

#define MOST 64

/* What a stream came to: objects and faults in their order. */
struct result {
	unsigned int count;
	char *text[MOST]; /* NULL for a fault */
};

static void collect(struct qmp_framing *framing, const char *data, size_t left,
		    struct result *result)
{
	const char *fault = NULL;

	for (;;) {
		enum qmp_frame frame = qmp_framing_next(framing, &data, &left,
							&fault);

		if (frame == QMP_FRAME_MORE)
			break;
		assert_true(result->count < MOST);
		if (frame == QMP_FRAME_OBJECT)
			result->text[result->count++] =
				strndup(framing->text, framing->used);
		else
			result->text[result->count++] = NULL;
		assert_true(frame == QMP_FRAME_OBJECT || fault);
	}
	assert_int_equal(left, 0);
}

static void result_free(struct result *result)
{
	while (result->count)
		free(result->text[--result->count]);
}

static struct qmp_framing *fresh(void)
{
	struct qmp_framing *framing = calloc(1, sizeof(*framing));

	assert_non_null(framing);
	return framing;
}

/* Fed in one piece, @length bytes come to @expected (NULL: a fault). */
static void expect(const char *data, size_t length,
		   const char *const *expected, unsigned int count)
{
	struct qmp_framing *framing = fresh();
	struct result result = { 0 };
	unsigned int i;

	collect(framing, data, length, &result);
	assert_int_equal(result.count, count);
	for (i = 0; i < count; i++) {
		if (expected[i])
			assert_string_equal(result.text[i], expected[i]);
		else
			assert_null(result.text[i]);
	}
	result_free(&result);
	free(framing);
}

#define EXPECT(data, ...)                                                      \
	do {                                                                   \
		const char *const expected_[] = { __VA_ARGS__ };               \
		expect(data, sizeof(data) - 1, expected_,                      \
		       ARRAY_SIZE(expected_));                                 \
	} while (0)

static void test_objects(void **state)
{
	EXPECT("{}\n", "{}");
	EXPECT("{}{}", "{}", "{}");
	EXPECT(" \r\n\t{\"a\":1}\n\n  {\"b\":[{}]}", "{\"a\":1}",
	       "{\"b\":[{}]}");
	EXPECT("{\n\"a\":\n1\n}\n", "{\n\"a\":\n1\n}");
	expect("{\"a\":", 5, NULL, 0); /* more is to come */
	expect("", 0, NULL, 0);
}

static void test_brackets_in_strings(void **state)
{
	EXPECT("{\"}{][\":\"\\\"}\"}{}", "{\"}{][\":\"\\\"}\"}", "{}");
	EXPECT("{\"a\":\"\\\\\"}{}", "{\"a\":\"\\\\\"}", "{}");
	EXPECT("{\"\303\274\":1}", "{\"\303\274\":1}");
}

static void test_faults_end_with_the_line(void **state)
{
	EXPECT("hello {} {\n{}", NULL, "{}");
	EXPECT("[1]\n{}", NULL, "{}");
	EXPECT("}\n{}", NULL, "{}");
	EXPECT("{]}\n{}", NULL, "{}");
	EXPECT("{\"a\":[}]\n{}", NULL, "{}");
	EXPECT("{\"a\n{}", NULL, "{}"); /* an open string ends at the line */
	EXPECT("{} x {}\n{}", "{}", NULL, "{}");
	EXPECT("\377{}\n{}", NULL, "{}");
	EXPECT("{\377}\n{}", NULL, "{}");
	EXPECT("x\ny\n{}", NULL, NULL, "{}");
}

static void test_zero_bytes(void **state)
{
	EXPECT("\0{}\n{}", NULL, "{}");
	EXPECT("{\0}\n{}", NULL, "{}");
	EXPECT("{\"a\0b\":1}\n{}", NULL, "{}");
}

static void test_too_long(void **state)
{
	char *data = zeroed(QMP_LINE_MAX + 16);
	struct qmp_framing *framing = fresh();
	struct result result = { 0 };

	/* The longest object there may be, then one byte more. */
	memset(data, ' ', QMP_LINE_MAX + 16);
	data[0] = '{';
	data[QMP_LINE_MAX - 1] = '}';
	collect(framing, data, QMP_LINE_MAX, &result);
	assert_int_equal(result.count, 1);
	assert_int_equal(strlen(result.text[0]), QMP_LINE_MAX);
	result_free(&result);

	data[QMP_LINE_MAX - 1] = ' ';
	memcpy(data + QMP_LINE_MAX, "}\n{}", 4);
	collect(framing, data, QMP_LINE_MAX + 4, &result);
	assert_int_equal(result.count, 2);
	assert_null(result.text[0]);
	assert_string_equal(result.text[1], "{}");
	result_free(&result);
	free(framing);
	free(data);
}

/* A line that never ends costs one fault and no memory. */
static void test_endless(void **state)
{
	struct qmp_framing *framing = fresh();
	struct result result = { 0 };
	char data[4096];
	unsigned int i;

	memset(data, 'a', sizeof(data));
	collect(framing, "{\"", 2, &result);
	for (i = 0; i < 1024; i++)
		collect(framing, data, sizeof(data), &result);
	assert_int_equal(result.count, 1);
	assert_null(result.text[0]);
	collect(framing, "\n{}", 3, &result);
	assert_int_equal(result.count, 2);
	assert_string_equal(result.text[1], "{}");
	result_free(&result);
	free(framing);
}

static void nest(char *to, unsigned int levels)
{
	unsigned int i;

	strcpy(to, "{\"a\":");
	for (i = 1; i < levels; i++)
		strcat(to, "[");
	for (i = 1; i < levels; i++)
		strcat(to, "]");
	strcat(to, "}\n{}");
}

static void test_nesting(void **state)
{
	char data[512], *end;
	const char *const deepest[] = { data, "{}" };
	const char *const too_deep[] = { NULL, "{}" };
	size_t length;

	nest(data, QMP_DEPTH_MAX + 1);
	expect(data, strlen(data), too_deep, 2);

	nest(data, QMP_DEPTH_MAX);
	length = strlen(data);
	end = strdup(data);
	*strchr(data, '\n') = '\0';
	expect(end, length, deepest, 2);
	free(end);
}

static void test_nesting_bomb(void **state)
{
	struct qmp_framing *framing = fresh();
	struct result result = { 0 };
	char *bomb = zeroed(QMP_LINE_MAX);
	size_t i;

	for (i = 0; i + 5 <= QMP_LINE_MAX; i += 5)
		memcpy(bomb + i, "{\"a\":", 5);
	collect(framing, bomb, i, &result);
	assert_int_equal(result.count, 1);
	assert_null(result.text[0]);
	collect(framing, "\n{}", 3, &result);
	assert_int_equal(result.count, 2);
	assert_string_equal(result.text[1], "{}");
	result_free(&result);
	free(framing);
	free(bomb);
}

static const char mixed[] =
	"{\"execute\":\"qmp_capabilities\"}\r\n"
	"{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"unix:}{\\\"\"},"
	"\"id\":[1,{\"x\":\"y\\\\\"}]} {\"a\":1}{\"b\":2}\n"
	"garbage } { \"\n"
	"{\"open\n"
	"\0\n"
	"{\n \"spans\": \"lines\"\n}\n"
	"{]\n{\"last\":[[[]]]}";

static bool same(const struct result *a, const struct result *b)
{
	unsigned int i;

	if (a->count != b->count)
		return false;
	for (i = 0; i < a->count; i++)
		if (!a->text[i] != !b->text[i] ||
		    (a->text[i] && strcmp(a->text[i], b->text[i])))
			return false;
	return true;
}

/* Where reads end must not matter: split in two at every byte. */
static void test_split_everywhere(void **state)
{
	struct result whole = { 0 }, parts;
	struct qmp_framing *framing = fresh();
	size_t at, length = sizeof(mixed) - 1;

	collect(framing, mixed, length, &whole);
	assert_int_equal(whole.count, 10);
	for (at = 0; at <= length; at++) {
		memset(framing, 0, sizeof(*framing));
		memset(&parts, 0, sizeof(parts));
		collect(framing, mixed, at, &parts);
		collect(framing, mixed + at, length - at, &parts);
		assert_true(same(&whole, &parts));
		result_free(&parts);
	}
	memset(framing, 0, sizeof(*framing));
	memset(&parts, 0, sizeof(parts));
	for (at = 0; at < length; at++)
		collect(framing, mixed + at, 1, &parts);
	assert_true(same(&whole, &parts));
	result_free(&parts);
	result_free(&whole);
	free(framing);
}

/* Every object that jansson writes comes through as it is; and noise never
 * does harm, nor hinders the object on the next line. */
static void test_random(void **state)
{
	static const char alphabet[] = "{}[]\"\\ \n\r\t,:a1\0\377";
	struct rng rng = rng_start("random");
	struct qmp_framing *framing = fresh();
	struct result result = { 0 };
	char noise[40];
	unsigned int i;
	size_t n;

	for (i = 0; i < 20000; i++) {
		memset(framing, 0, sizeof(*framing));
		for (n = 0; n < sizeof(noise); n++)
			noise[n] = alphabet[rng_below(&rng,
						      sizeof(alphabet) - 1)];
		noise[0] = 'x';
		collect(framing, noise, sizeof(noise), &result);
		result_free(&result);
		/* A fault at the latest now, whatever is open. */
		collect(framing, "\001\n{\"ok\":1}", 10, &result);
		assert_true(result.count >= 1);
		assert_string_equal(result.text[result.count - 1],
				    "{\"ok\":1}");
		result_free(&result);
	}
	free(framing);
}

/* What the framing lets through, jansson parses without trouble. */
static void test_deepest_parses(void **state)
{
	struct qmp_framing *framing = fresh();
	const char *data, *fault;
	char text[512];
	json_t *json;
	size_t left;

	nest(text, QMP_DEPTH_MAX);
	data = text;
	left = strlen(text);
	assert_int_equal(qmp_framing_next(framing, &data, &left, &fault),
			 QMP_FRAME_OBJECT);
	json = json_loadb(framing->text, framing->used, 0, NULL);
	assert_non_null(json);
	json_decref(json);
	free(framing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_objects),
		cmocka_unit_test(test_brackets_in_strings),
		cmocka_unit_test(test_faults_end_with_the_line),
		cmocka_unit_test(test_zero_bytes),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_endless),
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_nesting_bomb),
		cmocka_unit_test(test_deepest_parses),
		cmocka_unit_test(test_split_everywhere),
		cmocka_unit_test(test_random),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
