/* SPDX-License-Identifier: MIT */
/*
 * The local APIC in xAPIC mode, at LAPIC_BASE: Intel SDM vol. 3, chapter 10 (10.4.1 register map,
 * 10.5.1 local vector table, 10.5.4 timer, 10.6.1 interrupt command register).
 */
#ifndef ONESTACK_ARCH_LAPIC_H
#define ONESTACK_ARCH_LAPIC_H

#define LAPIC_ID            0x020
#define LAPIC_VERSION       0x030
#define LAPIC_TASK_PRIORITY 0x080
#define LAPIC_EOI           0x0b0
#define LAPIC_SPURIOUS      0x0f0
#define LAPIC_IN_SERVICE    0x100 /* eight registers, 16 bytes apart, a bit for each vector */
#define LAPIC_ERROR         0x280
#define LAPIC_ICR_LOW       0x300
#define LAPIC_ICR_HIGH      0x310
#define LAPIC_LVT_TIMER     0x320
#define LAPIC_LVT_THERMAL   0x330
#define LAPIC_LVT_COUNTERS  0x340
#define LAPIC_LVT_LINT0     0x350
#define LAPIC_LVT_LINT1     0x360
#define LAPIC_LVT_ERROR     0x370
#define LAPIC_TIMER_INITIAL 0x380
#define LAPIC_TIMER_CURRENT 0x390
#define LAPIC_TIMER_DIVIDE  0x3e0

#define LAPIC_SPURIOUS_ENABLE 0x100
#define LAPIC_LVT_NMI         0x400
#define LAPIC_LVT_ACTIVE_LOW  0x2000
#define LAPIC_LVT_MASKED      0x10000
#define LAPIC_DIVIDE_BY_1     0xb

#define LAPIC_ICR_FIXED   0x000
#define LAPIC_ICR_NMI     0x400
#define LAPIC_ICR_INIT    0x500
#define LAPIC_ICR_STARTUP 0x600
#define LAPIC_ICR_PENDING 0x1000
#define LAPIC_ICR_ASSERT  0x4000

#ifndef __ASSEMBLER__

#include <stdbool.h>
#include <stdint.h>

#include "kernel/arch/acpi.h"
#include "kernel/arch/layout.h"
#include "kernel/arch/mmio.h"

static inline uint32_t lapic_read(uint32_t reg)
{
    return mmio_read32(LAPIC_BASE + reg);
}

static inline void lapic_write(uint32_t reg, uint32_t value)
{
    mmio_write32(LAPIC_BASE + reg, value);
}

static inline void lapic_eoi(void)
{
    lapic_write(LAPIC_EOI, 0);
}

/* Delivered and not yet acknowledged? The spurious vector is never, unless somebody sent it. */
static inline bool lapic_in_service(unsigned vector)
{
    return lapic_read(LAPIC_IN_SERVICE + vector / 32 * 16) >> vector % 32 & 1;
}

/*
 * On each core, once its IDT and TSS are loaded: from here on NMIs come in (N8). `core` says which
 * pin they use; NULL (no MADT) means LINT1.
 */
void lapic_init(const struct acpi_core *core);

uint8_t lapic_id(void);

/* Find the core with this LAPIC id in the MADT's list, NULL if it is not there. */
const struct acpi_core *lapic_find_core(const struct acpi_info *acpi, uint8_t id);

/* To one core. Not in NMI context: they write both halves of the command register, with IF=0. */
void lapic_send(uint8_t to, uint8_t vector);
void lapic_send_nmi(uint8_t to);
void lapic_send_init(uint8_t to);
void lapic_send_startup(uint8_t to, uint8_t page);
/* In NMI context: as lapic_send_nmi(), and an IPI that was interrupted between its halves stays whole. */
void lapic_send_nmi_inside(uint8_t to);

/* VECTOR_TIMER once, after so many timer ticks (clock.h converts); 0 stops the timer. */
void lapic_timer_arm(uint32_t ticks);

/* The error bits since the last call (10.5.3), for VECTOR_LAPIC_ERROR. */
uint32_t lapic_take_errors(void);

#endif
#endif
