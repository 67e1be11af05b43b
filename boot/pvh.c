/* SPDX-License-Identifier: MIT */
/* PVH start information: Xen public/arch-x86/hvm/start_info.h. All of it lies in low memory that
 * the memory map calls usable, so everything is copied before anybody uses that memory. */
#include <stddef.h>

#include "boot/boot.h"
#include "kernel/lib/string.h"

#define START_INFO_MAGIC 0x336ec578

struct start_info {
    uint32_t magic;
    uint32_t version; /* the memory map is there from 1 on */
    uint32_t flags;
    uint32_t module_count;
    uint64_t modules;
    uint64_t cmdline;
    uint64_t rsdp;
    uint64_t memory_map;
    uint32_t memory_map_entries;
    uint32_t reserved;
};

struct start_module {
    uint64_t base;
    uint64_t size;
    uint64_t cmdline;
    uint64_t reserved;
};

struct start_range {
    uint64_t base;
    uint64_t length;
    uint32_t type;
    uint32_t reserved;
};

_Static_assert(sizeof(struct start_info) == 56, "version 1");
_Static_assert(sizeof(struct start_module) == 32, "hvm_modlist_entry");
_Static_assert(sizeof(struct start_range) == 24, "hvm_memmap_table_entry");

static reason_t copy_memory_map(struct bootinfo *info, const struct start_info *start)
{
    reason_t reason = NULL;

    if (start->version < 1 || start->memory_map_entries == 0) {
        return "the loader gave no memory map";
    }
    for (uint32_t i = 0; i < start->memory_map_entries && reason == NULL; i++) {
        struct start_range range;
        const void *bytes = boot_physical(start->memory_map + (uint64_t)i * sizeof(range),
                                          sizeof(range));

        if (bytes == NULL) {
            return "the memory map lies out of reach";
        }
        memcpy(&range, bytes, sizeof(range));
        reason = memmap_append(info, range.base, range.length, range.type);
    }
    return reason;
}

static reason_t copy_modules(struct bootinfo *info, const struct start_info *start)
{
    reason_t reason = NULL;

    for (uint32_t i = 0; i < start->module_count && reason == NULL; i++) {
        struct start_module module;
        const void *bytes = boot_physical(start->modules + (uint64_t)i * sizeof(module),
                                          sizeof(module));

        if (bytes == NULL) {
            return "the module list lies out of reach";
        }
        memcpy(&module, bytes, sizeof(module));
        reason = boot_add_module(info, module.base, module.size);
    }
    return reason;
}

reason_t pvh_parse(struct bootinfo *info, uint32_t start_info)
{
    struct start_info start;
    const void *bytes = boot_physical(start_info, sizeof(start));
    reason_t reason;

    info->protocol = BOOT_PVH;
    if (bytes == NULL) {
        return "the PVH start information lies out of reach";
    }
    memcpy(&start, bytes, sizeof(start));
    if (start.magic != START_INFO_MAGIC) {
        return "the PVH start information is corrupt";
    }
    reason = copy_memory_map(info, &start);
    if (reason == NULL) {
        reason = copy_modules(info, &start);
    }
    if (reason == NULL) {
        reason = boot_copy_cmdline(info, start.cmdline);
    }
    if (reason == NULL && !rsdp_take_at(info, start.rsdp)) {
        rsdp_scan(info);
    }
    return reason;
}
