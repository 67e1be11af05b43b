/* SPDX-License-Identifier: MIT */
/* What the kernel's half of every address space holds (arch/layout.h), made at boot. */
#include "kernel/mm/kernel_map.h"

#include "boot/bootinfo.h"
#include "kernel/arch/cpu.h"
#include "kernel/arch/entry.h"
#include "kernel/arch/paging.h"
#include "kernel/mm/init.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/quota.h"

#define INTERRUPT_MESSAGES     0xfee00000ULL /* LAPIC, and where devices' messages go: 1 MiB */
#define INTERRUPT_MESSAGES_END 0xfef00000ULL
#define KERNEL_DEVICES         16

#define RIGHTS_RODATA (PTE_PRESENT | PTE_NX | PTE_GLOBAL)
#define RIGHTS_TEXT   (PTE_PRESENT | PTE_GLOBAL)

/* kernel.ld: the image's sections, at their virtual addresses. */
extern const char __text_start[], __text_end[], __rodata_start[], __rodata_end[];
extern const char __data_start[], __data_end[];

static const struct bootinfo *boot_info;
static uint64_t device_pages[KERNEL_DEVICES]; /* physical: the kernel's own devices */
static unsigned device_count;
static unsigned largest_page; /* level of the largest pages that the CPU has */

static uint64_t range_end(const struct mem_range *range)
{
    return range->base + range->length;
}

static void map_page(uint64_t address, unsigned level, uint64_t entry)
{
    if (!page_set(&kernel_table, address, level, entry)) {
        mm_refuse("not enough memory for the kernel's page tables");
    }
}

void kernel_map_direct(uint64_t base, uint64_t end)
{
    while (base < end) {
        unsigned level = largest_page;

        while (level > 1 && (base % level_size(level) != 0 || end - base < level_size(level))) {
            level--;
        }
        map_page(DIRECT_MAP_BASE + base, level, base | RIGHTS_DATA | (level > 1 ? PTE_LARGE : 0));
        base += level_size(level);
    }
}

/*
 * All RAM but the image, whose frames must not be writable under a second address. Neighbouring
 * ranges go together, so that large pages span them.
 */
static void map_memory(void)
{
    uint64_t base = 0;
    uint64_t end = 0;

    for (uint32_t i = 0; i < boot_info->range_count; i++) {
        const struct mem_range *range = &boot_info->ranges[i];

        if (range->type != MEM_USABLE && range->type != MEM_MODULE &&
            range->type != MEM_TRAMPOLINE) {
            continue;
        }
        if (range->base != end) {
            kernel_map_direct(base, end);
            base = range->base;
        }
        end = range_end(range);
    }
    kernel_map_direct(base, end);
}

static void map_section(const char *start, const char *end, uint64_t rights)
{
    for (uint64_t page = (uint64_t)start; page < (uint64_t)end; page += PAGE_SIZE) {
        map_page(page, 1, (page - KERNEL_BASE) | rights);
    }
}

void kernel_map_build(const struct bootinfo *info)
{
    uint32_t out[4];

    boot_info = info;
    cpu_cpuid(0x80000001, 0, out);
    largest_page = out[3] & 1u << 26 ? 3 : 2;
    kernel_table.root = frame_alloc(&root_quota, 0);
    if (kernel_table.root == 0) {
        mm_refuse("no memory");
    }
    map_memory();
    map_section(__text_start, __text_end, RIGHTS_TEXT);
    map_section(__rodata_start, __rodata_end, RIGHTS_RODATA);
    map_section(__data_start, __data_end, RIGHTS_DATA);
}

/* Memory that ran out at boot is missing for good: nothing is taken back. */
static bool map_zeroed(uint64_t address, uint64_t end)
{
    for (; address < end; address += PAGE_SIZE) {
        uint64_t frame = frame_alloc(&root_quota, 0);

        if (frame == 0 || !page_set(&kernel_table, address, 1, frame | RIGHTS_DATA)) {
            return false;
        }
    }
    return true;
}

bool core_area_map(unsigned id)
{
    uint64_t base = CORE_AREA_BASE + (uint64_t)id * CORE_AREA_SIZE;
    bool mapped = map_zeroed(base, base + CORE_STRUCT_SIZE);

    for (unsigned stack = 0; mapped && stack < CORE_STACKS; stack++) {
        mapped = map_zeroed(base + CORE_STACK_BASE(stack), base + CORE_STACK_TOP(stack));
    }
    return mapped;
}

bool device_map(uint64_t address, uint64_t physical)
{
    uint64_t page = physical & PTE_ADDRESS;

    if (device_count == KERNEL_DEVICES) {
        return false;
    }
    device_pages[device_count++] = page;
    return page_set(&kernel_table, address, 1, page | RIGHTS_DATA | PTE_UNCACHED);
}

uint64_t physical_limit(void)
{
    uint32_t out[4];

    cpu_cpuid(0x80000008, 0, out);
    return 1ULL << (out[0] & 0xff);
}

static bool overlap(uint64_t base, uint64_t end, uint64_t other, uint64_t other_end)
{
    return base < other_end && other < end;
}

bool device_memory_allowed(uint64_t physical, uint64_t bytes)
{
    uint64_t end = physical + bytes;

    if (end < physical || end > physical_limit() ||
        overlap(physical, end, INTERRUPT_MESSAGES, INTERRUPT_MESSAGES_END)) {
        return false;
    }
    for (unsigned i = 0; i < device_count; i++) {
        if (overlap(physical, end, device_pages[i], device_pages[i] + PAGE_SIZE)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < boot_info->range_count; i++) {
        const struct mem_range *range = &boot_info->ranges[i];
        bool firmware = range->type == MEM_RESERVED || range->type == MEM_ACPI_RECLAIM ||
                        range->type == MEM_ACPI_NVS;

        if (!firmware && overlap(physical, end, range->base, range_end(range))) {
            return false;
        }
    }
    return true;
}
