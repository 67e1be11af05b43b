/* SPDX-License-Identifier: MIT */
/*
 * From the loader's memory map and the boot tables to the kernel's own. What is not in the pool:
 * everything below 1 MiB (firmware scribbles there, and application processors start there), the
 * kernel's image, boot modules, ACPI's and other reserved ranges.
 */
#include "kernel/mm/init.h"

#include "boot/bootinfo.h"
#include "kernel/arch/cpu.h"
#include "kernel/arch/debug_exit.h"
#include "kernel/arch/paging.h"
#include "kernel/debug/print.h"
#include "kernel/lib/string.h"
#include "kernel/mm/frames.h"
#include "kernel/mm/kernel_map.h"
#include "kernel/obj/quota.h"
#include "kernel/obj/window.h"

#define LOW_MEMORY_END 0x100000ULL
#define BOOT_MAP_END   0x100000000ULL /* the boot tables' 1:1 map */

extern const char __boot_start[], __boot_end[]; /* kernel.ld: physical addresses */

static const struct bootinfo *boot_info;
static uint64_t table_base, table_bytes; /* the array of struct page_frame, not in the pool */

static uint64_t range_end(const struct mem_range *range)
{
    return range->base + range->length;
}

_Noreturn void mm_refuse(const char *reason)
{
    kprintf("boot refused: %s\n", reason);
    debug_exit(EXIT_BOOT_REFUSED);
    halt_forever();
}

/*
 * A place for the frames' array: the end of the largest usable range that the boot tables reach. If
 * it took more than half of that, the machine's upper memory is left out.
 */
static void place_frame_table(void)
{
    const struct mem_range *best = NULL;
    uint64_t end = 0;

    for (uint32_t i = 0; i < boot_info->range_count; i++) {
        const struct mem_range *range = &boot_info->ranges[i];

        if (range->type == MEM_USABLE || range->type == MEM_MODULE || range->type == MEM_KERNEL) {
            end = range_end(range);
        }
        if (range->type == MEM_USABLE && range->base >= LOW_MEMORY_END &&
            range_end(range) <= BOOT_MAP_END && (best == NULL || range->length > best->length)) {
            best = range;
        }
    }
    if (best == NULL) {
        mm_refuse("no usable memory between 1 MiB and 4 GiB");
    }
    uint64_t frames = end >> PAGE_SHIFT;
    uint64_t most = best->length / 2 / sizeof(struct page_frame);

    if (frames > most) {
        frames = most;
        kprintf("onestack: memory above %lu MiB is left out\n", frames >> (20 - PAGE_SHIFT));
    }
    table_bytes = (frames * sizeof(struct page_frame) + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);
    table_base = range_end(best) - table_bytes;
    memset(phys_to_virt(table_base), 0, table_bytes);
    frames_init(phys_to_virt(table_base), (uint32_t)frames);
}

void mm_add(uint64_t base, uint64_t bytes)
{
    frames_add(base, bytes);
    quota_grow_root(bytes);
}

/* Give what is usable between two addresses to the pool. */
static void add_between(uint64_t from, uint64_t to)
{
    for (uint32_t i = 0; i < boot_info->range_count; i++) {
        const struct mem_range *range = &boot_info->ranges[i];
        uint64_t base = range->base > from ? range->base : from;
        uint64_t end = range_end(range) < to ? range_end(range) : to;

        if (range->base < table_base && table_base < end) {
            end = table_base; /* it takes the end of its range */
        }
        if (range->type == MEM_USABLE && base < end) {
            mm_add(base, end - base);
        }
    }
}

void mm_init(const struct bootinfo *info)
{
    uint64_t *boot_pml4 = (uint64_t *)(read_cr3() & PTE_ADDRESS);

    boot_info = info;
    /* Until our own tables are loaded, the boot tables' 1:1 map is the direct map too. */
    boot_pml4[TABLE_ENTRIES / 2] = boot_pml4[0];
    place_frame_table();
    uint64_t frames_end = (uint64_t)frame_count << PAGE_SHIFT;

    add_between(LOW_MEMORY_END, frames_end < BOOT_MAP_END ? frames_end : BOOT_MAP_END);
    kernel_map_build(info);
    write_cr3(kernel_table.root);
    add_between(BOOT_MAP_END, frames_end);
    window_init(mm_free_bytes());
    if (!device_map(LAPIC_BASE, rdmsr(MSR_APIC_BASE) & PTE_ADDRESS)) {
        mm_refuse("no memory for the LAPIC's page table");
    }
}

void mm_reclaim_boot(void)
{
    uint64_t base = (uint64_t)__boot_start;
    uint64_t end = (uint64_t)__boot_end;
    uint64_t trampoline = boot_info->trampoline;

    if (trampoline != 0) {
        memset(phys_to_virt(trampoline), 0, PAGE_SIZE);
        mm_add(trampoline, PAGE_SIZE);
    }
    kernel_map_direct(base, end);
    memset(phys_to_virt(base), 0, end - base);
    mm_add(base, end - base);
}
