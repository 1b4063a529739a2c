/* SPDX-License-Identifier: MIT */
/* The instructions that C has no words for, and memory-mapped registers. */
#ifndef BARE_MACHINE_H
#define BARE_MACHINE_H

#include <stdint.h>

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint64_t read_tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

struct cpuid {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid read_cpuid(uint32_t leaf)
{
	struct cpuid r;

	__asm__ volatile("cpuid"
			 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "a"(leaf), "c"(0));
	return r;
}

/* Faults in ring 3; the stub in start.S sleeps until the timer ticks. */
static inline void sleep_until_tick(void)
{
	__asm__ volatile("hlt" : : : "memory");
}

static inline void relax(void)
{
	__asm__ volatile("pause");
}

/* Registers in memory, each access of its own width. */
static inline uint8_t mmio_read8(uintptr_t at)
{
	return *(volatile uint8_t *)at;
}

static inline uint16_t mmio_read16(uintptr_t at)
{
	return *(volatile uint16_t *)at;
}

static inline uint32_t mmio_read32(uintptr_t at)
{
	return *(volatile uint32_t *)at;
}

static inline void mmio_write8(uintptr_t at, uint8_t value)
{
	*(volatile uint8_t *)at = value;
}

static inline void mmio_write16(uintptr_t at, uint16_t value)
{
	*(volatile uint16_t *)at = value;
}

static inline void mmio_write32(uintptr_t at, uint32_t value)
{
	*(volatile uint32_t *)at = value;
}

#endif
