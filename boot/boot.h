/* SPDX-License-Identifier: MIT */
/*
 * The inside of the boot code. A function that returns a reason returns NULL when all is well, or
 * the text that follows "boot refused: ". None of them prints, so that they also run on a host,
 * under test, with a boot_physical() that hands out exactly what was asked for.
 */
#ifndef ONESTACK_BOOT_BOOT_H
#define ONESTACK_BOOT_BOOT_H

#include <stdbool.h>

#include "boot/bootinfo.h"

typedef const char *reason_t;

/*
 * `size` bytes at physical address `address`, for reading, while the boot tables are loaded; NULL
 * when they do not reach there. The bytes may be unaligned: copy structures out of them.
 */
const void *boot_physical(uint64_t address, uint64_t size);

/* pvh.c, multiboot2.c: fill everything but the trampoline; the map is left as the loader had it. */
reason_t pvh_parse(struct bootinfo *info, uint32_t start_info);
reason_t multiboot2_parse(struct bootinfo *info, uint32_t information);

/* collect.c. Copy the zero-terminated text there; an absent one (address 0) is empty. */
reason_t boot_copy_cmdline(struct bootinfo *info, uint64_t address);
reason_t boot_add_module(struct bootinfo *info, uint64_t base, uint64_t size);
/* What is the same for every loader: a module there must be, and the map is made final. */
reason_t boot_finish(struct bootinfo *info, uint64_t kernel_start, uint64_t kernel_end);

/* memmap.c. Append a range as the loader gives it; empty ones are skipped. */
reason_t memmap_append(struct bootinfo *info, uint64_t base, uint64_t length, uint32_t type);
/* Sort, make whole pages, resolve overlaps, carve out kernel, modules and trampoline. */
reason_t memmap_finish(struct bootinfo *info, uint64_t kernel_start, uint64_t kernel_end);

/* rsdp.c. Take the RSDP there (at most `size` bytes of it) if it is good. */
bool rsdp_take(struct bootinfo *info, const void *rsdp, uint64_t size);
bool rsdp_take_at(struct bootinfo *info, uint64_t address);
/* The BIOS's places, for loaders that did not say. */
void rsdp_scan(struct bootinfo *info);

/* features.c. The name of the first CPU feature that is required and missing, or NULL. */
const char *boot_missing_feature(void);

#endif
