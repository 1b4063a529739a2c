/* SPDX-License-Identifier: MIT */
/*
 * A machine: memory, vCPUs, devices, and who runs when.
 *
 * Threads: one per vCPU, one device thread, the caller's main thread, and a
 * migration thread while one is under way. Locks, in this order: `change` (who
 * runs), `lock` (run state), `device_lock` (registers of PCI, serial and
 * transport). None is held across a wait for the guest or for a peer; only
 * `change` is across a discard, of what the balloon held back when vCPUs stop.
 *
 * A vCPU's exit never waits for a thread: a reset or power-off that the guest
 * asks for is noted in `events`, and event_fd tells the main thread.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "kvm/dirty_log.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"
#include "machine/balloon_device.h"
#include "machine/config.h"
#include "pci/pci.h"
#include "x86/boot.h"
#include "x86/cpuid.h"
#include "x86/serial.h"

/*
 * MACHINE_PAUSED	vCPUs stopped by the user or not yet started.
 * MACHINE_RUNNING	the guest runs.
 * MACHINE_INCOMING	waits for its state; nothing may run.
 * MACHINE_FINISHING	stopped by a migration that has not committed.
 * MACHINE_MOVED	the guest lives elsewhere; it must never run here again.
 */
enum machine_state {
	MACHINE_PAUSED,
	MACHINE_RUNNING,
	MACHINE_INCOMING,
	MACHINE_FINISHING,
	MACHINE_MOVED,
};

/* QMP's word for a state. */
const char *machine_state_name(enum machine_state state);

enum machine_event {
	MACHINE_EVENT_RESET = 1 << 0,
	MACHINE_EVENT_POWEROFF = 1 << 1,
	MACHINE_EVENT_FAILED = 1 << 2, /* a vCPU cannot go on */
	MACHINE_EVENT_BALLOON = 1 << 3, /* the guest changed `actual` */
	MACHINE_EVENT_CONSOLE = 1 << 4, /* room for input, or output */
	MACHINE_EVENT_MIGRATION = 1 << 5, /* a move out is over */
};

struct machine;

struct vcpu_thread {
	struct kvm_vcpu vcpu;
	struct machine *machine;
	pthread_t thread;
	bool started, parked;
	struct buffer power_on; /* its state when it was created */
};

struct machine {
	struct machine_config config;
	struct guest_memory memory;
	struct kvm_vm vm;
	struct kvm_log dirty_log;
	struct x86_cpuid cpuid; /* as shown, without topology */
	uint32_t tsc_khz;	/* read once: KVM makes one wait for KVM_RUN */
	struct vcpu_thread cpu[KVM_VM_MAX_CPUS];
	unsigned int cpus; /* created so far */
	struct buffer irqchip_power_on;

	pthread_mutex_t device_lock;
	struct pci_bus pci;	      /* under device_lock */
	struct pci_device host_bridge; /* under device_lock */
	struct serial serial;	      /* under device_lock */
	struct balloon_device balloon;
	/* Where serial output goes; called under device_lock. */
	void (*serial_output)(void *owner, uint8_t byte);
	void (*serial_room)(void *owner);
	void *serial_owner;

	/* Held over a whole change of who runs: run, pause, reset, a move's stop
	 * and its end; and over what must not fall between its parts. Before
	 * `lock`; by no vCPU and no device. */
	pthread_mutex_t change;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* parked, or the state */
	enum machine_state state;
	bool was_running; /* before FINISHING */
	bool resetting;	  /* a move waits for its end */
	bool powered_off; /* by the guest: there is nothing left to move */
	bool stop, quit;  /* told to vCPU threads */
	atomic_bool attention; /* stop || quit, to look at without the lock */

	atomic_uint events; /* enum machine_event */
	int event_fd;
	char failure[256]; /* why MACHINE_EVENT_FAILED; under lock */

	struct boot_source boot; /* mapped files; empty on a destination */
	bool boot_mapped;
};

/**
 * machine_create() - Build a machine, its vCPUs parked
 * @config:	copied; hashes are filled in
 * @incoming:	state comes from a stream: nothing is loaded to boot
 * @cpuid:	for @incoming: what the guest was shown; else NULL
 *
 * Return: 0, or -1 with @err and nothing left
 */
int machine_create(struct machine *machine, const struct machine_config *config,
		   const struct x86_cpuid *cpuid, bool incoming,
		   struct error *err);
void machine_destroy(struct machine *machine);

enum machine_state machine_state(struct machine *machine);

/* User's commands. Return: 0, or -1 with @err when the state forbids it */
int machine_run(struct machine *machine, struct error *err);
int machine_pause(struct machine *machine, struct error *err);
int machine_reset(struct machine *machine, struct error *err);
/* @pages: of 4096 bytes, that the balloon shall hold; there must be one */
int machine_set_balloon(struct machine *machine, uint32_t pages,
			struct error *err);

/*
 * For the main thread: what happened, as bits of enum machine_event. While a
 * move has stopped the guest, what the guest asked for itself stays where it
 * is: it goes along, or is taken after the move failed. A reset that is taken
 * must be carried out by machine_reset(); no move begins to stop the guest
 * before that.
 */
unsigned int machine_take_events(struct machine *machine);

/* Tell the main thread. Any thread; never waits. */
void machine_post(struct machine *machine, enum machine_event event);
void machine_fail(struct machine *machine, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A migration stops the guest, and either gives it back or ends it here. */
int machine_finish_begin(struct machine *machine, struct error *err);
void machine_finish_abort(struct machine *machine);
void machine_finish_commit(struct machine *machine);

/* On the destination: run the guest's TSC at the speed it is used to.
 * Return: 0, or -1 with @err */
int machine_set_tsc_khz(struct machine *machine, uint32_t khz,
			struct error *err);

/* On the destination, after all state is loaded. @run: else stay paused */
void machine_arrive(struct machine *machine, bool run);

/* In vcpu_thread.c: start threads (parked), let them run, stop and park them,
 * end them. */
int machine_start_threads(struct machine *machine, struct error *err);
void machine_let_run(struct machine *machine);
void machine_stop(struct machine *machine);
void machine_end_threads(struct machine *machine);

/* In ports.c: what a vCPU's exits reach. */
void machine_port(struct machine *machine, uint16_t port, bool write,
		  uint8_t *data, unsigned int length);
void machine_mmio(struct machine *machine, uint64_t address, bool write,
		  uint8_t *data, unsigned int length);

#endif
