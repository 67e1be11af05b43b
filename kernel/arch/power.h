/* SPDX-License-Identifier: MIT */
/* Switching off, and the button that asks for it: ACPI 6.5, 4.8.3 (PM1 registers), 7.4.2 (_S5). */
#ifndef ONESTACK_ARCH_POWER_H
#define ONESTACK_ARCH_POWER_H

#include <stdbool.h>

#include "kernel/arch/acpi.h"

/* Go to ACPI mode and let the power button raise the SCI. False if there are no such registers. */
bool power_init(const struct acpi_info *acpi);

/* On an SCI, before its line is unmasked: was it the button? Acknowledges what raised it. */
bool power_button_pressed(const struct acpi_info *acpi);

/*
 * Off, by the first way that works: QEMU's debug exit (status 33), ACPI's S5 state, or else the
 * core halts for good.
 */
_Noreturn void power_off(const struct acpi_info *acpi);

#endif
