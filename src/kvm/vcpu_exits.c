// SPDX-License-Identifier: MIT
/*
 * What KVM counts of a vCPU: its binary statistics, a file that describes itself
 * (Linux, virt/kvm/api, KVM_GET_STATS_FD).
 */
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "kvm/vcpu.h"

#define MOST_DESCRIPTORS 1024 /* there are some 50 */
#define MOST_NAME 256

static const char *const names[KVM_EXITS] = {
	[KVM_EXITS_ALL] = "exits",	   [KVM_EXITS_MMIO] = "mmio_exits",
	[KVM_EXITS_IO] = "io_exits",	   [KVM_EXITS_HALT] = "halt_exits",
	[KVM_EXITS_SIGNAL] = "signal_exits",
	[KVM_EXITS_INJECTED] = "irq_injections",
};

static int read_at(int fd, void *to, size_t bytes, uint64_t offset)
{
	return pread(fd, to, bytes, offset) == (ssize_t)bytes ? 0 : -1;
}

/* Add the statistic @descriptor tells of, if it is one of ours.
 * Return: 1 when it was, else 0; or -1 */
static int add_one(int fd, const struct kvm_stats_header *header,
		   const struct kvm_stats_desc *descriptor, uint64_t *counts)
{
	uint64_t value;
	int i;

	for (i = 0; i < KVM_EXITS; i++)
		if (!strncmp(descriptor->name, names[i], header->name_size))
			break;
	if (i == KVM_EXITS || !descriptor->size)
		return 0;
	if (read_at(fd, &value, sizeof(value),
		    (uint64_t)header->data_offset + descriptor->offset) < 0)
		return -1;
	counts[i] += value;
	return 1;
}

int kvm_vcpu_add_exits(const struct kvm_vcpu *vcpu, uint64_t *counts)
{
	cleanup_free struct kvm_stats_desc *descriptor = NULL;
	struct kvm_stats_header header;
	int found, sum = 0;
	size_t bytes;
	uint32_t i;

	if (vcpu->stats_fd < 0 ||
	    read_at(vcpu->stats_fd, &header, sizeof(header), 0) < 0 ||
	    header.num_desc > MOST_DESCRIPTORS || header.name_size > MOST_NAME)
		return -1;
	bytes = sizeof(*descriptor) + header.name_size;
	descriptor = malloc(bytes);
	for (i = 0; descriptor && i < header.num_desc; i++) {
		if (read_at(vcpu->stats_fd, descriptor, bytes,
			    header.desc_offset + i * bytes) < 0)
			return -1;
		found = add_one(vcpu->stats_fd, &header, descriptor, counts);
		if (found < 0)
			return -1;
		sum += found;
	}
	return sum == KVM_EXITS ? 0 : -1;
}
