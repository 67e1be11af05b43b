/* SPDX-License-Identifier: MIT */
/* The kernel's own mappings while they are made; the rest of the kernel uses mm/init.h. */
#ifndef ONESTACK_MM_KERNEL_MAP_H
#define ONESTACK_MM_KERNEL_MAP_H

#include <stdint.h>

struct bootinfo;

/* What the kernel's data have: never executable, the same in every space. */
#define RIGHTS_DATA (PTE_PRESENT | PTE_WRITE | PTE_NX | PTE_GLOBAL)

/* Fill kernel_table: the direct map and the image by section. Loading it is the caller's. */
void kernel_map_build(const struct bootinfo *info);
/* Put memory into the direct map. */
void kernel_map_direct(uint64_t base, uint64_t end);

/* One line on the console, the exit code of a refused boot. */
_Noreturn void mm_refuse(const char *reason);

#endif
