/* SPDX-License-Identifier: MIT */
/* Multiboot2 information: Multiboot2 specification 2.0, 3.6. A list of tags, each 8-byte aligned. */
#include <stddef.h>

#include "boot/boot.h"
#include "kernel/lib/string.h"

#define TAG_END        0
#define TAG_CMDLINE    1
#define TAG_MODULE     3
#define TAG_MEMORY_MAP 6
#define TAG_RSDP_OLD   14
#define TAG_RSDP_NEW   15

#define CORRUPT "the Multiboot2 information is corrupt"

struct information {
    uint32_t total_size;
    uint32_t reserved;
};

struct tag {
    uint32_t type;
    uint32_t size; /* this header included, padding not */
};

struct tag_module {
    uint32_t start;
    uint32_t end;
};

struct tag_memory_map {
    uint32_t entry_size;
    uint32_t entry_version;
};

struct memory_map_entry {
    uint64_t base;
    uint64_t length;
    uint32_t type;
    uint32_t reserved;
};

_Static_assert(sizeof(struct tag) == 8, "3.6.2");
_Static_assert(sizeof(struct tag_module) == 8, "3.6.6");
_Static_assert(sizeof(struct tag_memory_map) == 8, "3.6.8");
_Static_assert(sizeof(struct memory_map_entry) == 24, "3.6.8");

static bool copy(void *to, uint64_t address, uint64_t size)
{
    const void *bytes = boot_physical(address, size);

    if (bytes != NULL) {
        memcpy(to, bytes, size);
    }
    return bytes != NULL;
}

static reason_t read_module(struct bootinfo *info, uint64_t body, uint64_t size)
{
    struct tag_module module;

    if (size < sizeof(module) || !copy(&module, body, sizeof(module)) ||
        module.end < module.start) {
        return CORRUPT;
    }
    return boot_add_module(info, module.start, module.end - module.start);
}

static reason_t read_memory_map(struct bootinfo *info, uint64_t body, uint64_t size)
{
    struct tag_memory_map map;
    struct memory_map_entry entry;
    reason_t reason = NULL;

    if (size < sizeof(map) || !copy(&map, body, sizeof(map)) || map.entry_size < sizeof(entry)) {
        return CORRUPT;
    }
    /* The entries may grow in later versions; what is known stays at their start. */
    for (uint64_t offset = sizeof(map); offset + map.entry_size <= size && reason == NULL;
         offset += map.entry_size) {
        if (!copy(&entry, body + offset, sizeof(entry))) {
            return CORRUPT;
        }
        reason = memmap_append(info, entry.base, entry.length, entry.type);
    }
    return reason;
}

static reason_t read_rsdp(struct bootinfo *info, uint64_t body, uint64_t size)
{
    const void *rsdp = boot_physical(body, size);

    /* The newer table wins, in whichever order the tags come. */
    if (rsdp != NULL && info->rsdp_size < BOOT_RSDP_SIZE) {
        (void)rsdp_take(info, rsdp, size);
    }
    return NULL;
}

static reason_t read_cmdline(struct bootinfo *info, uint64_t body, uint64_t size)
{
    const char *text = boot_physical(body, size);

    if (text == NULL || size == 0 || text[size - 1] != '\0') {
        return CORRUPT;
    }
    return boot_copy_cmdline(info, body);
}

static reason_t read_tag(struct bootinfo *info, uint32_t type, uint64_t body, uint64_t size)
{
    switch (type) {
    case TAG_CMDLINE:
        return read_cmdline(info, body, size);
    case TAG_MODULE:
        return read_module(info, body, size);
    case TAG_MEMORY_MAP:
        return read_memory_map(info, body, size);
    case TAG_RSDP_OLD:
    case TAG_RSDP_NEW:
        return read_rsdp(info, body, size);
    default:
        return NULL;
    }
}

static reason_t read_tags(struct bootinfo *info, uint64_t at, uint64_t end)
{
    struct tag tag;

    while (end - at >= sizeof(tag) && copy(&tag, at, sizeof(tag))) {
        if (tag.type == TAG_END) {
            return NULL;
        }
        if (tag.size < sizeof(tag) || tag.size > end - at) {
            return CORRUPT;
        }
        reason_t reason = read_tag(info, tag.type, at + sizeof(tag), tag.size - sizeof(tag));
        uint64_t step = ((uint64_t)tag.size + 7) & ~7ul;

        if (reason != NULL) {
            return reason;
        }
        if (step > end - at) {
            return CORRUPT;
        }
        at += step;
    }
    return CORRUPT; /* ran off without an end tag */
}

reason_t multiboot2_parse(struct bootinfo *info, uint32_t information)
{
    struct information head;

    info->protocol = BOOT_MULTIBOOT2;
    if (!copy(&head, information, sizeof(head))) {
        return "the Multiboot2 information lies out of reach";
    }
    if (head.total_size < sizeof(head) || boot_physical(information, head.total_size) == NULL) {
        return CORRUPT;
    }
    reason_t reason = read_tags(info, (uint64_t)information + sizeof(head),
                                (uint64_t)information + head.total_size);

    if (reason == NULL && info->range_count == 0) {
        reason = "the loader gave no memory map";
    }
    if (reason == NULL && info->rsdp_size == 0) {
        rsdp_scan(info);
    }
    return reason;
}
