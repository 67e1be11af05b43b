/* SPDX-License-Identifier: MIT */
/* What the first user program finds: mapped read-only at BOOT_PAGE, and the handles of its capabilities. */
#ifndef ONESTACK_ABI_BOOTPAGE_H
#define ONESTACK_ABI_BOOTPAGE_H

#include "kernel/abi/cap.h"

#define BOOT_PAGE       0x00007fffffff0000ULL /* one page */
#define BOOT_STACK_TOP  0x00007fffffff0000ULL /* the first thread's stack ends below it, */
#define BOOT_STACK_SIZE 0x10000ULL            /* so many bytes, zeroed */

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
    char cmdline[1024];
};

_Static_assert(sizeof(struct boot_page) <= 4096, "one page");

#endif
