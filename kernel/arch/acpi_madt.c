/* SPDX-License-Identifier: MIT */
/* The multiple APIC description table: ACPI 6.5, 5.2.12. */
#include <stddef.h>

#include "kernel/arch/acpi_table.h"
#include "kernel/lib/string.h"

#define ENTRY_LAPIC     0
#define ENTRY_IOAPIC    1
#define ENTRY_OVERRIDE  2
#define ENTRY_LAPIC_NMI 4
#define ENTRY_X2APIC    9

#define LAPIC_ENABLED     1
#define APIC_ID_BROADCAST 0xff
#define UID_ALL           0xff

#define FLAGS_POLARITY    0x3
#define FLAGS_ACTIVE_HIGH 0x1
#define FLAGS_ACTIVE_LOW  0x3
#define FLAGS_TRIGGER     0xc
#define FLAGS_EDGE        0x4
#define FLAGS_LEVEL       0xc

struct madt {
    struct acpi_header header;
    uint32_t lapic_address;
    uint32_t flags;
} __attribute__((packed));

struct entry {
    uint8_t type;
    uint8_t length;
} __attribute__((packed));

struct entry_lapic {
    struct entry entry;
    uint8_t uid;
    uint8_t apic_id;
    uint32_t flags;
} __attribute__((packed));

struct entry_ioapic {
    struct entry entry;
    uint8_t id;
    uint8_t reserved;
    uint32_t address;
    uint32_t gsi_base;
} __attribute__((packed));

struct entry_override {
    struct entry entry;
    uint8_t bus;
    uint8_t irq;
    uint32_t gsi;
    uint16_t flags;
} __attribute__((packed));

struct entry_lapic_nmi {
    struct entry entry;
    uint8_t uid;
    uint16_t flags;
    uint8_t lint;
} __attribute__((packed));

struct entry_x2apic {
    struct entry entry;
    uint16_t reserved;
    uint32_t apic_id;
    uint32_t flags;
    uint32_t uid;
} __attribute__((packed));

_Static_assert(sizeof(struct madt) == 44, "ACPI 6.5, table 5.19");
_Static_assert(sizeof(struct entry_lapic) == 8, "ACPI 6.5, table 5.21");
_Static_assert(sizeof(struct entry_ioapic) == 12, "ACPI 6.5, table 5.23");
_Static_assert(sizeof(struct entry_override) == 10, "ACPI 6.5, table 5.24");
_Static_assert(sizeof(struct entry_lapic_nmi) == 6, "ACPI 6.5, table 5.27");
_Static_assert(sizeof(struct entry_x2apic) == 16, "ACPI 6.5, table 5.31");

void acpi_set_line(struct acpi_line *line, uint16_t flags)
{
    if ((flags & FLAGS_POLARITY) != 0) {
        line->active_low = (flags & FLAGS_POLARITY) == FLAGS_ACTIVE_LOW;
    }
    if ((flags & FLAGS_TRIGGER) != 0) {
        line->level = (flags & FLAGS_TRIGGER) == FLAGS_LEVEL;
    }
}

static void add_core(struct acpi_info *acpi, const struct entry_lapic *lapic)
{
    if (!(lapic->flags & LAPIC_ENABLED)) {
        return;
    }
    if (lapic->apic_id == APIC_ID_BROADCAST || acpi->core_count == MAX_CORES) {
        acpi->cores_left_out++;
        return;
    }
    acpi->cores[acpi->core_count++] = (struct acpi_core){
        .apic_id = lapic->apic_id,
        .uid = lapic->uid,
        .nmi_lint = 1,
    };
}

static void add_ioapic(struct acpi_info *acpi, const struct entry_ioapic *ioapic)
{
    if (acpi->ioapic_count == ACPI_IOAPICS) {
        acpi_note_problem(acpi, "more IOAPICs than this kernel uses");
        return;
    }
    acpi->ioapics[acpi->ioapic_count++] = (struct acpi_ioapic){
        .address = ioapic->address,
        .gsi_base = ioapic->gsi_base,
        .id = ioapic->id,
    };
}

static void add_override(struct acpi_info *acpi, const struct entry_override *override)
{
    if (override->bus != 0 || override->irq >= ACPI_ISA_IRQS) {
        acpi_note_problem(acpi, "an interrupt override that is not for ISA");
        return;
    }
    acpi->isa[override->irq].gsi = override->gsi;
    acpi_set_line(&acpi->isa[override->irq], override->flags);
}

static void add_nmi(struct acpi_info *acpi, const struct entry_lapic_nmi *nmi)
{
    if (nmi->lint > 1 || acpi->nmi_count == ACPI_NMI_ENTRIES) {
        acpi_note_problem(acpi, "an NMI entry that cannot be used");
        return;
    }
    acpi->nmi[acpi->nmi_count++] = (struct acpi_nmi){
        .uid = nmi->uid,
        .lint = nmi->lint,
        .active_low = (nmi->flags & FLAGS_POLARITY) == FLAGS_ACTIVE_LOW,
    };
}

/* x2APIC mode is left out: a core that only it can address is counted, not used. */
static void count_x2apic(struct acpi_info *acpi, const struct entry_x2apic *x2apic)
{
    acpi->cores_left_out += x2apic->flags & LAPIC_ENABLED;
}

/* The size that each known type must have at least; what an unknown one holds is skipped. */
static uint8_t minimum_length(uint8_t type)
{
    switch (type) {
    case ENTRY_LAPIC:
        return sizeof(struct entry_lapic);
    case ENTRY_IOAPIC:
        return sizeof(struct entry_ioapic);
    case ENTRY_OVERRIDE:
        return sizeof(struct entry_override);
    case ENTRY_LAPIC_NMI:
        return sizeof(struct entry_lapic_nmi);
    case ENTRY_X2APIC:
        return sizeof(struct entry_x2apic);
    default:
        return sizeof(struct entry);
    }
}

static void parse_entry(struct acpi_info *acpi, const struct entry *entry)
{
    switch (entry->type) {
    case ENTRY_LAPIC:
        add_core(acpi, (const struct entry_lapic *)entry);
        break;
    case ENTRY_IOAPIC:
        add_ioapic(acpi, (const struct entry_ioapic *)entry);
        break;
    case ENTRY_OVERRIDE:
        add_override(acpi, (const struct entry_override *)entry);
        break;
    case ENTRY_LAPIC_NMI:
        add_nmi(acpi, (const struct entry_lapic_nmi *)entry);
        break;
    case ENTRY_X2APIC:
        count_x2apic(acpi, (const struct entry_x2apic *)entry);
        break;
    default:
        break;
    }
}

/* NMI entries name ACPI processors, and may stand before the processor's own entry. */
static void resolve_nmi(struct acpi_info *acpi)
{
    for (uint32_t i = 0; i < acpi->core_count; i++) {
        struct acpi_core *core = &acpi->cores[i];

        for (uint32_t j = 0; j < acpi->nmi_count; j++) {
            const struct acpi_nmi *nmi = &acpi->nmi[j];

            if (nmi->uid == UID_ALL || nmi->uid == core->uid) {
                core->nmi_lint = nmi->lint;
                core->nmi_active_low = nmi->active_low;
            }
        }
    }
}

void acpi_parse_madt(struct acpi_info *acpi, const struct acpi_header *madt)
{
    const uint8_t *at = (const uint8_t *)madt + sizeof(struct madt);
    const uint8_t *end = (const uint8_t *)madt + madt->length;

    if (madt->length < sizeof(struct madt)) {
        acpi_note_problem(acpi, "the MADT is too short");
        return;
    }
    while (at < end) {
        const struct entry *entry = (const struct entry *)at;

        if ((size_t)(end - at) < sizeof(*entry) || entry->length > end - at ||
            entry->length < minimum_length(entry->type)) {
            acpi_note_problem(acpi, "the MADT has an entry of a wrong length");
            break;
        }
        parse_entry(acpi, entry);
        at += entry->length;
    }
    resolve_nmi(acpi);
}
