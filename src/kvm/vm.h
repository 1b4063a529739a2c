/* SPDX-License-Identifier: MIT */
/*
 * A virtual machine as KVM sees it: descriptors, memory slots, interrupts and
 * ioeventfds. Threads and devices are the machine's.
 */
#ifndef KVM_VM_H
#define KVM_VM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "memory/guest_memory.h"

#define KVM_VM_MAX_CPUS 32

struct kvm_vm {
	int kvm_fd, vm_fd;
	size_t run_size;		 /* of the area a vCPU shares with us */
	bool manual_clear, initially_set; /* of the dirty log, as offered */
	struct guest_memory *memory;	 /* not owned */
};

/**
 * kvm_vm_create() - Open KVM, create a VM with interrupt controllers
 * @device:	"/dev/kvm"
 * @memory:	mapped guest RAM; becomes slot i for region i
 *
 * Return: 0, or -1 with @err
 */
int kvm_vm_create(struct kvm_vm *vm, const char *device,
		  struct guest_memory *memory, struct error *err);
void kvm_vm_destroy(struct kvm_vm *vm);

/* Value of a capability, 0 when absent. */
int kvm_vm_capability(const struct kvm_vm *vm, long capability);

/* Set the flags of all memory slots (KVM_MEM_LOG_DIRTY_PAGES or 0). */
int kvm_vm_set_slot_flags(struct kvm_vm *vm, uint32_t flags,
			  struct error *err);

/* Deliver an MSI. Any thread. */
void kvm_vm_signal_msi(const struct kvm_vm *vm, uint64_t address,
		       uint32_t data);

/* Level of an interrupt line of the I/O APIC. Any thread. */
void kvm_vm_irq_line(const struct kvm_vm *vm, uint32_t gsi, bool level);

/* Have 2-byte writes to @address count on @fd, or no longer. Any thread.
 * Return: 0 or a negative errno */
int kvm_vm_ioeventfd(const struct kvm_vm *vm, uint64_t address, int fd,
		     bool assign);

#endif
