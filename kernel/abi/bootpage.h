/* SPDX-License-Identifier: MIT */
/* What the first user program finds: mapped read-only at BOOT_PAGE, and the handles of its capabilities. */
#ifndef ONESTACK_ABI_BOOTPAGE_H
#define ONESTACK_ABI_BOOTPAGE_H

#include <stdbool.h>

#include "kernel/abi/cap.h"

#define BOOT_PAGE       0x00007fffffff0000ULL /* one page */
#define BOOT_STACK_TOP  0x00007fffffff0000ULL /* the first thread's stack ends below it, */
#define BOOT_STACK_SIZE 0x10000ULL            /* so many bytes, zeroed */

/*
 * Power management by fixed registers, as the ACPI tables describe it (ACPI 6.5, 4.8.3). Numbers of
 * I/O ports, 0 = absent; whoever holds ports and lines works with them.
 */
struct boot_power {
    bool has_registers; /* all but what S5 takes */
    bool has_s5;        /* the two values that mean "off" in a sleep type field */
    uint8_t s5_a, s5_b;
    uint8_t acpi_enable;  /* written to smi_command, has firmware give the registers over */
    uint8_t event_length; /* of an event block: half of it status, half enable */
    uint16_t smi_command;
    uint16_t event_a, event_b;
    uint16_t control_a, control_b;
    uint16_t sci_line; /* the interrupt that events raise, level triggered */
};

struct boot_page {
    uint64_t tsc_hz;
    uint32_t cores;
    uint32_t module_count;      /* modules beyond the program itself, as memory objects */
    cap_t space, thread, quota; /* its own */
    cap_t irqs;                 /* every interrupt line; line 256 is the external NMI */
    cap_t ioports;              /* 0 .. 65535 */
    cap_t device_memory;        /* all physical addresses that are not RAM */
    cap_t modules[4];
    uint64_t module_size[4];
    struct boot_power power;
    char cmdline[1024];
};

_Static_assert(sizeof(struct boot_page) <= 4096, "one page");

#endif
