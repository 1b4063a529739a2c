/* SPDX-License-Identifier: MIT */
/* All state of a stopped machine beside its memory, as STATE records. */
#ifndef MACHINE_STATE_H
#define MACHINE_STATE_H

#include "machine/machine.h"
#include "migration/source.h"

/* Kinds of STATE records, docs/spec/stream.md section 4. */
enum machine_state_kind {
	STATE_MACHINE = 1,
	STATE_IRQCHIP = 2,
	STATE_VCPU = 3,
	STATE_SERIAL = 4,
	STATE_BALLOON = 5,
	STATE_CLOCK = 6,
};

/* Payloads of CONFIG and CPUID. Return (load): 0, or -1 with @err */
void machine_save_config(struct machine *machine, struct buffer *config,
			 struct buffer *cpuid);
int machine_load_cpuid(struct x86_cpuid *cpuid, uint32_t *tsc_khz,
		       struct buffer_reader *from, struct error *err);

/* With the machine stopped. Return: 0, or -1 with @err */
int machine_save_state(struct machine *machine, struct state_writer *writer,
		       struct error *err);
int machine_load_state(struct machine *machine, uint32_t kind,
		       uint32_t instance, struct buffer_reader *from,
		       struct error *err);

/* Which records have come: every kind once, VCPU once a CPU, CLOCK last. */
struct machine_states {
	uint32_t kinds; /* bits, by kind */
	uint64_t vcpus; /* bits, by CPU */
};

/* Note a record that was loaded. Return: 0, or -1 with @err when it had no place
 * there */
int machine_states_add(struct machine_states *states, uint32_t kind,
		       uint32_t instance, struct error *err);

/* Has all come that such a machine has? Return: 0, or -1 with @err */
int machine_states_check(const struct machine_states *states,
			 const struct machine_config *config,
			 struct error *err);

#endif
