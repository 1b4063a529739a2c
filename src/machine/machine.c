// SPDX-License-Identifier: MIT
/* A machine: built, run, paused, reset. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "machine/machine.h"
#include "memory/backing.h"
#include "x86/acpi.h"
#include "x86/layout.h"

#define KVM_DEVICE "/dev/kvm"
#define HOST_BRIDGE_VENDOR 0x1b36
#define HOST_BRIDGE_DEVICE 0x0008
#define HOST_BRIDGE_CLASS 0x060000
#define BALLOON_SLOT 1
#define BALLOON_BARS (X86_PCI_WINDOW + 0x100000)

static const char *const state_names[] = {
	[MACHINE_PAUSED] = "paused",
	[MACHINE_RUNNING] = "running",
	[MACHINE_INCOMING] = "inmigrate",
	[MACHINE_FINISHING] = "finish-migrate",
	[MACHINE_MOVED] = "postmigrate",
};

const char *machine_state_name(enum machine_state state)
{
	return state_names[state];
}

void machine_post(struct machine *machine, enum machine_event event)
{
	uint64_t one = 1;

	atomic_fetch_or(&machine->events, event);
	if (write(machine->event_fd, &one, sizeof(one)) < 0)
		return; /* full: rung already */
}

void machine_fail(struct machine *machine, const char *format, ...)
{
	va_list args;

	pthread_mutex_lock(&machine->lock);
	va_start(args, format);
	vsnprintf(machine->failure, sizeof(machine->failure), format, args);
	va_end(args);
	pthread_mutex_unlock(&machine->lock);
	machine_post(machine, MACHINE_EVENT_FAILED);
}

/* ------------------------------------------------------------ devices --- */

static void on_serial_output(void *owner, uint8_t byte)
{
	struct machine *machine = owner;

	if (machine->serial_output)
		machine->serial_output(machine->serial_owner, byte);
}

static void on_serial_room(void *owner)
{
	struct machine *machine = owner;

	if (machine->serial_room)
		machine->serial_room(machine->serial_owner);
}

static void on_serial_interrupt(void *owner, bool level)
{
	struct machine *machine = owner;

	kvm_vm_irq_line(&machine->vm, X86_COM1_IRQ, level);
}

static const struct serial_ops serial_ops = {
	.output = on_serial_output,
	.interrupt = on_serial_interrupt,
	.room = on_serial_room,
};

static void on_actual_changed(void *owner)
{
	machine_post(owner, MACHINE_EVENT_BALLOON);
}

static int create_devices(struct machine *machine, struct error *err)
{
	serial_init(&machine->serial, &serial_ops, machine);
	pci_device_init(&machine->host_bridge, HOST_BRIDGE_VENDOR,
			HOST_BRIDGE_DEVICE, 0, HOST_BRIDGE_CLASS, NULL);
	machine->pci.device[0] = &machine->host_bridge;
	if (!machine->config.balloon)
		return 0;
	if (balloon_device_create(&machine->balloon, &machine->config,
				  &machine->vm, &machine->memory,
				  &machine->device_lock, BALLOON_BARS,
				  err) < 0)
		return -1;
	machine->balloon.actual_changed = on_actual_changed;
	machine->balloon.owner = machine;
	machine->pci.device[BALLOON_SLOT] = &machine->balloon.pci.pci;
	return 0;
}

/* -------------------------------------------------------------- vCPUs --- */

/* What to show the guest: what it was shown before, or what KVM has. */
static int choose_cpuid(struct machine *machine, const struct x86_cpuid *wanted,
			struct error *err)
{
	struct x86_cpuid here;

	if (kvm_supported_cpuid(&machine->vm, &here.header, X86_CPUID_MAX,
				err) < 0)
		return -1;
	x86_cpuid_restrict(&here.header);
	if (wanted && x86_cpuid_check(&wanted->header, &here.header, err) < 0)
		return -1;
	machine->cpuid = wanted ? *wanted : here;
	return 0;
}

static int create_vcpu(struct machine *machine, unsigned int id,
		       struct error *err)
{
	struct vcpu_thread *cpu = &machine->cpu[id];
	struct x86_cpuid cpuid = machine->cpuid;

	if (kvm_vcpu_create(&cpu->vcpu, &machine->vm, id, err) < 0)
		return -1;
	machine->cpus++;
	x86_cpuid_set_topology(&cpuid.header, id, machine->config.cpus);
	if (kvm_vcpu_set_cpuid(&cpu->vcpu, &cpuid.header, err) < 0)
		return -1;
	return kvm_vcpu_save(&cpu->vcpu, &cpu->power_on, err);
}

static int create_vcpus(struct machine *machine, const struct x86_cpuid *cpuid,
			struct error *err)
{
	unsigned int i;

	if (machine->config.cpus < 1 || machine->config.cpus > KVM_VM_MAX_CPUS)
		return error_set(err, "%u CPUs: there can be 1 to %u",
				 machine->config.cpus, KVM_VM_MAX_CPUS);
	if (choose_cpuid(machine, cpuid, err) < 0)
		return -1;
	for (i = 0; i < machine->config.cpus; i++)
		if (create_vcpu(machine, i, err) < 0)
			return -1;
	machine->tsc_khz = kvm_vcpu_tsc_khz(&machine->cpu[0].vcpu);
	return kvm_irqchip_save(&machine->vm, &machine->irqchip_power_on, err);
}

/* --------------------------------------------------------------- boot --- */

static int map_boot_files(struct machine *machine, struct error *err)
{
	struct machine_config *config = &machine->config;
	struct boot_source *boot = &machine->boot;
	uint64_t kernel, initrd;

	if (machine->boot_mapped)
		return 0;
	if (!config->kernel.path[0])
		return error_set(err, "no kernel to boot");
	if (machine_file_map(&config->kernel, &kernel, &boot->kernel.data,
			     &boot->kernel.size, err) < 0 ||
	    machine_file_map(&config->initrd, &initrd, &boot->initrd.data,
			     &boot->initrd.size, err) < 0)
		return -1;
	/* A move that begins may be reading it. */
	pthread_mutex_lock(&machine->lock);
	config->kernel.hash = kernel;
	config->initrd.hash = initrd;
	pthread_mutex_unlock(&machine->lock);
	boot->kernel.path = config->kernel.path;
	boot->initrd.path = config->initrd.path;
	boot->command_line = config->command_line;
	machine->boot_mapped = true;
	return 0;
}

/* Fill memory and give the first CPU its registers. */
static int boot(struct machine *machine, struct error *err)
{
	struct vcpu_start start;

	if (map_boot_files(machine, err) < 0 ||
	    x86_boot_load(&machine->memory, &machine->boot, &start, err) < 0 ||
	    x86_acpi_write(&machine->memory, machine->config.cpus, err) < 0)
		return -1;
	return kvm_vcpu_start(&machine->cpu[0].vcpu, &start, err);
}

static int power_on_vcpus(struct machine *machine, struct error *err)
{
	struct buffer_reader reader;
	unsigned int i;

	reader = (struct buffer_reader){ machine->irqchip_power_on.data,
					 machine->irqchip_power_on.used,
					 false };
	if (kvm_irqchip_load(&machine->vm, &reader, err) < 0)
		return -1;
	for (i = 0; i < machine->cpus; i++) {
		const struct buffer *from = &machine->cpu[i].power_on;

		reader = (struct buffer_reader){ from->data, from->used,
						 false };
		if (kvm_vcpu_load(&machine->cpu[i].vcpu, &reader, err) < 0)
			return -1;
	}
	return 0;
}

/* --------------------------------------------------------------- life --- */

static int build(struct machine *machine, const struct x86_cpuid *cpuid,
		 bool incoming, struct error *err)
{
	machine->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (machine->event_fd < 0)
		return error_set_errno(err, errno, "event of the machine");
	if (backing_create(&machine->memory, machine->config.backing,
			   machine->config.memory, err) < 0 ||
	    kvm_vm_create(&machine->vm, KVM_DEVICE, &machine->memory, err) < 0 ||
	    kvm_log_create(&machine->dirty_log, &machine->vm, err) < 0 ||
	    create_vcpus(machine, cpuid, err) < 0 ||
	    create_devices(machine, err) < 0)
		return -1;
	if (!incoming && boot(machine, err) < 0)
		return -1;
	/* Nothing is served before the first run, or while memory comes in. */
	if (machine->config.balloon)
		device_thread_quiesce(&machine->balloon.thread);
	return machine_start_threads(machine, err);
}

int machine_create(struct machine *machine, const struct machine_config *config,
		   const struct x86_cpuid *cpuid, bool incoming,
		   struct error *err)
{
	memset(machine, 0, sizeof(*machine));
	machine->config = *config;
	machine->event_fd = machine->vm.vm_fd = machine->vm.kvm_fd = -1;
	machine->state = incoming ? MACHINE_INCOMING : MACHINE_PAUSED;
	pthread_mutex_init(&machine->change, NULL);
	pthread_mutex_init(&machine->lock, NULL);
	pthread_mutex_init(&machine->device_lock, NULL);
	pthread_cond_init(&machine->changed, NULL);
	if (build(machine, cpuid, incoming, err) == 0)
		return 0;
	machine_destroy(machine);
	return -1;
}

void machine_destroy(struct machine *machine)
{
	unsigned int i;

	machine_end_threads(machine);
	balloon_device_destroy(&machine->balloon);
	for (i = 0; i < machine->cpus; i++) {
		kvm_vcpu_destroy(&machine->cpu[i].vcpu);
		buffer_free(&machine->cpu[i].power_on);
	}
	machine->cpus = 0;
	buffer_free(&machine->irqchip_power_on);
	kvm_log_destroy(&machine->dirty_log);
	kvm_vm_destroy(&machine->vm);
	backing_destroy(&machine->memory);
	if (machine->boot.kernel.data)
		munmap((void *)machine->boot.kernel.data,
		       machine->boot.kernel.size);
	if (machine->boot.initrd.data)
		munmap((void *)machine->boot.initrd.data,
		       machine->boot.initrd.size);
	if (machine->event_fd >= 0)
		close(machine->event_fd);
	machine->event_fd = -1;
}

enum machine_state machine_state(struct machine *machine)
{
	scoped_lock(&machine->lock);
	return machine->state;
}

/* Take the machine from one of two states to another.
 * Return: 0, or -1 with @err */
static int move_state(struct machine *machine, enum machine_state from,
		      enum machine_state to, const char *command,
		      struct error *err)
{
	scoped_lock(&machine->lock);
	if (machine->state == from || machine->state == to) {
		machine->state = to;
		return 0;
	}
	return error_set(err, "cannot %s: the machine is in state %s", command,
			 machine_state_name(machine->state));
}

static void run_all(struct machine *machine)
{
	if (machine->config.balloon)
		device_thread_resume(&machine->balloon.thread);
	machine_let_run(machine);
}

/* Tell kvmclock that the time it stood still is not the guest's own stall. KVM
 * tells the guest when it enters it the next time. */
static void excuse_stall(struct machine *machine)
{
	unsigned int i;

	for (i = 0; i < machine->cpus; i++)
		ioctl(machine->cpu[i].vcpu.fd, KVM_KVMCLOCK_CTRL);
}

static void stop_all(struct machine *machine)
{
	machine_stop(machine);
	excuse_stall(machine);
	if (!machine->config.balloon)
		return;
	device_thread_quiesce(&machine->balloon.thread);
	balloon_device_flush(&machine->balloon);
}

int machine_run(struct machine *machine, struct error *err)
{
	scoped_lock(&machine->change);
	if (move_state(machine, MACHINE_PAUSED, MACHINE_RUNNING, "run", err) <
	    0)
		return -1;
	run_all(machine);
	return 0;
}

int machine_pause(struct machine *machine, struct error *err)
{
	scoped_lock(&machine->change);
	if (move_state(machine, MACHINE_RUNNING, MACHINE_PAUSED, "pause",
		       err) < 0)
		return -1;
	stop_all(machine);
	if (machine->config.balloon)
		balloon_device_pause(&machine->balloon);
	return 0;
}

/* As one step with the question whose the guest is: a target that is taken
 * behind the saving of a move would stay behind. */
int machine_set_balloon(struct machine *machine, uint32_t pages,
			struct error *err)
{
	enum machine_state state;

	scoped_lock(&machine->change);
	state = machine_state(machine);
	if (state != MACHINE_RUNNING && state != MACHINE_PAUSED)
		return error_set(err, "cannot set the balloon: the machine is "
				 "in state %s", machine_state_name(state));
	balloon_device_set_target(&machine->balloon, pages);
	return 0;
}

unsigned int machine_take_events(struct machine *machine)
{
	const unsigned int guests = MACHINE_EVENT_RESET |
				    MACHINE_EVENT_POWEROFF;
	unsigned int events;

	scoped_lock(&machine->lock);
	if (machine->state == MACHINE_FINISHING ||
	    machine->state == MACHINE_INCOMING)
		return atomic_fetch_and(&machine->events, guests) & ~guests;
	events = atomic_exchange(&machine->events, 0);
	if (machine->state == MACHINE_MOVED)
		events &= ~guests;
	/* A machine that ends is not reset first, and nobody may wait for it. */
	if (events & (MACHINE_EVENT_POWEROFF | MACHINE_EVENT_FAILED))
		events &= ~MACHINE_EVENT_RESET;
	machine->powered_off |= events & MACHINE_EVENT_POWEROFF;
	machine->resetting |= events & MACHINE_EVENT_RESET;
	return events;
}

static void reset_all(struct machine *machine)
{
	stop_all(machine);
	pthread_mutex_lock(&machine->device_lock);
	serial_reset(&machine->serial);
	machine->pci.address = 0;
	pthread_mutex_unlock(&machine->device_lock);
	if (machine->config.balloon)
		balloon_device_reset(&machine->balloon);
}

int machine_reset(struct machine *machine, struct error *err)
{
	enum machine_state state;
	int rc = 0;

	scoped_lock(&machine->change);
	pthread_mutex_lock(&machine->lock);
	state = machine->state;
	machine->resetting = state == MACHINE_RUNNING ||
			     state == MACHINE_PAUSED;
	pthread_mutex_unlock(&machine->lock);
	if (!machine->resetting)
		return error_set(err, "cannot reset: the machine is in state "
				 "%s", machine_state_name(state));
	reset_all(machine);
	if (power_on_vcpus(machine, err) < 0 || boot(machine, err) < 0)
		rc = error_prefix(err, "reset");
	else if (state == MACHINE_RUNNING)
		run_all(machine);
	pthread_mutex_lock(&machine->lock);
	machine->resetting = false;
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
	return rc;
}

/* Take both locks while no reset is taken on: it is carried out under the first
 * of them. */
static void lock_without_reset(struct machine *machine)
{
	for (;;) {
		pthread_mutex_lock(&machine->change);
		pthread_mutex_lock(&machine->lock);
		if (!machine->resetting)
			return;
		pthread_mutex_unlock(&machine->change);
		while (machine->resetting)
			pthread_cond_wait(&machine->changed, &machine->lock);
		pthread_mutex_unlock(&machine->lock);
	}
}

int machine_finish_begin(struct machine *machine, struct error *err)
{
	lock_without_reset(machine);
	if (machine->powered_off ||
	    (machine->state != MACHINE_RUNNING &&
	     machine->state != MACHINE_PAUSED)) {
		error_set(err, machine->powered_off ?
			  "the guest has powered off" :
			  "cannot move: the machine is in state %s",
			  machine_state_name(machine->state));
		pthread_mutex_unlock(&machine->lock);
		pthread_mutex_unlock(&machine->change);
		return -1;
	}
	machine->was_running = machine->state == MACHINE_RUNNING;
	machine->state = MACHINE_FINISHING;
	pthread_mutex_unlock(&machine->lock);
	stop_all(machine);
	pthread_mutex_unlock(&machine->change);
	return 0;
}

void machine_finish_abort(struct machine *machine)
{
	bool run;

	scoped_lock(&machine->change);
	pthread_mutex_lock(&machine->lock);
	run = machine->was_running;
	machine->state = run ? MACHINE_RUNNING : MACHINE_PAUSED;
	pthread_mutex_unlock(&machine->lock);
	if (run)
		run_all(machine);
	/* What the guest asked for meanwhile is looked at again. */
	machine_post(machine, 0);
}

void machine_finish_commit(struct machine *machine)
{
	scoped_lock(&machine->lock);
	machine->state = MACHINE_MOVED;
}

int machine_set_tsc_khz(struct machine *machine, uint32_t khz,
			struct error *err)
{
	unsigned int i;

	for (i = 0; i < machine->cpus; i++)
		if (kvm_vcpu_set_tsc_khz(&machine->cpu[i].vcpu, khz, err) < 0)
			return -1;
	machine->tsc_khz = kvm_vcpu_tsc_khz(&machine->cpu[0].vcpu);
	return 0;
}

void machine_arrive(struct machine *machine, bool run)
{
	scoped_lock(&machine->change);
	pthread_mutex_lock(&machine->lock);
	machine->state = run ? MACHINE_RUNNING : MACHINE_PAUSED;
	pthread_mutex_unlock(&machine->lock);
	/* It was stopped elsewhere, where nobody enters it any more. */
	excuse_stall(machine);
	if (run)
		run_all(machine);
	/* A reset or power-off that came along with the guest. */
	machine_post(machine, 0);
}
