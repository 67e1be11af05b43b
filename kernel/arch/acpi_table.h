/* SPDX-License-Identifier: MIT */
/* The inside of the ACPI parser: a table that has been found, measured and summed. */
#ifndef ONESTACK_ARCH_ACPI_TABLE_H
#define ONESTACK_ARCH_ACPI_TABLE_H

#include "kernel/arch/acpi.h"

/* The header of every table, ACPI 6.5, 5.2.6. */
struct acpi_header {
    char signature[4];
    uint32_t length; /* this header included */
    uint8_t revision;
    uint8_t checksum;
    char oem[18];
    char creator[8];
} __attribute__((packed));

_Static_assert(sizeof(struct acpi_header) == 36, "ACPI 6.5, table 5.4");

/* The whole table at `address`, or NULL if its signature, length or checksum is wrong. */
const struct acpi_header *acpi_table(uint64_t address, const char *signature);

void acpi_note_problem(struct acpi_info *acpi, const char *problem);

/* Polarity and trigger as MADT entries give them; 0 means "as is usual for the bus". */
void acpi_set_line(struct acpi_line *line, uint16_t flags);

void acpi_parse_madt(struct acpi_info *acpi, const struct acpi_header *madt);
void acpi_parse_fadt(struct acpi_info *acpi, const struct acpi_header *header);

#endif
