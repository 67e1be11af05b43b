/* SPDX-License-Identifier: MIT */
#include "kernel/arch/paging.h"

#include <stddef.h>

#include "kernel/lib/string.h"
#include "kernel/mm/frames.h"
#include "kernel/obj/quota.h"

struct page_table kernel_table = {.levels = TABLE_LEVELS, .quota = &root_quota};

static bool is_table(uint64_t entry)
{
    return (entry & PTE_PRESENT) && !(entry & PTE_LARGE);
}

static uint64_t *entry_in(uint64_t table, uint64_t address, unsigned level)
{
    uint64_t *entries = phys_to_virt(table & PTE_ADDRESS);

    return &entries[address >> (PAGE_SHIFT + 9 * (level - 1)) & (TABLE_ENTRIES - 1)];
}

/* The count of the table that an entry is in. */
static uint16_t *count_of(const uint64_t *entry)
{
    return &frame_at(virt_to_phys(entry))->entries;
}

uint64_t *page_find(const struct page_table *table, uint64_t address, unsigned *level)
{
    unsigned at = table->levels;
    uint64_t *entry = entry_in(table->root, address, at);

    while (at > 1 && is_table(*entry)) {
        at--;
        entry = entry_in(*entry, address, at);
    }
    *level = at;
    return entry;
}

/* Rights are decided at the bottom; only the half of the address space is told apart further up. */
static uint64_t table_rights(uint64_t address)
{
    return PTE_PRESENT | PTE_WRITE | (address >> 63 ? 0 : PTE_USER);
}

void page_give_back(const struct page_table *table, uint64_t address)
{
    uint64_t frames[TABLE_LEVELS - 1];
    unsigned count = page_detach(table, address, frames);

    while (count > 0) {
        frame_free(table->quota, frames[--count], 0);
    }
}

void page_write(uint64_t *entry, uint64_t value)
{
    if (*entry == 0) {
        ++*count_of(entry);
    }
    *entry = value;
}

uint64_t page_take(uint64_t *entry)
{
    uint64_t value = *entry;

    if (value != 0) {
        *entry = 0;
        --*count_of(entry);
    }
    return value;
}

uint64_t *page_reach(const struct page_table *table, uint64_t address, unsigned level,
                     unsigned *found)
{
    unsigned at;
    uint64_t *entry = page_find(table, address, &at);

    while (at > level && !(*entry & PTE_PRESENT)) {
        uint64_t below = frame_alloc(table->quota, 0);

        if (below == 0) {
            page_give_back(table, address);
            return NULL;
        }
        page_write(entry, below | table_rights(address));
        entry = entry_in(below, address, --at);
    }
    if (found != NULL) {
        *found = at;
    }
    return entry;
}

bool page_set(const struct page_table *table, uint64_t address, unsigned level, uint64_t entry)
{
    uint64_t *place = page_reach(table, address, level, NULL);

    if (place != NULL) {
        page_write(place, entry);
    }
    return place != NULL;
}

uint64_t page_next(uint64_t address, uint64_t end, unsigned level)
{
    uint64_t next = (address & ~(level_size(level) - 1)) + level_size(level);

    return next < end ? next : end;
}

uint64_t page_clear_some(const struct page_table *table, uint64_t address, uint64_t end,
                         unsigned budget)
{
    unsigned level;
    uint64_t *entry = page_find(table, address, &level);

    do {
        page_take(entry++);
        address = page_next(address, end, level);
    } while (level == 1 && --budget > 0 && address < end && address % LARGE_PAGE_SIZE != 0);
    return address;
}

uint64_t page_protect_some(const struct page_table *table, uint64_t address, uint64_t end,
                           unsigned budget, uint64_t rights)
{
    unsigned level;
    uint64_t *entry = page_find(table, address, &level);

    do {
        if (*entry & PTE_PRESENT) {
            *entry = (*entry & ~(PTE_WRITE | PTE_NX)) | rights;
        }
        entry++;
        address = page_next(address, end, level);
    } while (level == 1 && --budget > 0 && address < end && address % LARGE_PAGE_SIZE != 0);
    return address;
}

void page_split(uint64_t *entry, uint64_t physical)
{
    uint64_t page = *entry & ~PTE_LARGE;
    uint64_t *below = phys_to_virt(physical);

    for (unsigned i = 0; i < TABLE_ENTRIES; i++) {
        below[i] = page + (uint64_t)i * PAGE_SIZE;
    }
    frame_at(physical)->entries = TABLE_ENTRIES;
    *entry = physical | PTE_PRESENT | PTE_WRITE | (page & PTE_USER);
}

unsigned page_detach(const struct page_table *table, uint64_t address,
                     uint64_t frames[TABLE_LEVELS - 1])
{
    uint64_t *path[TABLE_LEVELS + 1];
    unsigned level = table->levels;
    unsigned count = 0;

    path[level] = entry_in(table->root, address, level);
    while (level > 1 && is_table(*path[level])) {
        path[level - 1] = entry_in(*path[level], address, level - 1);
        level--;
    }
    while (level < table->levels && *count_of(path[level]) == 0) {
        level++;
        frames[count++] = *path[level] & PTE_ADDRESS;
        *path[level] = 0;
        --*count_of(path[level]);
    }
    return count;
}

uint64_t page_root_create(struct quota *quota)
{
    uint64_t root = frame_alloc_dirty(quota, 0);

    if (root != 0) {
        uint64_t *entries = phys_to_virt(root);
        const uint64_t *kernel = phys_to_virt(kernel_table.root);
        size_t half = PAGE_SIZE / 2;

        memset(entries, 0, half);
        memcpy(entries + TABLE_ENTRIES / 2, kernel + TABLE_ENTRIES / 2, half);
    }
    return root;
}
