/* SPDX-License-Identifier: MIT */
/* The parts of struct bootinfo that every loader's information fills in the same way. */
#include <stddef.h>

#include "boot/boot.h"
#include "kernel/arch/layout.h"

reason_t boot_copy_cmdline(struct bootinfo *info, uint64_t address)
{
    info->cmdline[0] = '\0';
    if (address == 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < BOOT_CMDLINE_SIZE; i++) {
        const char *c = boot_physical(address + i, 1);

        if (c == NULL) {
            return "the command line lies out of reach";
        }
        info->cmdline[i] = *c;
        if (*c == '\0') {
            return NULL;
        }
    }
    /* To cut it would boot with options that nobody asked for. */
    return "the command line is too long";
}

reason_t boot_add_module(struct bootinfo *info, uint64_t base, uint64_t size)
{
    if (size == 0) {
        return "a boot module is empty";
    }
    if (boot_physical(base, size) == NULL) {
        return "a boot module lies out of reach";
    }
    if (info->module_count == BOOT_MODULES) {
        return "too many boot modules";
    }
    info->modules[info->module_count++] = (struct boot_module){.base = base, .size = size};
    return NULL;
}

reason_t boot_finish(struct bootinfo *info, uint64_t kernel_start, uint64_t kernel_end)
{
    if (info->module_count == 0) {
        return "no boot module (the init program: -initrd, or module2 in GRUB)";
    }
    return memmap_finish(info, kernel_start, kernel_end);
}
