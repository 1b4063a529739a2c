// SPDX-License-Identifier: MIT
/* A virtual machine as KVM sees it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm/vm.h"

/* Pages below 4 GiB that KVM needs for itself on Intel hosts; inside the hole
 * between low and high RAM, out of the PCI window. */
#define KVM_TSS_ADDRESS 0xfffbd000
#define KVM_IDENTITY_MAP_ADDRESS 0xfffbc000ull

static const struct {
	long capability;
	const char *what;
} needed[] = {
	{ KVM_CAP_USER_MEMORY, "user memory" },
	{ KVM_CAP_IRQCHIP, "interrupt controllers in the kernel" },
	{ KVM_CAP_IOEVENTFD, "ioeventfd" },
	{ KVM_CAP_SIGNAL_MSI, "MSI signalling" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
};

int kvm_vm_capability(const struct kvm_vm *vm, long capability)
{
	int value = ioctl(vm->vm_fd, KVM_CHECK_EXTENSION, capability);

	return value < 0 ? 0 : value;
}

static int set_slot(struct kvm_vm *vm, unsigned int slot, uint32_t flags,
		    struct error *err)
{
	const struct memory_region *region = &vm->memory->region[slot];
	struct kvm_userspace_memory_region slot_region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = region->start.value,
		.memory_size = region->size,
		.userspace_addr = (uintptr_t)region->host,
	};

	if (ioctl(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot_region) < 0)
		return error_set_errno(err, errno, "KVM takes no memory up to "
				       "address %#llx (more than the host's "
				       "CPUs can address, perhaps)",
				       (unsigned long long)(
					       slot_region.guest_phys_addr +
					       slot_region.memory_size));
	return 0;
}

int kvm_vm_set_slot_flags(struct kvm_vm *vm, uint32_t flags, struct error *err)
{
	unsigned int slot;

	for (slot = 0; slot < vm->memory->regions; slot++)
		if (set_slot(vm, slot, flags, err) < 0)
			return -1;
	return 0;
}

/* With manual protection a sync reads the log and clears only what it took;
 * with INITIALLY_SET arming costs nothing for memory that does not exist. */
static void enable_manual_clear(struct kvm_vm *vm)
{
	int offered = kvm_vm_capability(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	struct kvm_enable_cap enable = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = { offered & (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
				     KVM_DIRTY_LOG_INITIALLY_SET) },
	};

	if (!offered || ioctl(vm->vm_fd, KVM_ENABLE_CAP, &enable) < 0)
		return;
	vm->manual_clear = true;
	vm->initially_set = enable.args[0] & KVM_DIRTY_LOG_INITIALLY_SET;
}

static int set_up(struct kvm_vm *vm, struct error *err)
{
	uint64_t identity = KVM_IDENTITY_MAP_ADDRESS;
	int size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	size_t i;

	if (size < 0)
		return error_set_errno(err, errno, "KVM vCPU area");
	vm->run_size = size;
	for (i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!kvm_vm_capability(vm, needed[i].capability))
			return error_set(err, "this KVM lacks %s",
					 needed[i].what);
	/* Intel needs them; where they are not known nobody misses them. */
	ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, KVM_TSS_ADDRESS);
	ioctl(vm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (ioctl(vm->vm_fd, KVM_CREATE_IRQCHIP) < 0)
		return error_set_errno(err, errno, "KVM interrupt controllers");
	enable_manual_clear(vm);
	return kvm_vm_set_slot_flags(vm, 0, err);
}

int kvm_vm_create(struct kvm_vm *vm, const char *device,
		  struct guest_memory *memory, struct error *err)
{
	memset(vm, 0, sizeof(*vm));
	vm->vm_fd = -1;
	vm->memory = memory;
	vm->kvm_fd = open(device, O_RDWR | O_CLOEXEC);
	if (vm->kvm_fd < 0)
		return error_set_errno(err, errno,
				       "cannot open %s (is KVM there, and may "
				       "you use it?)", device);
	if (ioctl(vm->kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		error_set(err, "%s does not speak KVM's stable interface",
			  device);
		goto fail;
	}
	do
		vm->vm_fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	while (vm->vm_fd < 0 && errno == EINTR);
	if (vm->vm_fd < 0) {
		error_set_errno(err, errno, "KVM cannot create a VM");
		goto fail;
	}
	if (set_up(vm, err) == 0)
		return 0;
fail:
	kvm_vm_destroy(vm);
	return -1;
}

void kvm_vm_destroy(struct kvm_vm *vm)
{
	if (vm->vm_fd >= 0)
		close(vm->vm_fd);
	if (vm->kvm_fd >= 0)
		close(vm->kvm_fd);
	vm->vm_fd = vm->kvm_fd = -1;
}

void kvm_vm_signal_msi(const struct kvm_vm *vm, uint64_t address,
		       uint32_t data)
{
	struct kvm_msi msi = {
		.address_lo = address,
		.address_hi = address >> 32,
		.data = data,
	};

	/* A message that no CPU takes is the guest's own doing. */
	ioctl(vm->vm_fd, KVM_SIGNAL_MSI, &msi);
}

void kvm_vm_irq_line(const struct kvm_vm *vm, uint32_t gsi, bool level)
{
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	ioctl(vm->vm_fd, KVM_IRQ_LINE, &line);
}

int kvm_vm_ioeventfd(const struct kvm_vm *vm, uint64_t address, int fd,
		     bool assign)
{
	struct kvm_ioeventfd event = {
		.addr = address,
		.len = 2,
		.fd = fd,
		.flags = assign ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN,
	};

	return ioctl(vm->vm_fd, KVM_IOEVENTFD, &event) < 0 ? -errno : 0;
}
