// SPDX-License-Identifier: MIT
/*
 * Saving and loading a vCPU.
 *
 * The record is a row of parts {u32 part, u32 length, bytes}. The bytes are
 * KVM's own structures, whose layout is stable; lengths are exact. Parts come
 * in the order in which they must be loaded: the local APIC after its base
 * (special registers), the deadline timer (an MSR) after the local APIC.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "kvm/vcpu.h"

#define MAX_MSRS 1024
#define MAX_XSAVE (64u << 10)

enum vcpu_part {
	PART_MP_STATE = 1,
	PART_REGS = 2,
	PART_SREGS = 3,
	PART_XSAVE = 4,
	PART_XCRS = 5,
	PART_DEBUGREGS = 6,
	PART_LAPIC = 7,
	PART_MSRS = 8,
	PART_EVENTS = 9,
};

/* Parts that are one structure, read by one ioctl and written by another. */
static const struct plain_part {
	enum vcpu_part part;
	uint32_t size;
	unsigned long get, set;
	const char *name;
} plain_parts[] = {
	{ PART_MP_STATE, sizeof(struct kvm_mp_state), KVM_GET_MP_STATE,
	  KVM_SET_MP_STATE, "multiprocessor state" },
	{ PART_REGS, sizeof(struct kvm_regs), KVM_GET_REGS, KVM_SET_REGS,
	  "registers" },
	{ PART_SREGS, sizeof(struct kvm_sregs), KVM_GET_SREGS, KVM_SET_SREGS,
	  "special registers" },
	{ PART_XCRS, sizeof(struct kvm_xcrs), KVM_GET_XCRS, KVM_SET_XCRS,
	  "extended control registers" },
	{ PART_DEBUGREGS, sizeof(struct kvm_debugregs), KVM_GET_DEBUGREGS,
	  KVM_SET_DEBUGREGS, "debug registers" },
	{ PART_LAPIC, sizeof(struct kvm_lapic_state), KVM_GET_LAPIC,
	  KVM_SET_LAPIC, "local APIC" },
	{ PART_EVENTS, sizeof(struct kvm_vcpu_events), KVM_GET_VCPU_EVENTS,
	  KVM_SET_VCPU_EVENTS, "pending events" },
};

static const enum vcpu_part save_order[] = {
	PART_MP_STATE, PART_REGS,  PART_SREGS, PART_XSAVE,  PART_XCRS,
	PART_DEBUGREGS, PART_LAPIC, PART_MSRS,  PART_EVENTS,
};

static const struct plain_part *plain_part(uint32_t part)
{
	size_t i;

	for (i = 0; i < sizeof(plain_parts) / sizeof(plain_parts[0]); i++)
		if (plain_parts[i].part == part)
			return &plain_parts[i];
	return NULL;
}

static void put_part(struct buffer *to, uint32_t part, const void *from,
		     uint32_t size)
{
	buffer_put_u32(to, part);
	buffer_put_u32(to, size);
	buffer_put(to, from, size);
}

static int save_plain(struct kvm_vcpu *vcpu, const struct plain_part *part,
		      struct buffer *to, struct error *err)
{
	uint8_t state[4096] = { 0 };

	if (ioctl(vcpu->fd, part->get, state) < 0)
		return error_set_errno(err, errno, "reading the %s of vCPU %u",
				       part->name, vcpu->id);
	put_part(to, part->part, state, part->size);
	return 0;
}

static uint32_t xsave_size(const struct kvm_vcpu *vcpu)
{
	int size = kvm_vm_capability(vcpu->vm, KVM_CAP_XSAVE2);

	return size > (int)sizeof(struct kvm_xsave) ? (uint32_t)size :
						      sizeof(struct kvm_xsave);
}

static int save_xsave(struct kvm_vcpu *vcpu, struct buffer *to,
		      struct error *err)
{
	uint32_t size = xsave_size(vcpu);
	cleanup_free void *state = calloc(1, size);
	unsigned long get = size > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 :
							      KVM_GET_XSAVE;

	if (!state || ioctl(vcpu->fd, get, state) < 0)
		return error_set_errno(err, errno,
				       "reading the FPU state of vCPU %u",
				       vcpu->id);
	put_part(to, PART_XSAVE, state, size);
	return 0;
}

/* Indices that this KVM saves; owned by the caller. */
static struct kvm_msr_list *msr_list(const struct kvm_vm *vm)
{
	struct kvm_msr_list *list;

	list = calloc(1, sizeof(*list) + MAX_MSRS * sizeof(list->indices[0]));
	if (!list)
		return NULL;
	list->nmsrs = MAX_MSRS;
	if (ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, list) < 0) {
		free(list);
		return NULL;
	}
	return list;
}

struct one_msr {
	struct kvm_msrs header;
	struct kvm_msr_entry entry;
};

static int save_msrs(struct kvm_vcpu *vcpu, struct buffer *to,
		     struct error *err)
{
	cleanup_free struct kvm_msr_list *list = msr_list(vcpu->vm);
	cleanup_free struct kvm_msr_entry *found = NULL;
	uint32_t i, count = 0;

	if (!list)
		return error_set(err, "KVM does not list its MSRs");
	found = calloc(list->nmsrs, sizeof(*found));
	if (!found)
		return error_set(err, "no memory for %u MSRs", list->nmsrs);
	for (i = 0; i < list->nmsrs; i++) {
		struct one_msr msr = {
			.header.nmsrs = 1,
			.entry.index = list->indices[i],
		};

		/* KVM lists MSRs that this CPU model need not have. */
		if (ioctl(vcpu->fd, KVM_GET_MSRS, &msr) == 1)
			found[count++] = msr.entry;
	}
	put_part(to, PART_MSRS, found, count * sizeof(*found));
	return 0;
}

int kvm_vcpu_save(struct kvm_vcpu *vcpu, struct buffer *to, struct error *err)
{
	size_t i;
	int rc;

	for (i = 0; i < sizeof(save_order) / sizeof(save_order[0]); i++) {
		if (save_order[i] == PART_XSAVE)
			rc = save_xsave(vcpu, to, err);
		else if (save_order[i] == PART_MSRS)
			rc = save_msrs(vcpu, to, err);
		else
			rc = save_plain(vcpu, plain_part(save_order[i]), to,
					err);
		if (rc < 0)
			return -1;
	}
	return to->failed ? error_set(err, "no memory for a vCPU's state") : 0;
}

/* Set one MSR; one that cannot be set but holds the value already is fine. */
static int load_msr(struct kvm_vcpu *vcpu, struct kvm_msr_entry entry,
		    struct error *err)
{
	struct one_msr msr = { .header.nmsrs = 1, .entry = entry };

	msr.entry.reserved = 0;
	if (ioctl(vcpu->fd, KVM_SET_MSRS, &msr) == 1)
		return 0;
	msr.entry.data = 0;
	if (ioctl(vcpu->fd, KVM_GET_MSRS, &msr) == 1 &&
	    msr.entry.data == entry.data)
		return 0;
	/* What this host does not have and the guest did not use. */
	if (!entry.data)
		return 0;
	return error_set(err, "MSR %#x of vCPU %u cannot be %#" PRIx64 " here",
			 entry.index, vcpu->id, (uint64_t)entry.data);
}

static int load_msrs(struct kvm_vcpu *vcpu, const uint8_t *from, uint32_t size,
		     struct error *err)
{
	struct kvm_msr_entry entry;
	uint32_t offset;

	if (size % sizeof(entry) || size / sizeof(entry) > MAX_MSRS)
		return error_set(err, "vCPU %u: %u bytes of MSRs", vcpu->id,
				 size);
	for (offset = 0; offset < size; offset += sizeof(entry)) {
		memcpy(&entry, from + offset, sizeof(entry));
		if (load_msr(vcpu, entry, err) < 0)
			return -1;
	}
	return 0;
}

static int load_xsave(struct kvm_vcpu *vcpu, const uint8_t *from, uint32_t size,
		      struct error *err)
{
	cleanup_free void *state = NULL;

	if (size != xsave_size(vcpu) || size > MAX_XSAVE)
		return error_set(err, "vCPU %u: FPU state of %u bytes, this "
				 "host has %u", vcpu->id, size,
				 xsave_size(vcpu));
	state = malloc(size);
	if (!state)
		return error_set(err, "no memory for FPU state");
	memcpy(state, from, size);
	if (ioctl(vcpu->fd, KVM_SET_XSAVE, state) < 0)
		return error_set_errno(err, errno,
				       "loading the FPU state of vCPU %u",
				       vcpu->id);
	return 0;
}

static int load_plain(struct kvm_vcpu *vcpu, const struct plain_part *part,
		      const uint8_t *from, uint32_t size, struct error *err)
{
	uint8_t state[4096];

	if (size != part->size)
		return error_set(err, "vCPU %u: %s of %u bytes instead of %u",
				 vcpu->id, part->name, size, part->size);
	memcpy(state, from, size);
	if (ioctl(vcpu->fd, part->set, state) < 0)
		return error_set_errno(err, errno, "loading the %s of vCPU %u",
				       part->name, vcpu->id);
	return 0;
}

int kvm_vcpu_load(struct kvm_vcpu *vcpu, struct buffer_reader *from,
		  struct error *err)
{
	size_t i;

	for (i = 0; i < sizeof(save_order) / sizeof(save_order[0]); i++) {
		uint32_t part = buffer_get_u32(from);
		uint32_t size = buffer_get_u32(from);
		const uint8_t *bytes = buffer_get_span(from, size);
		int rc;

		if (!bytes || part != save_order[i])
			return error_set(err, "state of vCPU %u is cut short "
					 "or out of order", vcpu->id);
		if (part == PART_XSAVE)
			rc = load_xsave(vcpu, bytes, size, err);
		else if (part == PART_MSRS)
			rc = load_msrs(vcpu, bytes, size, err);
		else
			rc = load_plain(vcpu, plain_part(part), bytes, size,
					err);
		if (rc < 0)
			return -1;
	}
	return 0;
}

uint32_t kvm_vcpu_tsc_khz(const struct kvm_vcpu *vcpu)
{
	int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

	return khz < 0 ? 0 : khz;
}

int kvm_vcpu_set_tsc_khz(struct kvm_vcpu *vcpu, uint32_t khz,
			 struct error *err)
{
	uint32_t here = kvm_vcpu_tsc_khz(vcpu);
	uint64_t apart = here > khz ? here - khz : khz - here;

	/* Within NTP's reach: the guest's clock corrects it. */
	if (!khz || !here || apart * 1000000 <= 250ull * khz)
		return 0;
	if (ioctl(vcpu->fd, KVM_SET_TSC_KHZ, khz) < 0)
		return error_set(err, "the guest's TSC runs at %u kHz, this "
				 "host's at %u, and KVM cannot scale it", khz,
				 here);
	return 0;
}
