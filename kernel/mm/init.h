/* SPDX-License-Identifier: MIT */
/* Taking over the machine's memory, and the kernel's own mappings. */
#ifndef ONESTACK_MM_INIT_H
#define ONESTACK_MM_INIT_H

#include <stdbool.h>
#include <stdint.h>

struct bootinfo;

/*
 * On the boot tables: give all usable memory from 1 MiB up to the root account, build the kernel's
 * page tables and load them. The identity map is gone when it returns. The LAPIC is mapped; IOAPICs,
 * which ACPI knows, are the caller's to map by device_map(). Below 1 MiB nothing is handed out yet.
 */
void mm_init(const struct bootinfo *info);
/* Give .boot.* and the trampoline's page back; after the last application processor has started. */
void mm_reclaim_boot(void);
/* More memory for the root account: a boot module that is no longer needed. In the direct map. */
void mm_add(uint64_t base, uint64_t bytes);

/* Map core `id`'s area: struct core and the stacks, zeroed; guard pages stay absent. */
bool core_area_map(unsigned id);
/* Map one page of device registers, uncached, at a fixed kernel address. */
bool device_map(uint64_t address, uint64_t physical);
/* May user drivers have this range: neither RAM nor the interrupt controllers? */
bool device_memory_allowed(uint64_t physical, uint64_t bytes);
/* One more than the largest physical address of the CPU. */
uint64_t physical_limit(void);

#endif
