/* SPDX-License-Identifier: MIT */
/*
 * The I/O APICs (Intel 82093AA data sheet, section 3). A line is named by its global system
 * interrupt number. Index and data register are a pair that only one party may use at a time, so
 * everything here runs on the owning core, with IF=0 (E13); NMI handlers keep off.
 */
#ifndef ONESTACK_ARCH_IOAPIC_H
#define ONESTACK_ARCH_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/arch/acpi.h"
#include "kernel/arch/layout.h"

/* Each has a page of its own from IOAPIC_BASE on; whoever maps it takes the page of its address. */
#define IOAPIC_PAGE(n) (IOAPIC_BASE + (n) * (uint64_t)PAGE_SIZE)

/* Once the pages are mapped: masks all lines. */
void ioapic_init(const struct acpi_info *acpi);

/* Is there a line of that number? GSI ranges can have gaps. */
bool ioapic_has_line(uint32_t gsi);

/*
 * Send the line to one core's LAPIC as `vector`; it stays masked until ioapic_unmask(). All four
 * do nothing for a line that does not exist.
 */
void ioapic_route(const struct acpi_line *line, uint8_t vector, uint8_t to);
void ioapic_unroute(uint32_t gsi);
void ioapic_mask(uint32_t gsi);
void ioapic_unmask(uint32_t gsi);

#endif
