// SPDX-License-Identifier: MIT
/* What CPUID shows a guest, made from what KVM supports. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "x86/cpuid.h"

#define LEAF1_ECX_VMX (1u << 5)
#define LEAF1_ECX_X2APIC (1u << 21)
#define LEAF1_ECX_TSC_DEADLINE (1u << 24)
#define LEAF1_ECX_HYPERVISOR (1u << 31)
#define LEAF1_EDX_HTT (1u << 28)
#define LEAF7_EDX_AMX ((1u << 22) | (1u << 24) | (1u << 25))
#define LEAFD_EAX_AMX ((1u << 17) | (1u << 18))
#define LEAF80000001_ECX_SVM (1u << 2)
#define LEAF80000001_ECX_PERFCTR ((1u << 23) | (1u << 24) | (1u << 28))
#define LEAF80000007_EDX_INVARIANT_TSC (1u << 8)
#define KVM_FEATURES_LEAF 0x40000001u
#define KVM_FEATURES_ASYNC_PF ((1u << 4) | (1u << 10) | (1u << 14))

static void restrict_entry(struct kvm_cpuid_entry2 *entry)
{
	switch (entry->function) {
	case 1:
		entry->ecx &= ~LEAF1_ECX_VMX;
		entry->ecx |= LEAF1_ECX_HYPERVISOR | LEAF1_ECX_TSC_DEADLINE |
			      LEAF1_ECX_X2APIC;
		break;
	case 7:
		if (entry->index == 0)
			entry->edx &= ~LEAF7_EDX_AMX;
		break;
	case 0xa:	 /* PMU */
	case 0x1d:	 /* AMX tiles */
	case 0x1e:
	case 0x8000000a: /* SVM */
	case 0x80000022: /* PMU of AMD */
		entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
		break;
	case 0xd:
		if (entry->index == 0)
			entry->eax &= ~LEAFD_EAX_AMX;
		else if (entry->index == 17 || entry->index == 18)
			entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
		break;
	case KVM_FEATURES_LEAF:
		entry->eax &= ~KVM_FEATURES_ASYNC_PF;
		break;
	case 0x80000001:
		entry->ecx &= ~(LEAF80000001_ECX_SVM |
				LEAF80000001_ECX_PERFCTR);
		break;
	case 0x80000007:
		entry->edx &= ~LEAF80000007_EDX_INVARIANT_TSC;
		break;
	default:
		break;
	}
}

void x86_cpuid_restrict(struct kvm_cpuid2 *table)
{
	uint32_t i;

	for (i = 0; i < table->nent; i++)
		restrict_entry(&table->entries[i]);
}

void x86_cpuid_set_topology(struct kvm_cpuid2 *table, unsigned int id,
			    unsigned int cpus)
{
	uint32_t i;

	for (i = 0; i < table->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &table->entries[i];

		switch (entry->function) {
		case 1:
			entry->ebx = (entry->ebx & 0xffff) | cpus << 16 |
				     id << 24;
			if (cpus > 1)
				entry->edx |= LEAF1_EDX_HTT;
			else
				entry->edx &= ~LEAF1_EDX_HTT;
			break;
		case 4: /* one core a CPU, no cache shared */
			entry->eax &= 0x3fff;
			break;
		case 0xb:
		case 0x1f:
			entry->edx = id;
			break;
		case 0x80000008:
			entry->ecx = (entry->ecx & ~0xf0ffu) | (cpus - 1);
			break;
		case 0x8000001d:
			entry->eax &= 0x3fff;
			break;
		case 0x8000001e:
			entry->eax = id;
			entry->ebx = id & 0xff;
			entry->ecx = 0;
			break;
		default:
			break;
		}
	}
}

static const struct kvm_cpuid_entry2 *
find_entry(const struct kvm_cpuid2 *table, uint32_t function, uint32_t index)
{
	uint32_t i;

	for (i = 0; i < table->nent; i++)
		if (table->entries[i].function == function &&
		    table->entries[i].index == index)
			return &table->entries[i];
	return NULL;
}

/* Leaves that are sets of features, and which of their registers are. */
static const struct feature_leaf {
	uint32_t function, index;
	bool eax, ebx, ecx, edx;
} feature_leaves[] = {
	{ 1, 0, false, false, true, true },
	{ 7, 0, false, true, true, true },
	{ 7, 1, true, true, true, true },
	{ 0xd, 0, true, false, false, true },
	{ 0xd, 1, true, false, true, true },
	{ 0x14, 0, false, true, true, false },
	{ KVM_FEATURES_LEAF, 0, true, false, false, false },
	{ 0x80000001, 0, false, false, true, true },
	{ 0x80000008, 0, false, true, false, false },
	{ 0x80000021, 0, true, false, false, false },
};

static int check_register(const struct feature_leaf *leaf, const char *name,
			  uint32_t wanted, uint32_t here, struct error *err)
{
	if (!(wanted & ~here))
		return 0;
	return error_set(err, "the guest's CPU has features that this host "
			 "lacks: CPUID leaf %#x.%u %s bits %#x",
			 leaf->function, leaf->index, name, wanted & ~here);
}

static int check_leaf(const struct feature_leaf *leaf,
		      const struct kvm_cpuid2 *wanted,
		      const struct kvm_cpuid2 *here, struct error *err)
{
	static const struct kvm_cpuid_entry2 nothing;
	const struct kvm_cpuid_entry2 *w, *h;

	w = find_entry(wanted, leaf->function, leaf->index);
	h = find_entry(here, leaf->function, leaf->index);
	if (!w)
		return 0;
	if (!h)
		h = &nothing;
	if ((leaf->eax && check_register(leaf, "eax", w->eax, h->eax, err)) ||
	    (leaf->ebx && check_register(leaf, "ebx", w->ebx, h->ebx, err)) ||
	    (leaf->ecx && check_register(leaf, "ecx", w->ecx, h->ecx, err)) ||
	    (leaf->edx && check_register(leaf, "edx", w->edx, h->edx, err)))
		return -1;
	return 0;
}

int x86_cpuid_check(const struct kvm_cpuid2 *wanted,
		    const struct kvm_cpuid2 *here, struct error *err)
{
	const struct kvm_cpuid_entry2 *w = find_entry(wanted, 0, 0);
	const struct kvm_cpuid_entry2 *h = find_entry(here, 0, 0);
	size_t i;

	if (!w || !h || w->ebx != h->ebx || w->ecx != h->ecx ||
	    w->edx != h->edx)
		return error_set(err, "the guest's CPU is of another vendor "
				 "than this host's");
	for (i = 0; i < sizeof(feature_leaves) / sizeof(feature_leaves[0]);
	     i++)
		if (check_leaf(&feature_leaves[i], wanted, here, err) < 0)
			return -1;
	return 0;
}
