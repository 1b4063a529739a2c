/* SPDX-License-Identifier: MIT */
/*
 * A virtual CPU: registers at start, one run, and its whole state saved and
 * loaded. No thread: it is run by one, and saved and loaded by any while that
 * one is parked.
 */
#ifndef KVM_VCPU_H
#define KVM_VCPU_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "kvm/vm.h"

struct kvm_vcpu {
	struct kvm_vm *vm; /* not owned */
	unsigned int id;   /* also its APIC id */
	int fd;
	int stats_fd; /* -1 where KVM has none */
	struct kvm_run *run; /* shared with the kernel */
};

int kvm_vcpu_create(struct kvm_vcpu *vcpu, struct kvm_vm *vm, unsigned int id,
		    struct error *err);
void kvm_vcpu_destroy(struct kvm_vcpu *vcpu);

/* Whether KVM_RUN finishes a pending access and returns, or runs the guest.
 * Any thread; ordered by whatever lock or signal tells the vCPU's thread. */
static inline void kvm_vcpu_leave_at_once(struct kvm_vcpu *vcpu, bool leave)
{
	__atomic_store_n(&vcpu->run->immediate_exit, leave, __ATOMIC_RELAXED);
}

/* Where a vCPU begins: filled by the boot protocol. */
struct vcpu_start {
	uint64_t rip, rsi, rbx, rsp;
	bool long_mode;	      /* else 32-bit protected mode, paging off */
	uint64_t page_table;  /* long mode: value of CR3 */
	uint64_t gdt, gdt_size; /* bytes; 0 for none */
	uint16_t code, data;  /* selectors */
};

/* What KVM counts of a vCPU, since its creation. */
enum kvm_exits {
	KVM_EXITS_ALL,
	KVM_EXITS_MMIO, /* handed to us: an access to a device's registers */
	KVM_EXITS_IO,	/* port */
	KVM_EXITS_HALT,
	KVM_EXITS_SIGNAL,
	KVM_EXITS_INJECTED, /* interrupts, no exits of their own */
	KVM_EXITS,
};

/* Add this vCPU's to @counts[KVM_EXITS]. Any thread, while it runs.
 * Return: 0, or -1 when KVM counts nothing */
int kvm_vcpu_add_exits(const struct kvm_vcpu *vcpu, uint64_t *counts);

/* What KVM can show a guest here. @table has room for @capacity entries.
 * Return: entries, or -1 with @err */
int kvm_supported_cpuid(const struct kvm_vm *vm, struct kvm_cpuid2 *table,
			unsigned int capacity, struct error *err);

int kvm_vcpu_set_cpuid(struct kvm_vcpu *vcpu, const struct kvm_cpuid2 *table,
		       struct error *err);

/**
 * kvm_vcpu_start() - Give a vCPU in its power-on state its first registers
 *
 * For the first CPU; the others wait for INIT and SIPI. A CPU is brought back
 * to its power-on state by loading what kvm_vcpu_save() gave right after its
 * creation.
 */
int kvm_vcpu_start(struct kvm_vcpu *vcpu, const struct vcpu_start *start,
		   struct error *err);

/**
 * kvm_vcpu_save() / kvm_vcpu_load() - All architectural state but CPUID
 *
 * The layout is that of docs/spec/stream.md, record VCPU. Load follows
 * kvm_vcpu_set_cpuid(). kvm_vcpu_load() trusts nothing in @from.
 *
 * Return: 0, or -1 with @err that names the part
 */
int kvm_vcpu_save(struct kvm_vcpu *vcpu, struct buffer *to, struct error *err);
int kvm_vcpu_load(struct kvm_vcpu *vcpu, struct buffer_reader *from,
		  struct error *err);

/* TSC frequency in kHz, 0 when KVM does not tell; set where it differs by more
 * than 250 ppm. Return (set): 0, or -1 with @err */
uint32_t kvm_vcpu_tsc_khz(const struct kvm_vcpu *vcpu);
int kvm_vcpu_set_tsc_khz(struct kvm_vcpu *vcpu, uint32_t khz,
			 struct error *err);

/* Interrupt controllers and clock of the whole VM, records IRQCHIP and CLOCK.
 * The clock is loaded last, when the guest is about to run. */
int kvm_irqchip_save(struct kvm_vm *vm, struct buffer *to, struct error *err);
int kvm_irqchip_load(struct kvm_vm *vm, struct buffer_reader *from,
		     struct error *err);
int kvm_clock_save(struct kvm_vm *vm, struct buffer *to, struct error *err);
int kvm_clock_load(struct kvm_vm *vm, struct buffer_reader *from,
		   struct error *err);

#endif
