/* SPDX-License-Identifier: MIT */
/* What CPUID shows a guest, made from what KVM supports. */
#ifndef X86_CPUID_H
#define X86_CPUID_H

#include <linux/kvm.h>

#include "base/error.h"

#define X86_CPUID_MAX 256

/* A KVM CPUID table with room for X86_CPUID_MAX entries. */
struct x86_cpuid {
	struct kvm_cpuid2 header;
	struct kvm_cpuid_entry2 room[X86_CPUID_MAX];
};

/**
 * x86_cpuid_restrict() - Take away what a guest must not rely on
 * @table:	in: as supported by KVM; out: as shown to every vCPU
 *
 * Off: nested virtualisation, PMU, AMX, asynchronous page faults, invariant
 * TSC (a migration may change the frequency). On: hypervisor, TSC deadline
 * timer, x2APIC, which KVM emulates whatever the host has.
 */
void x86_cpuid_restrict(struct kvm_cpuid2 *table);

/* Write a vCPU's APIC id and the number of CPUs into a copy of the table. */
void x86_cpuid_set_topology(struct kvm_cpuid2 *table, unsigned int id,
			    unsigned int cpus);

/**
 * x86_cpuid_check() - May a guest that was shown @wanted run on @here?
 *
 * Return: 0, or -1 with @err naming the first leaf, register and bits that
 * are missing
 */
int x86_cpuid_check(const struct kvm_cpuid2 *wanted,
		    const struct kvm_cpuid2 *here, struct error *err);

#endif
