/* SPDX-License-Identifier: MIT */
/*
 * Memory-mapped device registers: exactly one 32-bit access each, which is all that LAPIC and
 * IOAPIC define. The clobbers keep ordinary accesses on their side of it; the CPU keeps the order
 * of uncached ones by itself.
 */
#ifndef ONESTACK_ARCH_MMIO_H
#define ONESTACK_ARCH_MMIO_H

#include <stdint.h>

static inline uint32_t mmio_read32(uint64_t address)
{
    uint32_t value;

    __asm__ volatile("movl %1, %0" : "=r"(value) : "m"(*(volatile uint32_t *)address) : "memory");
    return value;
}

static inline void mmio_write32(uint64_t address, uint32_t value)
{
    __asm__ volatile("movl %1, %0" : "=m"(*(volatile uint32_t *)address) : "r"(value) : "memory");
}

#endif
