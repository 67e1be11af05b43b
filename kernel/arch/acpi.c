/* SPDX-License-Identifier: MIT */
/* From the root pointer to the tables in use: ACPI 6.5, 5.2.5 to 5.2.8. */
#include "kernel/arch/acpi.h"

#include <stddef.h>

#include "boot/boot.h"
#include "kernel/arch/acpi_table.h"
#include "kernel/lib/checksum.h"
#include "kernel/lib/string.h"

#define RSDP_RSDT 16 /* offsets of the two root addresses */
#define RSDP_XSDT 24

/* Keeps a corrupt length from summing gigabytes; real tables stay far below. */
#define TABLE_SIZE_MAX 0x400000

#define PC_IOAPIC_ADDRESS 0xfec00000

const struct acpi_header *acpi_table(uint64_t address, const char *signature)
{
    const struct acpi_header *table = boot_physical(address, sizeof(*table));

    if (table == NULL || memcmp(table->signature, signature, sizeof(table->signature)) != 0 ||
        table->length < sizeof(*table) || table->length > TABLE_SIZE_MAX) {
        return NULL;
    }
    table = boot_physical(address, table->length);
    return table != NULL && sums_to_zero(table, table->length) ? table : NULL;
}

void acpi_note_problem(struct acpi_info *acpi, const char *problem)
{
    if (acpi->problem == NULL) {
        acpi->problem = problem;
    }
}

/* A PC's wiring: ISA interrupts 1:1, edge, active high; MADT entries change that. */
static void set_defaults(struct acpi_info *acpi)
{
    memset(acpi, 0, sizeof(*acpi));
    for (uint32_t irq = 0; irq < ACPI_ISA_IRQS; irq++) {
        acpi->isa[irq].gsi = irq;
    }
}

/* Each root entry is the address of a table, in 4 bytes (RSDT) or 8 (XSDT). */
static uint64_t root_entry(const struct acpi_header *root, uint32_t entry_size, uint32_t index)
{
    uint64_t address = 0;

    memcpy(&address, (const uint8_t *)(root + 1) + (size_t)index * entry_size, entry_size);
    return address;
}

static const struct acpi_header *find(const struct acpi_header *root, uint32_t entry_size,
                                      const char *signature)
{
    uint32_t count = (root->length - (uint32_t)sizeof(*root)) / entry_size;

    for (uint32_t i = 0; i < count; i++) {
        const struct acpi_header *table = acpi_table(root_entry(root, entry_size, i), signature);

        if (table != NULL) {
            return table;
        }
    }
    return NULL;
}

/* The XSDT where there is a good one, else the RSDT. */
static const struct acpi_header *find_root(const struct bootinfo *info, uint32_t *entry_size)
{
    const struct acpi_header *root = NULL;
    uint64_t xsdt = 0;
    uint32_t rsdt;

    if (info->rsdp_size == BOOT_RSDP_SIZE) {
        memcpy(&xsdt, info->rsdp + RSDP_XSDT, sizeof(xsdt));
        *entry_size = sizeof(xsdt);
        root = acpi_table(xsdt, "XSDT");
    }
    if (root == NULL) {
        memcpy(&rsdt, info->rsdp + RSDP_RSDT, sizeof(rsdt));
        *entry_size = sizeof(rsdt);
        root = acpi_table(rsdt, "RSDT");
    }
    return root;
}

static void parse_tables(struct acpi_info *acpi, const struct bootinfo *info)
{
    uint32_t entry_size;
    const struct acpi_header *root = find_root(info, &entry_size);
    const struct acpi_header *table;

    if (root == NULL) {
        acpi_note_problem(acpi, "no valid RSDT or XSDT");
        return;
    }
    table = find(root, entry_size, "APIC");
    if (table == NULL) {
        acpi_note_problem(acpi, "no valid MADT: one core, interrupts as on an old PC");
    } else {
        acpi_parse_madt(acpi, table);
    }
    /* After the MADT, whose overrides say how the SCI is wired. */
    table = find(root, entry_size, "FACP");
    if (table == NULL) {
        acpi_note_problem(acpi, "no valid FADT: no power button, no power off");
    } else {
        acpi_parse_fadt(acpi, table);
    }
}

void acpi_parse(struct acpi_info *acpi, const struct bootinfo *info)
{
    set_defaults(acpi);
    if (info->rsdp_size == 0) {
        acpi_note_problem(acpi, "no RSDP");
    } else {
        parse_tables(acpi, info);
    }
    if (acpi->ioapic_count == 0) {
        acpi->ioapics[acpi->ioapic_count++] = (struct acpi_ioapic){.address = PC_IOAPIC_ADDRESS};
    }
}
