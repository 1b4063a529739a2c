// SPDX-License-Identifier: MIT
/*
 * vCPU threads: run, serve exits, park.
 *
 * To stop a vCPU its thread is kicked by a signal and by immediate_exit, which
 * closes the gap between the look at `attention` and KVM_RUN. Before it parks,
 * a thread enters KVM once more with immediate_exit set, so that a port or
 * MMIO access whose result it just supplied is completed: the saved registers
 * then stand behind the instruction.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "machine/machine.h"
#include "memory/backing.h"

#define KICK_SIGNAL SIGUSR1

static void on_kick(int signal_number)
{
}

static void exit_io(struct machine *machine, struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	uint32_t i;

	for (i = 0; i < run->io.count; i++)
		machine_port(machine, run->io.port,
			     run->io.direction == KVM_EXIT_IO_OUT,
			     data + i * run->io.size, run->io.size);
}

/* @what: failed; @advice: behind it, or "" */
static void cannot_go_on(struct vcpu_thread *cpu, const char *what,
			 const char *advice)
{
	struct kvm_regs regs = { 0 };

	ioctl(cpu->vcpu.fd, KVM_GET_REGS, &regs);
	machine_fail(cpu->machine, "vCPU %u cannot go on: %s at rip %#llx%s",
		     cpu->vcpu.id, what, (unsigned long long)regs.rip, advice);
}

static void exit_fatal(struct vcpu_thread *cpu, const char *what, uint64_t code)
{
	char text[80];

	snprintf(text, sizeof(text), "%s %llu", what,
		 (unsigned long long)code);
	cannot_go_on(cpu, text, "");
}

/* KVM_RUN itself. With hugetlb KVM finds no page where the guest touches memory
 * that went back to the pool, if others have emptied that meanwhile. */
static void run_failed(struct vcpu_thread *cpu, int errnum)
{
	bool no_page = errnum == EFAULT &&
		       cpu->machine->config.backing == BACKING_HUGETLB;
	char text[80];

	snprintf(text, sizeof(text), "KVM_RUN: %s", strerror(errnum));
	cannot_go_on(cpu, text, no_page ?
		     ": the host's pool of huge pages is empty, which the "
		     "guest gave some back to; raise vm.nr_hugepages and "
		     "leave some spare" : "");
}

/* Return: false when this vCPU must not run on */
static bool serve_exit(struct vcpu_thread *cpu)
{
	struct machine *machine = cpu->machine;
	struct kvm_run *run = cpu->vcpu.run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		exit_io(machine, run);
		return true;
	case KVM_EXIT_MMIO:
		machine_mmio(machine, run->mmio.phys_addr, run->mmio.is_write,
			     run->mmio.data, run->mmio.len);
		return true;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return true;
	case KVM_EXIT_SHUTDOWN: /* triple fault: as a PC does */
		machine_post(machine, MACHINE_EVENT_RESET);
		return false;
	case KVM_EXIT_SYSTEM_EVENT:
		machine_post(machine, run->system_event.type ==
						      KVM_SYSTEM_EVENT_SHUTDOWN ?
					      MACHINE_EVENT_POWEROFF :
					      MACHINE_EVENT_RESET);
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		exit_fatal(cpu, "KVM refused to enter, reason",
			   run->fail_entry.hardware_entry_failure_reason);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		exit_fatal(cpu, "KVM internal error",
			   run->internal.suberror);
		return false;
	default:
		exit_fatal(cpu, "unexpected exit", run->exit_reason);
		return false;
	}
}

/* Finish an access that KVM waits for; its result is supplied already. */
static void complete_exit(struct vcpu_thread *cpu)
{
	int rc;

	do {
		kvm_vcpu_leave_at_once(&cpu->vcpu, true);
		rc = ioctl(cpu->vcpu.fd, KVM_RUN, 0);
		if (rc == 0)
			serve_exit(cpu);
	} while (rc == 0);
}

/* Waits while the machine is stopped, or for good when @halted.
 * Return: false when the thread shall end */
static bool park(struct vcpu_thread *cpu, bool *halted)
{
	struct machine *machine = cpu->machine;
	bool go_on;

	complete_exit(cpu);
	pthread_mutex_lock(&machine->lock);
	cpu->parked = machine->stop;
	pthread_cond_broadcast(&machine->changed);
	while (!machine->quit && (machine->stop || *halted)) {
		/* A stop ends the halt: a reset or load follows it, or the
		 * vCPU comes to the same end again. */
		if (machine->stop) {
			*halted = false;
			if (!cpu->parked) {
				cpu->parked = true;
				pthread_cond_broadcast(&machine->changed);
			}
		}
		pthread_cond_wait(&machine->changed, &machine->lock);
	}
	cpu->parked = false;
	kvm_vcpu_leave_at_once(&cpu->vcpu, false);
	go_on = !machine->quit;
	pthread_mutex_unlock(&machine->lock);
	return go_on;
}

static void *vcpu_main(void *argument)
{
	struct vcpu_thread *cpu = argument;
	struct machine *machine = cpu->machine;
	bool halted = false;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", cpu->vcpu.id);
	pthread_setname_np(pthread_self(), name);
	for (;;) {
		if ((atomic_load(&machine->attention) || halted) &&
		    !park(cpu, &halted))
			return NULL;
		if (ioctl(cpu->vcpu.fd, KVM_RUN, 0) < 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			run_failed(cpu, errno);
			halted = true;
			continue;
		}
		halted = !serve_exit(cpu);
	}
}

static void kick_all(struct machine *machine)
{
	unsigned int i;

	for (i = 0; i < machine->cpus; i++) {
		if (!machine->cpu[i].started)
			continue;
		kvm_vcpu_leave_at_once(&machine->cpu[i].vcpu, true);
		pthread_kill(machine->cpu[i].thread, KICK_SIGNAL);
	}
}

int machine_start_threads(struct machine *machine, struct error *err)
{
	struct sigaction action = { .sa_handler = on_kick };
	unsigned int i;
	int rc;

	sigaction(KICK_SIGNAL, &action, NULL);
	machine->stop = true;
	atomic_store(&machine->attention, true);
	for (i = 0; i < machine->cpus; i++) {
		struct vcpu_thread *cpu = &machine->cpu[i];

		cpu->machine = machine;
		rc = pthread_create(&cpu->thread, NULL, vcpu_main, cpu);
		if (rc)
			return error_set_errno(err, rc, "thread of vCPU %u",
					       i);
		cpu->started = true;
	}
	machine_stop(machine);
	return 0;
}

void machine_let_run(struct machine *machine)
{
	scoped_lock(&machine->lock);
	machine->stop = false;
	atomic_store(&machine->attention, machine->quit);
	pthread_cond_broadcast(&machine->changed);
}

static bool all_parked(const struct machine *machine)
{
	unsigned int i;

	for (i = 0; i < machine->cpus; i++)
		if (machine->cpu[i].started && !machine->cpu[i].parked)
			return false;
	return true;
}

void machine_stop(struct machine *machine)
{
	scoped_lock(&machine->lock);
	machine->stop = true;
	atomic_store(&machine->attention, true);
	kick_all(machine);
	pthread_cond_broadcast(&machine->changed);
	while (!all_parked(machine))
		pthread_cond_wait(&machine->changed, &machine->lock);
}

void machine_end_threads(struct machine *machine)
{
	unsigned int i;

	pthread_mutex_lock(&machine->lock);
	machine->quit = true;
	atomic_store(&machine->attention, true);
	kick_all(machine);
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
	for (i = 0; i < machine->cpus; i++)
		if (machine->cpu[i].started)
			pthread_join(machine->cpu[i].thread, NULL);
}
