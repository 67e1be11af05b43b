/* SPDX-License-Identifier: MIT */
/*
 * The memory map. Loaders give it in any order, with overlaps and with odd ends. Ranges are
 * painted into the final map one type after the other, each over what is there, so that where two
 * disagree the less usable one wins.
 */
#include <stddef.h>

#include "boot/boot.h"
#include "kernel/arch/layout.h"
#include "kernel/lib/string.h"

#define LOW_MEMORY_END 0x100000
#define ADDRESS_LIMIT  (1ul << 52) /* MAXPHYADDR is never more: Intel SDM vol. 3, 4.1.4 */

static struct mem_range raw[BOOT_RANGES]; /* the loader's map, while the final one is painted */

static uint64_t page_down(uint64_t address)
{
    return address & ~(uint64_t)(PAGE_SIZE - 1);
}

static uint64_t page_up(uint64_t address)
{
    return page_down(address + PAGE_SIZE - 1);
}

static uint64_t range_end(const struct mem_range *range)
{
    return range->base + range->length;
}

reason_t memmap_append(struct bootinfo *info, uint64_t base, uint64_t length, uint32_t type)
{
    if (length == 0) {
        return NULL;
    }
    if (base >= ADDRESS_LIMIT || length > ADDRESS_LIMIT - base) {
        return "a range of the memory map is out of bounds";
    }
    if (info->range_count == BOOT_RANGES) {
        return "the memory map has too many ranges";
    }
    info->ranges[info->range_count++] = (struct mem_range){
        .base = base,
        .length = length,
        .type = type >= MEM_USABLE && type <= MEM_BAD ? type : MEM_RESERVED,
    };
    return NULL;
}

static bool range_insert(struct bootinfo *info, uint32_t at, struct mem_range range)
{
    struct mem_range *place = &info->ranges[at];

    if (info->range_count == BOOT_RANGES) {
        return false;
    }
    memmove(place + 1, place, (info->range_count - at) * sizeof(*place));
    info->range_count++;
    *place = range;
    return true;
}

static void range_remove(struct bootinfo *info, uint32_t at)
{
    struct mem_range *place = &info->ranges[at];

    info->range_count--;
    memmove(place, place + 1, (info->range_count - at) * sizeof(*place));
}

/* Free base to end in the sorted map. Returns where a range there belongs, or -1 if it is full. */
static int64_t carve(struct bootinfo *info, uint64_t base, uint64_t end)
{
    struct mem_range *ranges = info->ranges;
    uint32_t i = 0;

    while (i < info->range_count && range_end(&ranges[i]) <= base) {
        i++;
    }
    if (i < info->range_count && ranges[i].base < base) {
        /* Twice the same for a moment; the loop below trims the upper copy. */
        if (!range_insert(info, i, ranges[i])) {
            return -1;
        }
        ranges[i].length = base - ranges[i].base;
        i++;
    }
    while (i < info->range_count && ranges[i].base < end) {
        if (range_end(&ranges[i]) <= end) {
            range_remove(info, i);
        } else {
            ranges[i].length = range_end(&ranges[i]) - end;
            ranges[i].base = end;
        }
    }
    return i;
}

static void merge_with_next(struct bootinfo *info, uint32_t at)
{
    struct mem_range *range = &info->ranges[at];

    if (at + 1 < info->range_count && range[0].type == range[1].type &&
        range_end(&range[0]) == range[1].base) {
        range[0].length += range[1].length;
        range_remove(info, at + 1);
    }
}

static reason_t paint(struct bootinfo *info, uint64_t base, uint64_t end, uint32_t type)
{
    if (base >= end) {
        return NULL;
    }
    int64_t at = carve(info, base, end);
    struct mem_range range = {.base = base, .length = end - base, .type = type};

    if (at < 0 || !range_insert(info, (uint32_t)at, range)) {
        return "the memory map has too many ranges";
    }
    merge_with_next(info, (uint32_t)at);
    if (at > 0) {
        merge_with_next(info, (uint32_t)at - 1);
    }
    return NULL;
}

/* Give whole pages in usable memory another type; `complaint` if they are not all usable. */
static reason_t claim(struct bootinfo *info, uint64_t base, uint64_t end, uint32_t type,
                      reason_t complaint)
{
    for (uint32_t i = 0; i < info->range_count; i++) {
        const struct mem_range *range = &info->ranges[i];

        if (range->type == MEM_USABLE && range->base <= base && end <= range_end(range)) {
            return paint(info, base, end, type);
        }
    }
    return complaint;
}

/* The loader's ranges of one type: usable ones lose partial pages, the others gain them. */
static reason_t paint_type(struct bootinfo *info, uint32_t raw_count, uint32_t type)
{
    reason_t reason = NULL;

    for (uint32_t i = 0; i < raw_count && reason == NULL; i++) {
        uint64_t base = raw[i].base;
        uint64_t end = range_end(&raw[i]);

        if (raw[i].type != type) {
            continue;
        }
        reason = type == MEM_USABLE ? paint(info, page_up(base), page_down(end), type)
                                    : paint(info, page_down(base), page_up(end), type);
    }
    return reason;
}

/* Not page 0: it holds the real-mode vectors and the BIOS data area, and 0 means "none". */
static reason_t claim_trampoline(struct bootinfo *info)
{
    for (uint32_t i = 0; i < info->range_count; i++) {
        const struct mem_range *range = &info->ranges[i];

        if (range->type == MEM_USABLE && range->base + PAGE_SIZE <= LOW_MEMORY_END) {
            info->trampoline = range->base;
            return paint(info, range->base, range->base + PAGE_SIZE, MEM_TRAMPOLINE);
        }
    }
    return NULL;
}

static reason_t claim_modules(struct bootinfo *info)
{
    reason_t reason = NULL;

    for (uint32_t i = 0; i < info->module_count && reason == NULL; i++) {
        const struct boot_module *module = &info->modules[i];

        reason = claim(info, page_down(module->base), page_up(module->base + module->size),
                       MEM_MODULE, "a boot module does not lie in free memory");
    }
    return reason;
}

reason_t memmap_finish(struct bootinfo *info, uint64_t kernel_start, uint64_t kernel_end)
{
    uint32_t raw_count = info->range_count;
    reason_t reason = NULL;

    memcpy(raw, info->ranges, sizeof(raw));
    info->range_count = 0;
    for (uint32_t type = MEM_USABLE; type <= MEM_BAD && reason == NULL; type++) {
        reason = paint_type(info, raw_count, type);
    }
    if (reason == NULL) {
        reason = paint(info, 0, PAGE_SIZE, MEM_RESERVED);
    }
    if (reason == NULL) {
        reason = claim(info, page_down(kernel_start), page_up(kernel_end), MEM_KERNEL,
                       "the kernel does not lie in usable memory");
    }
    if (reason == NULL) {
        reason = claim_modules(info);
    }
    return reason == NULL ? claim_trampoline(info) : reason;
}
