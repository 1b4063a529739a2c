// SPDX-License-Identifier: MIT
/* Saving and loading what belongs to the VM as a whole. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm/vcpu.h"

static const uint32_t chips[] = {
	KVM_IRQCHIP_PIC_MASTER,
	KVM_IRQCHIP_PIC_SLAVE,
	KVM_IRQCHIP_IOAPIC,
};

#define CHIPS (sizeof(chips) / sizeof(chips[0]))

int kvm_irqchip_save(struct kvm_vm *vm, struct buffer *to, struct error *err)
{
	size_t i;

	for (i = 0; i < CHIPS; i++) {
		struct kvm_irqchip chip = { .chip_id = chips[i] };

		if (ioctl(vm->vm_fd, KVM_GET_IRQCHIP, &chip) < 0)
			return error_set_errno(err, errno,
					       "reading interrupt controller "
					       "%zu", i);
		buffer_put(to, &chip, sizeof(chip));
	}
	return 0;
}

int kvm_irqchip_load(struct kvm_vm *vm, struct buffer_reader *from,
		     struct error *err)
{
	struct kvm_irqchip chip;
	size_t i;

	for (i = 0; i < CHIPS; i++) {
		buffer_get(from, &chip, sizeof(chip));
		if (from->failed || chip.chip_id != chips[i])
			return error_set(err, "state of the interrupt "
					 "controllers is cut short or alien");
		if (ioctl(vm->vm_fd, KVM_SET_IRQCHIP, &chip) < 0)
			return error_set_errno(err, errno,
					       "loading interrupt controller "
					       "%zu", i);
	}
	return 0;
}

int kvm_clock_save(struct kvm_vm *vm, struct buffer *to, struct error *err)
{
	struct kvm_clock_data clock = { 0 };

	if (ioctl(vm->vm_fd, KVM_GET_CLOCK, &clock) < 0)
		return error_set_errno(err, errno, "reading KVM's clock");
	buffer_put_u64(to, clock.clock);
	buffer_put_u64(to, clock.flags & KVM_CLOCK_REALTIME ? clock.realtime :
							      0);
	return 0;
}

int kvm_clock_load(struct kvm_vm *vm, struct buffer_reader *from,
		   struct error *err)
{
	struct kvm_clock_data clock = { 0 };

	clock.clock = buffer_get_u64(from);
	clock.realtime = buffer_get_u64(from);
	if (from->failed)
		return error_set(err, "state of the clock is cut short");
	/* With the time of day the guest's clock goes on as if it had run
	 * during the move. */
	if (clock.realtime &&
	    kvm_vm_capability(vm, KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_REALTIME)
		clock.flags = KVM_CLOCK_REALTIME;
	if (ioctl(vm->vm_fd, KVM_SET_CLOCK, &clock) < 0)
		return error_set_errno(err, errno, "loading KVM's clock");
	return 0;
}
