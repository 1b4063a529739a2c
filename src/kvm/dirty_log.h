/* SPDX-License-Identifier: MIT */
/* The dirty_log interface on KVM's bitmap, one per memory slot. */
#ifndef KVM_DIRTY_LOG_H
#define KVM_DIRTY_LOG_H

#include "kvm/vm.h"
#include "memory/dirty_log.h"

struct kvm_log {
	struct dirty_log log;
	struct kvm_vm *vm;
	uint64_t *bitmap; /* of the largest slot; owned */
	uint64_t *clear;  /* of one piece that is cleared at once; owned */
	bool armed;
};

/* Return: 0, or -1 with @err. To be undone by kvm_log_destroy(). */
int kvm_log_create(struct kvm_log *log, struct kvm_vm *vm,
			 struct error *err);
void kvm_log_destroy(struct kvm_log *log);

#endif
