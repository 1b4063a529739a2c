// SPDX-License-Identifier: MIT
/* Time by the TSC, sleep by the timer of the local APIC. */
#include "clock.h"

#include "machine.h"

#define FREQUENCY_LEAF 0x40000010u
#define HYPERVISOR_LEAF 0x40000000u
#define GUESSED_KHZ 2000000u

#define APIC 0xfee00000ul
#define APIC_SPURIOUS (APIC + 0xf0)
#define APIC_TIMER (APIC + 0x320)
#define APIC_COUNT (APIC + 0x380)
#define APIC_DIVIDE (APIC + 0x3e0)
#define APIC_ENABLE 0x100
#define APIC_DIVIDE_BY_1 0xb
#define TIMER_VECTOR 32 /* its IDT entry: trap.c */
#define SPURIOUS_VECTOR 32

#define PIC_MASK_1 0x21
#define PIC_MASK_2 0xa1

#define IDLE_NANOSECONDS 1000000 /* the APIC's bus runs at 1 GHz */

/* struct pvclock_vcpu_time_info, which KVM fills in (start.S registers it). */
extern volatile struct kvm_clock {
	uint32_t version, pad;
	uint64_t tsc, nanoseconds;
	uint32_t multiplier;
	int8_t shift;
	uint8_t flags, pad2[2];
} kvm_clock;

static uint64_t khz;
static const char *source;
static bool can_sleep;

/* Nanoseconds are (ticks << shift) * multiplier >> 32. */
static uint64_t kvm_clock_khz(void)
{
	uint64_t scaled;

	if (!kvm_clock.multiplier)
		return 0;
	scaled = (1000000ull << 32) / kvm_clock.multiplier;
	return kvm_clock.shift < 0 ? scaled << -kvm_clock.shift :
				     scaled >> kvm_clock.shift;
}

void clock_init(uint64_t tsc_khz)
{
	source = "parameter";
	khz = tsc_khz;
	if (!khz && read_cpuid(HYPERVISOR_LEAF).eax >= FREQUENCY_LEAF) {
		source = "cpuid";
		khz = read_cpuid(FREQUENCY_LEAF).eax;
	}
	if (!khz) {
		source = "kvm";
		khz = kvm_clock_khz();
	}
	if (!khz) {
		source = "guess";
		khz = GUESSED_KHZ;
	}
}

uint64_t clock_khz(void)
{
	return khz;
}

const char *clock_source(void)
{
	return source;
}

uint64_t clock_microseconds(void)
{
	uint64_t tsc = read_tsc();

	/* Two parts, so that nothing overflows. */
	return tsc / khz * 1000 + tsc % khz * 1000 / khz;
}

bool timer_due(struct timer *timer, uint64_t microseconds)
{
	uint64_t now = read_tsc();

	if (now >= timer->last &&
	    now - timer->last < microseconds * khz / 1000)
		return false;
	timer->last = now;
	return true;
}

void clock_idle_init(void)
{
	/* Nothing but the timer may end a sleep: it alone has a handler. */
	out8(PIC_MASK_1, 0xff);
	out8(PIC_MASK_2, 0xff);
	mmio_write32(APIC_SPURIOUS, APIC_ENABLE | SPURIOUS_VECTOR);
	mmio_write32(APIC_DIVIDE, APIC_DIVIDE_BY_1);
	mmio_write32(APIC_TIMER, TIMER_VECTOR);
	can_sleep = true;
}

void clock_idle(void)
{
	if (!can_sleep) {
		relax();
		return;
	}
	mmio_write32(APIC_COUNT, IDLE_NANOSECONDS);
	sleep_until_tick();
}
