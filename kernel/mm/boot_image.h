/* SPDX-License-Identifier: MIT */
/* The first user program: the boot module, an ELF file, with the capabilities for everything. */
#ifndef ONESTACK_MM_BOOT_IMAGE_H
#define ONESTACK_MM_BOOT_IMAGE_H

#include "boot/bootinfo.h"
#include "kernel/abi/bootpage.h"
#include "kernel/arch/core.h"

#define BOOT_PRIORITY 128 /* of the first thread; its ceiling is the highest */

/*
 * Make the first space and its thread, ready on `core`. NULL, or what is wrong with the module or
 * missing for it; nothing runs then. The program is told of `power`.
 */
const char *boot_image_start(struct core *core, const struct bootinfo *info,
                             const struct boot_power *power);

#endif
