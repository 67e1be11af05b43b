/* SPDX-License-Identifier: MIT */
#include "kernel/arch/ioapic.h"

#include <stddef.h>

#include "kernel/arch/irq_flag.h"
#include "kernel/arch/mmio.h"

/* Offsets in the page, and what the index register selects. */
#define IOAPIC_INDEX        0x00
#define IOAPIC_DATA         0x10
#define REGISTER_VERSION    0x01
#define REGISTER_ENTRY(pin) (0x10 + 2 * (pin)) /* low half; the high one follows */

#define ENTRY_ACTIVE_LOW        (1u << 13)
#define ENTRY_LEVEL             (1u << 15)
#define ENTRY_MASKED            (1u << 16)
#define ENTRY_DESTINATION_SHIFT 24

struct ioapic {
    uint64_t registers;
    uint32_t gsi_base;
    uint32_t pins;
};

static struct ioapic ioapics[ACPI_IOAPICS];
static uint32_t count;

static uint32_t read(const struct ioapic *ioapic, uint32_t index)
{
    mmio_write32(ioapic->registers + IOAPIC_INDEX, index);
    return mmio_read32(ioapic->registers + IOAPIC_DATA);
}

static void write(const struct ioapic *ioapic, uint32_t index, uint32_t value)
{
    mmio_write32(ioapic->registers + IOAPIC_INDEX, index);
    mmio_write32(ioapic->registers + IOAPIC_DATA, value);
}

static const struct ioapic *find(uint32_t gsi)
{
    for (uint32_t i = 0; i < count; i++) {
        if (gsi - ioapics[i].gsi_base < ioapics[i].pins) {
            return &ioapics[i];
        }
    }
    return NULL;
}

void ioapic_init(const struct acpi_info *acpi)
{
    for (count = 0; count < acpi->ioapic_count; count++) {
        struct ioapic *ioapic = &ioapics[count];
        const struct acpi_ioapic *found = &acpi->ioapics[count];

        ioapic->registers = IOAPIC_PAGE(count) + found->address % PAGE_SIZE;
        ioapic->gsi_base = found->gsi_base;
        ioapic->pins = (read(ioapic, REGISTER_VERSION) >> 16 & 0xff) + 1;
        for (uint32_t pin = 0; pin < ioapic->pins; pin++) {
            write(ioapic, REGISTER_ENTRY(pin), ENTRY_MASKED);
        }
    }
}

bool ioapic_has_line(uint32_t gsi)
{
    return find(gsi) != NULL;
}

/* Change bits of an entry's low half. */
static void update(uint32_t gsi, uint32_t clear, uint32_t set)
{
    const struct ioapic *ioapic = find(gsi);

    if (ioapic == NULL) {
        return;
    }
    uint32_t index = REGISTER_ENTRY(gsi - ioapic->gsi_base);
    uint64_t flags = irq_save();

    write(ioapic, index, (read(ioapic, index) & ~clear) | set);
    irq_restore(flags);
}

void ioapic_route(const struct acpi_line *line, uint8_t vector, uint8_t to)
{
    const struct ioapic *ioapic = find(line->gsi);

    if (ioapic == NULL) {
        return;
    }
    uint32_t index = REGISTER_ENTRY(line->gsi - ioapic->gsi_base);
    uint64_t flags = irq_save();

    /* Masked before its destination changes: no interrupt can take half of each. */
    write(ioapic, index, ENTRY_MASKED);
    write(ioapic, index + 1, (uint32_t)to << ENTRY_DESTINATION_SHIFT);
    write(ioapic, index,
          ENTRY_MASKED | (line->level ? ENTRY_LEVEL : 0) |
              (line->active_low ? ENTRY_ACTIVE_LOW : 0) | vector);
    irq_restore(flags);
}

void ioapic_unroute(uint32_t gsi)
{
    update(gsi, ~0u, ENTRY_MASKED);
}

void ioapic_mask(uint32_t gsi)
{
    update(gsi, 0, ENTRY_MASKED);
}

void ioapic_unmask(uint32_t gsi)
{
    update(gsi, ENTRY_MASKED, 0);
}
