// SPDX-License-Identifier: MIT
/* A virtual CPU: creation, CPUID, registers at start. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm/vcpu.h"

#define CR0_PE (1ull << 0)
#define CR0_MP (1ull << 1)
#define CR0_ET (1ull << 4)
#define CR0_NE (1ull << 5)
#define CR0_WP (1ull << 16)
#define CR0_PG (1ull << 31)
#define CR4_PAE (1ull << 5)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define SEGMENT_CODE 11 /* execute, read, accessed */
#define SEGMENT_DATA 3	/* read, write, accessed */
#define SEGMENT_TSS 11	/* busy 32-bit or 64-bit TSS */

#define MSR_IA32_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FAST_STRING 1

int kvm_vcpu_create(struct kvm_vcpu *vcpu, struct kvm_vm *vm, unsigned int id,
		    struct error *err)
{
	*vcpu = (struct kvm_vcpu){ .vm = vm, .id = id, .run = MAP_FAILED,
				    .stats_fd = -1 };
	vcpu->fd = ioctl(vm->vm_fd, KVM_CREATE_VCPU, id);
	if (vcpu->fd < 0)
		return error_set_errno(err, errno, "KVM vCPU %u", id);
	vcpu->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			 vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		error_set_errno(err, errno, "area of KVM vCPU %u", id);
		kvm_vcpu_destroy(vcpu);
		return -1;
	}
	/* Now: asked for later it would wait for the vCPU to leave the guest. */
	vcpu->stats_fd = ioctl(vcpu->fd, KVM_GET_STATS_FD, NULL);
	return 0;
}

void kvm_vcpu_destroy(struct kvm_vcpu *vcpu)
{
	if (vcpu->run && vcpu->run != MAP_FAILED)
		munmap(vcpu->run, vcpu->vm->run_size);
	if (vcpu->stats_fd >= 0)
		close(vcpu->stats_fd);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	vcpu->run = MAP_FAILED;
	vcpu->fd = vcpu->stats_fd = -1;
}

int kvm_supported_cpuid(const struct kvm_vm *vm, struct kvm_cpuid2 *table,
			unsigned int capacity, struct error *err)
{
	table->nent = capacity;
	if (ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, table) < 0)
		return error_set_errno(err, errno, "KVM's CPUID");
	return table->nent;
}

int kvm_vcpu_set_cpuid(struct kvm_vcpu *vcpu, const struct kvm_cpuid2 *table,
		       struct error *err)
{
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, table) < 0)
		return error_set_errno(err, errno, "CPUID of vCPU %u",
				       vcpu->id);
	return 0;
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type,
				       bool code, bool long_mode)
{
	return (struct kvm_segment){
		.selector = selector,
		.limit = 0xffffffff,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.l = code && long_mode,
		.db = !(code && long_mode),
	};
}

static int start_sregs(struct kvm_vcpu *vcpu, const struct vcpu_start *start,
		       struct error *err)
{
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return error_set_errno(err, errno, "KVM_GET_SREGS");
	sregs.cs = flat_segment(start->code, SEGMENT_CODE, true,
				start->long_mode);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss =
		flat_segment(start->data, SEGMENT_DATA, false,
			     start->long_mode);
	sregs.tr = (struct kvm_segment){ .limit = 0x67, .type = SEGMENT_TSS,
					 .present = 1 };
	sregs.gdt.base = start->gdt;
	sregs.gdt.limit = start->gdt_size ? start->gdt_size - 1 : 0;
	sregs.idt.base = 0;
	sregs.idt.limit = 0;
	sregs.cr0 = CR0_PE | CR0_ET;
	sregs.cr4 = 0;
	sregs.efer = 0;
	if (start->long_mode) {
		sregs.cr0 |= CR0_PG | CR0_MP | CR0_NE | CR0_WP;
		sregs.cr3 = start->page_table;
		sregs.cr4 |= CR4_PAE;
		sregs.efer |= EFER_LME | EFER_LMA;
	}
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0)
		return error_set_errno(err, errno, "KVM_SET_SREGS");
	return 0;
}

static int start_registers(struct kvm_vcpu *vcpu,
			   const struct vcpu_start *start, struct error *err)
{
	struct kvm_regs regs = {
		.rflags = 2,
		.rip = start->rip,
		.rsi = start->rsi,
		.rbx = start->rbx,
		.rsp = start->rsp,
	};
	struct kvm_fpu fpu = { .fcw = 0x37f, .mxcsr = 0x1f80 };
	struct {
		struct kvm_msrs header;
		struct kvm_msr_entry entry;
	} msr = {
		.header.nmsrs = 1,
		.entry = { .index = MSR_IA32_MISC_ENABLE,
			   .data = MISC_ENABLE_FAST_STRING },
	};

	if (start_sregs(vcpu, start, err) < 0)
		return -1;
	if (ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return error_set_errno(err, errno, "KVM_SET_REGS");
	if (ioctl(vcpu->fd, KVM_SET_FPU, &fpu) < 0)
		return error_set_errno(err, errno, "KVM_SET_FPU");
	/* Absent on AMD: a plain refusal there is no fault. */
	ioctl(vcpu->fd, KVM_SET_MSRS, &msr);
	return 0;
}

int kvm_vcpu_start(struct kvm_vcpu *vcpu, const struct vcpu_start *start,
		   struct error *err)
{
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };

	if (start_registers(vcpu, start, err) < 0)
		return -1;
	if (ioctl(vcpu->fd, KVM_SET_MP_STATE, &runnable) < 0)
		return error_set_errno(err, errno, "KVM_SET_MP_STATE");
	return 0;
}
