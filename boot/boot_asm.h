/* SPDX-License-Identifier: MIT */
/* What the assembly files of the boot share. Nothing here describes a C structure. */
#ifndef ONESTACK_BOOT_BOOT_ASM_H
#define ONESTACK_BOOT_BOOT_ASM_H

/* Selectors in boot_gdt (tables.S). */
#define BOOT_CS32      0x08
#define BOOT_DS        0x10
#define BOOT_CS64      0x18
#define BOOT_GDT_LIMIT (4 * 8 - 1)

/* What start.S is told in %ebp besides BOOT_PVH and BOOT_MULTIBOOT2. */
#define BOOT_AP 0

#define BOOT_STACK_SIZE 8192

#endif
