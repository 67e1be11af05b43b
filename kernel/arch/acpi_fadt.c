/* SPDX-License-Identifier: MIT */
/*
 * The fixed ACPI description table (ACPI 6.5, 5.2.9), and of the DSDT the one object that says
 * which value switches the machine off.
 */
#include <stddef.h>

#include "kernel/arch/acpi_table.h"
#include "kernel/lib/string.h"

#define FLAG_HARDWARE_REDUCED (1u << 20)

/* AML: ACPI 6.5, 20.2. */
#define AML_ZERO    0x00
#define AML_ONE     0x01
#define AML_NAME    0x08
#define AML_BYTE    0x0a
#define AML_PACKAGE 0x12
#define AML_ROOT    0x5c

/* The first, oldest part; it holds all that is used here. */
struct fadt {
    struct acpi_header header;
    uint32_t facs;
    uint32_t dsdt;
    uint8_t reserved;
    uint8_t profile;
    uint16_t sci_irq;
    uint32_t smi_command;
    uint8_t acpi_enable;
    uint8_t acpi_disable;
    uint8_t s4bios;
    uint8_t pstate;
    uint32_t pm1a_event, pm1b_event;
    uint32_t pm1a_control, pm1b_control;
    uint32_t pm2_control, pm_timer, gpe0, gpe1;
    uint8_t pm1_event_length, pm1_control_length;
    uint8_t unused[22];
    uint32_t flags;
} __attribute__((packed));

_Static_assert(offsetof(struct fadt, sci_irq) == 46, "ACPI 6.5, table 5.9");
_Static_assert(offsetof(struct fadt, pm1a_event) == 56, "ACPI 6.5, table 5.9");
_Static_assert(offsetof(struct fadt, pm1_event_length) == 88, "ACPI 6.5, table 5.9");
_Static_assert(offsetof(struct fadt, flags) == 112, "ACPI 6.5, table 5.9");

/* A small integer constant at *at; steps over it. */
static bool read_constant(const uint8_t **at, const uint8_t *end, uint8_t *value)
{
    if (*at == end) {
        return false;
    }
    uint8_t code = *(*at)++;

    if (code == AML_ZERO || code == AML_ONE) {
        *value = code;
        return true;
    }
    if (code != AML_BYTE || *at == end) {
        return false;
    }
    *value = *(*at)++;
    return true;
}

/* Name(_S5_, Package(){a, b, ...}) with `at` behind the name. Two bits of the first length byte say
 * how many more there are. */
static bool read_s5_package(struct boot_power *power, const uint8_t *at, const uint8_t *end)
{
    if (end - at < 3 || at[0] != AML_PACKAGE || (at[1] >> 6) + 3 > end - at) {
        return false;
    }
    at += 3 + (at[1] >> 6); /* over opcode, length and number of elements */
    return read_constant(&at, end, &power->s5_a) && read_constant(&at, end, &power->s5_b);
}

/*
 * Without an AML interpreter: firmware spells \_S5 as a named package of constants, so its bytes can
 * be looked for. A machine that does it otherwise just has no power off.
 */
static void find_s5(struct boot_power *power, const struct acpi_header *dsdt)
{
    const uint8_t *start = (const uint8_t *)(dsdt + 1);
    const uint8_t *end = (const uint8_t *)dsdt + dsdt->length;

    for (const uint8_t *at = start + 1; end - at > 4; at++) {
        if (*at != '_' || memcmp(at, "_S5_", 4) != 0) {
            continue;
        }
        bool named = at[-1] == AML_NAME ||
                     (at[-1] == AML_ROOT && at - start >= 2 && at[-2] == AML_NAME);

        if (named && read_s5_package(power, at + 4, end)) {
            power->has_s5 = true;
            return;
        }
    }
}

/* ACPI 6.5, 5.2.9: level, active low, unless an override of the ISA interrupt says otherwise. */
static void wire_sci(struct acpi_info *acpi, uint16_t irq)
{
    if (irq < ACPI_ISA_IRQS && !acpi->isa[irq].level) {
        acpi->isa[irq].level = true;
        acpi->isa[irq].active_low = true;
    }
}

void acpi_parse_fadt(struct acpi_info *acpi, const struct acpi_header *header)
{
    const struct fadt *fadt = (const struct fadt *)header;
    const struct acpi_header *dsdt;

    if (header->length < sizeof(*fadt)) {
        acpi_note_problem(acpi, "the FADT is too short");
        return;
    }
    if (fadt->flags & FLAG_HARDWARE_REDUCED) {
        return; /* has none of these registers (microvm) */
    }
    wire_sci(acpi, fadt->sci_irq);
    acpi->power = (struct boot_power){
        .has_registers = fadt->pm1a_event != 0 && fadt->pm1a_control != 0,
        .acpi_enable = fadt->acpi_enable,
        .event_length = fadt->pm1_event_length,
        .smi_command = (uint16_t)fadt->smi_command,
        .event_a = (uint16_t)fadt->pm1a_event,
        .event_b = (uint16_t)fadt->pm1b_event,
        .control_a = (uint16_t)fadt->pm1a_control,
        .control_b = (uint16_t)fadt->pm1b_control,
        .sci_line = fadt->sci_irq,
    };

    dsdt = acpi_table(fadt->dsdt, "DSDT");
    if (dsdt == NULL) {
        acpi_note_problem(acpi, "no valid DSDT: no power off");
        return;
    }
    find_s5(&acpi->power, dsdt);
}
