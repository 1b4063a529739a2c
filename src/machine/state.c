// SPDX-License-Identifier: MIT
/* All state of a stopped machine beside its memory. */
#include <string.h>

#include "base/cleanup.h"
#include "machine/state.h"

void machine_save_config(struct machine *machine, struct buffer *config,
			 struct buffer *cpuid)
{
	const struct kvm_cpuid2 *table = &machine->cpuid.header;
	uint32_t i;

	pthread_mutex_lock(&machine->lock);
	machine_config_save(&machine->config, config);
	pthread_mutex_unlock(&machine->lock);
	buffer_put_u32(cpuid, machine->tsc_khz);
	buffer_put_u32(cpuid, table->nent);
	for (i = 0; i < table->nent; i++) {
		const struct kvm_cpuid_entry2 *entry = &table->entries[i];

		buffer_put_u32(cpuid, entry->function);
		buffer_put_u32(cpuid, entry->index);
		buffer_put_u32(cpuid, entry->flags);
		buffer_put_u32(cpuid, entry->eax);
		buffer_put_u32(cpuid, entry->ebx);
		buffer_put_u32(cpuid, entry->ecx);
		buffer_put_u32(cpuid, entry->edx);
	}
}

int machine_load_cpuid(struct x86_cpuid *cpuid, uint32_t *tsc_khz,
		       struct buffer_reader *from, struct error *err)
{
	uint32_t i, count;

	memset(cpuid, 0, sizeof(*cpuid));
	*tsc_khz = buffer_get_u32(from);
	count = buffer_get_u32(from);
	if (from->failed || !count || count > X86_CPUID_MAX)
		return error_set(err, "CPUID in the stream has %u entries",
				 count);
	cpuid->header.nent = count;
	for (i = 0; i < count; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->header.entries[i];

		entry->function = buffer_get_u32(from);
		entry->index = buffer_get_u32(from);
		entry->flags = buffer_get_u32(from);
		entry->eax = buffer_get_u32(from);
		entry->ebx = buffer_get_u32(from);
		entry->ecx = buffer_get_u32(from);
		entry->edx = buffer_get_u32(from);
	}
	return from->failed ? error_set(err, "CPUID in the stream is cut "
					"short") : 0;
}

/* --------------------------------------------------------------- save --- */

static int save_machine(struct machine *machine, struct buffer *to,
			struct error *err)
{
	buffer_put_u32(to, machine->pci.address);
	/* A reset or power-off that nobody has served yet goes along. */
	buffer_put_u32(to, atomic_load(&machine->events) &
				   (MACHINE_EVENT_RESET |
				    MACHINE_EVENT_POWEROFF));
	return 0;
}

static int save_irqchip(struct machine *machine, struct buffer *to,
			struct error *err)
{
	return kvm_irqchip_save(&machine->vm, to, err);
}

static int save_serial(struct machine *machine, struct buffer *to,
		       struct error *err)
{
	const struct serial_state *s = &machine->serial.state;
	uint8_t registers[] = { s->ier, s->lcr, s->mcr, s->scr, s->dll,
				s->dlm, s->fcr, s->transmit_empty_pending,
				s->fifo_used };

	buffer_put(to, registers, sizeof(registers));
	buffer_put(to, s->fifo, sizeof(s->fifo));
	return 0;
}

static int save_balloon(struct machine *machine, struct buffer *to,
			struct error *err)
{
	return balloon_device_save(&machine->balloon, to, err);
}

static int save_clock(struct machine *machine, struct buffer *to,
		      struct error *err)
{
	return kvm_clock_save(&machine->vm, to, err);
}

static int save_one(struct machine *machine, struct state_writer *writer,
		    uint32_t kind,
		    int (*save)(struct machine *machine, struct buffer *to,
				struct error *err),
		    struct error *err)
{
	struct buffer payload = { 0 };
	int rc = save(machine, &payload, err);

	if (rc == 0)
		state_writer_add(writer, kind, 0, &payload);
	buffer_free(&payload);
	return rc;
}

static int save_vcpus(struct machine *machine, struct state_writer *writer,
		      struct error *err)
{
	unsigned int i;

	for (i = 0; i < machine->cpus; i++) {
		struct buffer payload = { 0 };
		int rc = kvm_vcpu_save(&machine->cpu[i].vcpu, &payload, err);

		if (rc == 0)
			state_writer_add(writer, STATE_VCPU, i, &payload);
		buffer_free(&payload);
		if (rc < 0)
			return -1;
	}
	return 0;
}

int machine_save_state(struct machine *machine, struct state_writer *writer,
		       struct error *err)
{
	if (save_one(machine, writer, STATE_MACHINE, save_machine, err) < 0 ||
	    save_one(machine, writer, STATE_IRQCHIP, save_irqchip, err) < 0 ||
	    save_vcpus(machine, writer, err) < 0 ||
	    save_one(machine, writer, STATE_SERIAL, save_serial, err) < 0)
		return -1;
	if (machine->config.balloon &&
	    save_one(machine, writer, STATE_BALLOON, save_balloon, err) < 0)
		return -1;
	return save_one(machine, writer, STATE_CLOCK, save_clock, err);
}

/* --------------------------------------------------------------- load --- */

static int load_machine(struct machine *machine, struct buffer_reader *from,
			struct error *err)
{
	uint32_t events;

	machine->pci.address = buffer_get_u32(from);
	events = buffer_get_u32(from) & (MACHINE_EVENT_RESET |
					 MACHINE_EVENT_POWEROFF);
	atomic_fetch_or(&machine->events, events);
	return 0;
}

static int load_serial(struct machine *machine, struct buffer_reader *from,
		       struct error *err)
{
	struct serial_state s = { 0 };
	uint8_t registers[9];

	buffer_get(from, registers, sizeof(registers));
	buffer_get(from, s.fifo, sizeof(s.fifo));
	s.ier = registers[0];
	s.lcr = registers[1];
	s.mcr = registers[2];
	s.scr = registers[3];
	s.dll = registers[4];
	s.dlm = registers[5];
	s.fcr = registers[6];
	s.transmit_empty_pending = registers[7];
	s.fifo_used = registers[8];
	scoped_lock(&machine->device_lock);
	if (from->failed || serial_load(&machine->serial, &s) < 0)
		return error_set(err, "state of the serial port holds a value "
				 "that cannot be");
	return 0;
}

static int load_vcpu(struct machine *machine, uint32_t instance,
		     struct buffer_reader *from, struct error *err)
{
	if (instance >= machine->cpus)
		return error_set(err, "state of CPU %u, but there are %u",
				 instance, machine->cpus);
	return kvm_vcpu_load(&machine->cpu[instance].vcpu, from, err);
}

int machine_load_state(struct machine *machine, uint32_t kind,
		       uint32_t instance, struct buffer_reader *from,
		       struct error *err)
{
	int rc;

	switch (kind) {
	case STATE_MACHINE:
		rc = load_machine(machine, from, err);
		break;
	case STATE_IRQCHIP:
		rc = kvm_irqchip_load(&machine->vm, from, err);
		break;
	case STATE_VCPU:
		rc = load_vcpu(machine, instance, from, err);
		break;
	case STATE_SERIAL:
		rc = load_serial(machine, from, err);
		break;
	case STATE_BALLOON:
		if (!machine->config.balloon)
			return error_set(err, "state of a balloon, but there "
					 "is none");
		rc = balloon_device_load(&machine->balloon, from, err);
		break;
	case STATE_CLOCK:
		rc = kvm_clock_load(&machine->vm, from, err);
		break;
	default:
		return error_set(err, "state of unknown kind %u", kind);
	}
	if (rc == 0 && (from->failed || from->left))
		return error_set(err, "state of kind %u has a bad length",
				 kind);
	return rc;
}

int machine_states_add(struct machine_states *states, uint32_t kind,
		       uint32_t instance, struct error *err)
{
	bool vcpu = kind == STATE_VCPU;
	bool again = vcpu ? states->vcpus >> instance & 1 :
			    states->kinds >> kind & 1;

	if (again || (!vcpu && instance) || states->kinds >> STATE_CLOCK & 1)
		return error_set(err, "the stream is damaged: state of kind %u, "
				 "instance %u, has no place there", kind,
				 instance);
	states->kinds |= 1u << kind;
	if (vcpu)
		states->vcpus |= 1ull << instance;
	return 0;
}

int machine_states_check(const struct machine_states *states,
			 const struct machine_config *config,
			 struct error *err)
{
	uint32_t kinds = 1u << STATE_MACHINE | 1u << STATE_IRQCHIP |
			 1u << STATE_VCPU | 1u << STATE_SERIAL |
			 1u << STATE_CLOCK;

	if (config->balloon)
		kinds |= 1u << STATE_BALLOON;
	if (states->kinds == kinds &&
	    states->vcpus == (1ull << config->cpus) - 1)
		return 0;
	return error_set(err, "the stream lacks part of the guest's state "
			 "(kinds %#x, CPUs %#llx)", kinds & ~states->kinds,
			 (unsigned long long)(((1ull << config->cpus) - 1) &
					      ~states->vcpus));
}
