/* SPDX-License-Identifier: MIT */
/*
 * What the kernel takes from the ACPI tables: processors, interrupt controllers, how the old
 * interrupts are wired, and, for the user program that switches off, how to. Everything is copied at boot, while the identity map
 * still reaches all physical memory below 4 GiB, where firmware keeps its tables; so no later page
 * table has to map them. Numbers are those of the tables (ACPI 6.5).
 */
#ifndef ONESTACK_ARCH_ACPI_H
#define ONESTACK_ARCH_ACPI_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/bootinfo.h"
#include "kernel/abi/bootpage.h"
#include "kernel/arch/layout.h"

#define ACPI_IOAPICS     8
#define ACPI_ISA_IRQS    16
#define ACPI_NMI_ENTRIES 8

/* How an interrupt line arrives at an IOAPIC. */
struct acpi_line {
    uint32_t gsi; /* global system interrupt: the IOAPIC's gsi_base + pin */
    bool active_low;
    bool level;
};

struct acpi_core {
    uint8_t apic_id;
    uint8_t uid;      /* the ACPI processor's, which NMI entries name */
    uint8_t nmi_lint; /* the LAPIC pin that NMI comes in on: 0 or 1 */
    bool nmi_active_low;
};

struct acpi_ioapic {
    uint32_t address;
    uint32_t gsi_base;
    uint8_t id;
};

struct acpi_nmi {
    uint8_t uid; /* 0xff: all processors */
    uint8_t lint;
    bool active_low;
};

struct acpi_info {
    const char *problem; /* the first thing found wrong, for the console; NULL if nothing */

    /* Enabled processors in the table's order, the boot processor's place included. */
    uint32_t core_count;
    struct acpi_core cores[MAX_CORES];
    uint32_t cores_left_out; /* enabled, but beyond MAX_CORES or beyond 8-bit APIC ids */

    uint32_t ioapic_count; /* at least one: without a table, the address that PCs have */
    struct acpi_ioapic ioapics[ACPI_IOAPICS];

    struct acpi_line isa[ACPI_ISA_IRQS]; /* by legacy IRQ number */

    uint32_t nmi_count;
    struct acpi_nmi nmi[ACPI_NMI_ENTRIES];

    struct boot_power power;
};

/* Never fails: what is missing or corrupt is left at a PC's defaults and named in `problem`. */
void acpi_parse(struct acpi_info *acpi, const struct bootinfo *info);

#endif
