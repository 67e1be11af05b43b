/* SPDX-License-Identifier: MIT */
/*
 * What the boot code found out, in one form for every way to boot. Nothing in here points into
 * loader memory: text and tables are copied, and what stays where the loader put it (modules) is
 * carved out of the usable ranges of the memory map.
 */
#ifndef ONESTACK_BOOT_BOOTINFO_H
#define ONESTACK_BOOT_BOOTINFO_H

/* Which way it came; the 32-bit entry code passes these on. */
#define BOOT_PVH        1
#define BOOT_MULTIBOOT2 2

#ifndef __ASSEMBLER__

#include <stdint.h>

#define BOOT_CMDLINE_SIZE 1024
#define BOOT_RANGES       128
#define BOOT_MODULES      4
#define BOOT_RSDP_SIZE    36

/*
 * 1 to 5 are the values of E820, which PVH and Multiboot2 use too; what they call anything else is
 * MEM_RESERVED here. Where ranges of a loader's map overlap, the higher value wins.
 */
enum mem_type {
    MEM_USABLE = 1,
    MEM_RESERVED = 2,
    MEM_ACPI_RECLAIM = 3,
    MEM_ACPI_NVS = 4,
    MEM_BAD = 5,
    MEM_KERNEL = 6,     /* the kernel's image, boot sections included */
    MEM_MODULE = 7,     /* a boot module, rounded out to pages */
    MEM_TRAMPOLINE = 8, /* the page below 1 MiB that application processors start in */
};

struct mem_range {
    uint64_t base;
    uint64_t length;
    uint32_t type;
};

struct boot_module {
    uint64_t base;
    uint64_t size; /* exact, in bytes */
};

struct bootinfo {
    uint32_t protocol; /* BOOT_PVH or BOOT_MULTIBOOT2 */

    /* Sorted by base, no overlaps, neighbours of one type merged; usable ranges are whole pages. */
    uint32_t range_count;
    struct mem_range ranges[BOOT_RANGES];

    uint32_t module_count; /* at least one */
    struct boot_module modules[BOOT_MODULES];

    uint64_t trampoline; /* physical address of the MEM_TRAMPOLINE page, 0 if low memory has none */

    /* The RSDP itself, 20 (revision 0) or 36 bytes, checksums good; 0 when there is none. */
    uint32_t rsdp_size;
    uint8_t rsdp[BOOT_RSDP_SIZE];

    char cmdline[BOOT_CMDLINE_SIZE]; /* without the kernel's own name; terminated */
};

/*
 * Where the boot code ends (kernel/main.c). Long mode, IF=0, no IDT, on the boot stack in .bss; CR3
 * holds the boot tables: the first 4 GiB mapped 1:1, the first 1 GiB at KERNEL_BASE. EFER.NXE,
 * CR0.WP and CR4.PAE are set, nothing else in CR4.
 */
_Noreturn void kernel_main(const struct bootinfo *info);

/*
 * The clean end of a boot that cannot go on, from C, at any time: the line "boot refused: " with both
 * texts behind it, and EXIT_BOOT_REFUSED; a machine without that port halts.
 */
_Noreturn void boot_refuse(const char *about, const char *reason);

#endif
#endif
