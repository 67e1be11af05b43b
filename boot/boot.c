/* SPDX-License-Identifier: MIT */
/*
 * The 64-bit part of the boot: start.S calls boot_main() in the state that bootinfo.h describes
 * for kernel_main(). Whatever is missing ends here, with one line that says so.
 */
#include <stddef.h>

#include "boot/boot.h"
#include "kernel/arch/debug_exit.h"
#include "kernel/arch/uart.h"
#include "kernel/debug/print.h"

#define IDENTITY_MAP_END 0x100000000ul

extern const char __kernel_start[], __kernel_end[]; /* kernel.ld: physical addresses */

static struct bootinfo bootinfo;

_Noreturn void boot_main(uint32_t protocol, uint32_t information);

const void *boot_physical(uint64_t address, uint64_t size)
{
    if (address == 0 || address >= IDENTITY_MAP_END || size > IDENTITY_MAP_END - address) {
        return NULL;
    }
    return (const void *)address;
}

_Noreturn void boot_refuse(const char *about, const char *reason)
{
    kprintf("boot refused: %s%s\n", about, reason);
    uart_flush();
    debug_exit(EXIT_BOOT_REFUSED);
    halt_forever();
}

static void report(void)
{
    uint64_t usable = 0;

    for (uint32_t i = 0; i < bootinfo.range_count; i++) {
        usable += bootinfo.ranges[i].type == MEM_USABLE ? bootinfo.ranges[i].length : 0;
    }
    kprintf("onestack: booted by %s: %lu MiB usable, %u boot module%s, command line \"%s\"\n",
            bootinfo.protocol == BOOT_PVH ? "PVH" : "Multiboot2", usable >> 20,
            bootinfo.module_count, bootinfo.module_count == 1 ? "" : "s", bootinfo.cmdline);
}

_Noreturn void boot_main(uint32_t protocol, uint32_t information)
{
    reason_t reason;

    uart_init();
    reason = boot_missing_feature();
    if (reason != NULL) {
        boot_refuse("the CPU lacks ", reason);
    }
    reason = protocol == BOOT_PVH ? pvh_parse(&bootinfo, information)
                                  : multiboot2_parse(&bootinfo, information);
    if (reason == NULL) {
        reason = boot_finish(&bootinfo, (uint64_t)__kernel_start, (uint64_t)__kernel_end);
    }
    if (reason != NULL) {
        boot_refuse("", reason);
    }
    report();
    kernel_main(&bootinfo);
}
