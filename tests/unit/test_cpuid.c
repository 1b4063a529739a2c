// SPDX-License-Identifier: MIT
/* CPUID: what is taken away, what differs per CPU, what stops a move. */
#include "unit.h"

#include "x86/cpuid.h"

static struct x86_cpuid here, wanted;

static struct kvm_cpuid_entry2 *entry(struct x86_cpuid *table,
				      uint32_t function, uint32_t index)
{
	uint32_t i;

	for (i = 0; i < table->header.nent; i++) {
		struct kvm_cpuid_entry2 *e = &table->room[i];

		if (e->function == function && e->index == index)
			return e;
	}
	return NULL;
}

/* All leaves there are, all bits set. */
static int setup(void **state)
{
	static const uint32_t leaves[][2] = {
		{ 0, 0 }, { 1, 0 }, { 4, 0 }, { 4, 1 }, { 7, 0 }, { 7, 1 },
		{ 0xa, 0 }, { 0xb, 0 }, { 0xb, 1 }, { 0xd, 0 }, { 0xd, 1 },
		{ 0xd, 17 }, { 0xd, 18 }, { 0x14, 0 }, { 0x1d, 0 },
		{ 0x1d, 1 }, { 0x1e, 0 }, { 0x1f, 0 }, { 0x40000000, 0 },
		{ 0x40000001, 0 }, { 0x80000001, 0 }, { 0x80000007, 0 },
		{ 0x80000008, 0 }, { 0x8000000a, 0 }, { 0x8000001d, 0 },
		{ 0x8000001e, 0 }, { 0x80000021, 0 }, { 0x80000022, 0 },
	};
	size_t i;

	memset(&here, 0, sizeof(here));
	here.header.nent = ARRAY_SIZE(leaves);
	for (i = 0; i < ARRAY_SIZE(leaves); i++)
		here.room[i] = (struct kvm_cpuid_entry2){
			.function = leaves[i][0], .index = leaves[i][1],
			.eax = UINT32_MAX, .ebx = UINT32_MAX,
			.ecx = UINT32_MAX, .edx = UINT32_MAX,
		};
	wanted = here;
	return 0;
}

static void check_nothing(uint32_t function, uint32_t index)
{
	const struct kvm_cpuid_entry2 *e = entry(&here, function, index);

	assert_int_equal(e->eax | e->ebx | e->ecx | e->edx, 0);
}

static void test_restricted(void **state)
{
	x86_cpuid_restrict(&here.header);
	/* VMX off, all else as it was; SVM and AMD's counters off. */
	assert_int_equal(entry(&here, 1, 0)->ecx, ~(1u << 5));
	assert_int_equal(entry(&here, 1, 0)->edx, UINT32_MAX);
	assert_int_equal(entry(&here, 0x80000001, 0)->ecx,
			 ~(1u << 2 | 1u << 23 | 1u << 24 | 1u << 28));
	/* AMX: bf16, tile, int8 and its XSAVE state. */
	assert_int_equal(entry(&here, 7, 0)->edx,
			 ~(1u << 22 | 1u << 24 | 1u << 25));
	assert_int_equal(entry(&here, 7, 0)->ebx, UINT32_MAX);
	assert_int_equal(entry(&here, 7, 1)->edx, UINT32_MAX);
	assert_int_equal(entry(&here, 0xd, 0)->eax, ~(1u << 17 | 1u << 18));
	check_nothing(0xd, 17);
	check_nothing(0xd, 18);
	assert_int_equal(entry(&here, 0xd, 1)->eax, UINT32_MAX);
	check_nothing(0x1d, 0);
	check_nothing(0x1d, 1);
	check_nothing(0x1e, 0);
	check_nothing(0xa, 0);
	check_nothing(0x8000000a, 0);
	check_nothing(0x80000022, 0);
	/* Asynchronous page faults; invariant TSC. */
	assert_int_equal(entry(&here, 0x40000001, 0)->eax,
			 ~(1u << 4 | 1u << 10 | 1u << 14));
	assert_int_equal(entry(&here, 0x80000007, 0)->edx, ~(1u << 8));
}

static void test_turned_on(void **state)
{
	entry(&here, 1, 0)->ecx = 0;
	x86_cpuid_restrict(&here.header);
	/* Hypervisor, TSC deadline, x2APIC. */
	assert_int_equal(entry(&here, 1, 0)->ecx,
			 1u << 31 | 1u << 24 | 1u << 21);
	/* Twice is once; an empty table is fine. */
	wanted = here;
	x86_cpuid_restrict(&here.header);
	assert_memory_equal(&here, &wanted, sizeof(here));
	here.header.nent = 0;
	x86_cpuid_restrict(&here.header);
}

static void test_topology(void **state)
{
	unsigned int id;

	for (id = 0; id < 32; id++) {
		setup(NULL);
		x86_cpuid_set_topology(&here.header, id, 32);
		assert_int_equal(entry(&here, 1, 0)->ebx >> 24, id);
		assert_int_equal(entry(&here, 1, 0)->ebx >> 16 & 0xff, 32);
		assert_int_equal(entry(&here, 1, 0)->ebx & 0xffff, 0xffff);
		assert_true(entry(&here, 1, 0)->edx & 1u << 28);
		assert_int_equal(entry(&here, 0xb, 0)->edx, id);
		assert_int_equal(entry(&here, 0xb, 1)->edx, id);
		assert_int_equal(entry(&here, 0x1f, 0)->edx, id);
		assert_int_equal(entry(&here, 0x80000008, 0)->ecx & 0xff, 31);
		assert_int_equal(entry(&here, 0x8000001e, 0)->eax, id);
		assert_int_equal(entry(&here, 0x8000001e, 0)->ebx, id);
		/* One core, no cache shared. */
		assert_int_equal(entry(&here, 4, 0)->eax >> 14, 0);
		assert_int_equal(entry(&here, 4, 1)->eax, 0x3fff);
		assert_int_equal(entry(&here, 0x8000001d, 0)->eax, 0x3fff);
	}
	setup(NULL);
	x86_cpuid_set_topology(&here.header, 0, 1);
	assert_int_equal(entry(&here, 1, 0)->ebx, 0x0001ffff);
	assert_false(entry(&here, 1, 0)->edx & 1u << 28);
	assert_int_equal(entry(&here, 0x80000008, 0)->ecx & 0xff, 0);
}

static int check(struct error *err)
{
	memset(err, 0, sizeof(*err));
	return x86_cpuid_check(&wanted.header, &here.header, err);
}

static void test_same_cpu(void **state)
{
	struct error err;

	assert_int_equal(check(&err), 0);
	/* A destination that has more. */
	entry(&wanted, 7, 0)->ebx = 0;
	entry(&wanted, 1, 0)->ecx = 1;
	assert_int_equal(check(&err), 0);
	/* A leaf that the guest was not shown. */
	wanted.header.nent = 1;
	assert_int_equal(check(&err), 0);
	/* What is no feature may differ: ids, sizes, names. */
	setup(NULL);
	entry(&here, 1, 0)->eax = 1;
	entry(&here, 1, 0)->ebx = 1;
	entry(&here, 4, 0)->eax = 1;
	entry(&here, 0xb, 0)->edx = 1;
	entry(&here, 0x80000008, 0)->eax = 1;
	assert_int_equal(check(&err), 0);
}

static void test_another_vendor(void **state)
{
	uint32_t *word[] = { &entry(&here, 0, 0)->ebx,
			     &entry(&here, 0, 0)->ecx,
			     &entry(&here, 0, 0)->edx };
	struct error err;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(word); i++) {
		*word[i] ^= 1;
		assert_int_equal(check(&err), -1);
		assert_non_null(strstr(err.message, "vendor"));
		*word[i] ^= 1;
	}
	here.header.nent = 0;
	assert_int_equal(check(&err), -1);
	setup(NULL);
	wanted.header.nent = 0;
	assert_int_equal(check(&err), -1);
	assert_int_equal(x86_cpuid_check(&wanted.header, &here.header, NULL),
			 -1);
}

static void test_features_that_are_missing(void **state)
{
	static const struct {
		uint32_t function, index;
		size_t reg;
		const char *name;
	} table[] = {
#define REG(r) offsetof(struct kvm_cpuid_entry2, r), #r
		{ 1, 0, REG(ecx) }, { 1, 0, REG(edx) },
		{ 7, 0, REG(ebx) }, { 7, 0, REG(ecx) }, { 7, 0, REG(edx) },
		{ 7, 1, REG(eax) }, { 7, 1, REG(edx) },
		{ 0xd, 0, REG(eax) }, { 0xd, 0, REG(edx) },
		{ 0xd, 1, REG(eax) }, { 0xd, 1, REG(ecx) },
		{ 0x14, 0, REG(ebx) },
		{ 0x40000001, 0, REG(eax) },
		{ 0x80000001, 0, REG(ecx) }, { 0x80000001, 0, REG(edx) },
		{ 0x80000008, 0, REG(ebx) },
		{ 0x80000021, 0, REG(eax) },
	};
	struct error err;
	char text[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		struct kvm_cpuid_entry2 *e;
		uint32_t *reg;

		setup(NULL);
		e = entry(&here, table[i].function, table[i].index);
		reg = (uint32_t *)((char *)e + table[i].reg);
		*reg = ~(1u << 9 | 1u << 31);
		assert_int_equal(check(&err), -1);
		/* By name: leaf, register and bits. */
		snprintf(text, sizeof(text), "leaf %#x.%u %s bits 0x80000200",
			 table[i].function, table[i].index, table[i].name);
		if (!strstr(err.message, text))
			print_error("%s: %s\n", text, err.message);
		assert_non_null(strstr(err.message, text));
		assert_null(strchr(err.message, '\n'));
		/* The whole leaf is not there. */
		e->function = 0x99;
		assert_int_equal(check(&err), -1);
	}
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_restricted),
		TEST(test_turned_on),
		TEST(test_topology),
		TEST(test_same_cpu),
		TEST(test_another_vendor),
		TEST(test_features_that_are_missing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
