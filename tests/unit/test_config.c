// SPDX-License-Identifier: MIT
/* CONFIG: what a peer says a machine is made of (docs/spec/stream.md). */
#include "unit.h"

#include "machine/config.h"
#include "memory/backing.h"

/* CONFIG's fields, as a sound stream has them. */
struct fields {
	uint64_t memory, kernel_hash, initrd_hash;
	uint32_t cpus, balloon, offers, numbering, backing;
	const char *kernel, *initrd, *protocol;
};

static const struct fields sound = {
	.memory = BACKING_MIN_SIZE,
	.cpus = 1,
	.kernel = "/boot/kernel",
	.kernel_hash = 5,
	.initrd = "",
	.balloon = 1,
	.protocol = "standard",
};

static int load(struct fields f, struct machine_config *config,
		struct error *err)
{
	struct buffer_reader reader = { 0 };
	struct buffer b = { 0 };
	int rc;

	buffer_put_string(&b, "vm");
	buffer_put_u64(&b, f.memory);
	buffer_put_u32(&b, f.cpus);
	buffer_put_string(&b, f.kernel);
	buffer_put_u64(&b, f.kernel_hash);
	buffer_put_string(&b, f.initrd);
	buffer_put_u64(&b, f.initrd_hash);
	buffer_put_string(&b, "console=ttyS0");
	buffer_put_u32(&b, f.balloon);
	buffer_put_u32(&b, f.offers);
	buffer_put_u32(&b, f.numbering);
	buffer_put_string(&b, f.protocol);
	buffer_put_u64(&b, 0);
	buffer_put_u32(&b, f.backing);
	reader.data = b.data;
	reader.left = b.used;
	rc = machine_config_load(config, &reader, err);
	buffer_free(&b);
	return rc;
}

static void refused(struct fields f, const char *why)
{
	struct machine_config config;
	struct error err = { "" };

	assert_int_equal(load(f, &config, &err), -1);
	if (!strstr(err.message, why))
		fail_msg("'%s' does not say '%s'", err.message, why);
}

#define REFUSED(why, ...)                                                      \
	do {                                                                   \
		struct fields f = sound;                                       \
		__VA_ARGS__;                                                   \
		refused(f, why);                                               \
	} while (0)

static void test_a_sound_configuration(void **state)
{
	struct machine_config config;
	struct buffer_reader reader;
	struct buffer again = { 0 };

	assert_int_equal(load(sound, &config, NULL), 0);
	assert_string_equal(config.kernel.path, "/boot/kernel");
	assert_int_equal(config.kernel.hash, 5);
	assert_true(config.balloon);
	machine_config_save(&config, &again);
	reader = (struct buffer_reader){ again.data, again.used, false };
	assert_int_equal(machine_config_load(&config, &reader, NULL), 0);
	buffer_free(&again);
}

/* What could be read from a file of this host at the guest's next reset. */
static void test_files_without_their_content(void **state)
{
	REFUSED("names the file '/etc/secret' without", f.kernel_hash = 0,
		f.kernel = "/etc/secret");
	REFUSED("'/etc/secret' without", f.initrd = "/etc/secret");
	REFUSED("the file '' and a content", f.initrd_hash = 7);
}

static void test_values_that_cannot_be(void **state)
{
	REFUSED("0 CPUs", f.cpus = 0);
	REFUSED("4000000000 CPUs", f.cpus = 4000000000);
	REFUSED("4096 bytes of memory", f.memory = 4096);
	REFUSED("whole pages", f.memory++);
	REFUSED("18446744073709547520 bytes", f.memory = -4096ull);
	REFUSED("a balloon (7)", f.balloon = 7);
	REFUSED("options 0x100", f.offers = 0x100);
	REFUSED("numbering 2", f.numbering = 2);
	REFUSED("memory of kind 3", f.backing = 3);
	REFUSED("the protocol 'none'", f.protocol = "none");
}

/* The peer's words are not to drive the user's terminal. */
static void test_a_protocol_of_control_characters(void **state)
{
	REFUSED("the protocol '?[2Jx'", f.protocol = "\033[2Jx");
	REFUSED("the protocol '??x'", f.protocol = "\xc2\x9bx");
	REFUSED("the file '?[2J?' without", f.initrd = "\033[2J\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_sound_configuration),
		cmocka_unit_test(test_files_without_their_content),
		cmocka_unit_test(test_values_that_cannot_be),
		cmocka_unit_test(test_a_protocol_of_control_characters),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
