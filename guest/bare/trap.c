// SPDX-License-Identifier: MIT
/* Faults, and the ends of the machine. */
#include "trap.h"

#include "machine.h"
#include "serial.h"
#include "x86/layout.h"

#define FAULTS 32
#define TIMER_VECTOR 32
#define KERNEL_CODE 0x08
#define GATE_INTERRUPT 0x8e
#define ENTRY_SIZE 16 /* start.S */

#define SLEEP_ENABLE 0x20
#define SLEEP_TYPE_SHIFT 2
#define PC_POWER 0x604 /* QEMU's PCs */
#define PC_POWER_OFF 0x2000
#define PC_RESET 0xcf9
#define PC_RESET_VALUE 0x06

struct gate {
	uint16_t offset_low, selector;
	uint8_t stack, type;
	uint16_t offset_middle;
	uint32_t offset_high, reserved;
};

/* What start.S pushes, and the CPU before it. */
struct trap_frame {
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

extern struct gate idt[FAULTS + 1];
extern const char trap_entries[], timer_entry[];

void trap_report(const struct trap_frame *frame, uint64_t cr2);

static void set_gate(struct gate *gate, uintptr_t entry)
{
	gate->offset_low = entry & 0xffff;
	gate->offset_middle = entry >> 16 & 0xffff;
	gate->offset_high = (uint32_t)(entry >> 32);
	gate->selector = KERNEL_CODE;
	gate->type = GATE_INTERRUPT;
}

void trap_init(void)
{
	unsigned int i;

	for (i = 0; i < FAULTS; i++)
		set_gate(&idt[i], (uintptr_t)trap_entries + i * ENTRY_SIZE);
	set_gate(&idt[TIMER_VECTOR], (uintptr_t)timer_entry);
}

/* In ring 0. */
void trap_report(const struct trap_frame *frame, uint64_t cr2)
{
	say("error panic: vector %lu error %lx rip %lx cr2 %lx", frame->vector,
	    frame->error, frame->rip, cr2);
	serial_flush();
	power_off();
}

/* Aerostat obeys the first, a PC of QEMU's the second. */
void power_off(void)
{
	out8(X86_SLEEP_CONTROL,
	     SLEEP_ENABLE | X86_SLEEP_S5 << SLEEP_TYPE_SHIFT);
	out16(PC_POWER, PC_POWER_OFF);
	for (;;)
		relax();
}

void reset(void)
{
	out8(X86_RESET, X86_RESET_VALUE);
	out8(PC_RESET, PC_RESET_VALUE);
	for (;;)
		relax();
}
