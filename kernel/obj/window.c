/* SPDX-License-Identifier: MIT */
#include "kernel/obj/window.h"

#include "kernel/arch/paging.h"
#include "kernel/lib/cache_line.h"
#include "kernel/mm/frames.h"
#include "kernel/mm/kernel_map.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/quota.h"

/* A window is one entry of a third-level table; the tables' entries in the PML4 end before the image's. */
#define WINDOW_LEVEL  3
#define WINDOW_TABLES ((CAP_WINDOW_END - CAP_WINDOW_BASE) >> 39)
/* The least a space takes: PML4 and the window's topmost table. */
#define SPACE_BYTES_LEAST (2 * PAGE_SIZE)

_Static_assert(CAP_WINDOW_SIZE == 1 << 30, "one entry of level 3");
_Static_assert(CAPS_PER_PAGE * sizeof(struct cap) == PAGE_SIZE, "pages are filled");
_Static_assert(CAP_TABLE_MAX * sizeof(struct cap) == CAP_TABLE_BYTES, "handles reach all of it");
_Static_assert(CAP_TABLE_BYTES <= CAP_WINDOW_SIZE, "a table fits");

/*
 * Free windows: those never used from `fresh` on, then a chain through the absent entries of the used
 * ones, which hold the next one's number + 1, shifted past the present bit.
 */
static struct {
    struct lock lock; /* guards all of it */
    uint64_t fresh, total, chain;
} windows SHARED = {.lock.rank = RANK_WINDOWS};

static uint64_t window_address(uint64_t number)
{
    return CAP_WINDOW_BASE + number * CAP_WINDOW_SIZE;
}

/* In one of the shared tables, whose entries nobody counts: they are never given back. */
static uint64_t *window_entry(uint64_t number)
{
    uint64_t address = window_address(number);
    const uint64_t *pml4 = phys_to_virt(kernel_table.root);
    uint64_t *entries = phys_to_virt(pml4[address >> 39 & (TABLE_ENTRIES - 1)] & PTE_ADDRESS);

    return &entries[number % TABLE_ENTRIES];
}

static uint64_t window_number(const struct space *space)
{
    return ((uint64_t)space->caps - CAP_WINDOW_BASE) / CAP_WINDOW_SIZE;
}

/* A window's own tables. The topmost is there as long as the space. */
static struct page_table window_table(struct space *space)
{
    return (struct page_table){
        .root = *window_entry(window_number(space)) & PTE_ADDRESS,
        .levels = WINDOW_LEVEL - 1,
        .quota = space->account,
    };
}

void window_init(uint64_t memory_bytes)
{
    uint64_t wanted = memory_bytes / SPACE_BYTES_LEAST;

    for (uint64_t i = 0; i < WINDOW_TABLES && windows.total < wanted; i++) {
        uint64_t frame = frame_alloc(&root_quota, 0);

        if (frame == 0 || !page_set(&kernel_table, window_address(windows.total), TABLE_LEVELS,
                                    frame | PTE_PRESENT | PTE_WRITE)) {
            mm_refuse("no memory for the capability windows' tables");
        }
        windows.total += TABLE_ENTRIES;
    }
}

static bool window_take(uint64_t *number)
{
    bool found = true;

    lock_acquire(&windows.lock);
    if (windows.chain != 0) {
        *number = windows.chain - 1;
        windows.chain = *window_entry(windows.chain - 1) >> 1;
    } else if (windows.fresh < windows.total) {
        *number = windows.fresh++;
    } else {
        found = false;
    }
    lock_release(&windows.lock);
    return found;
}

static void window_give(uint64_t number)
{
    lock_acquire(&windows.lock);
    *window_entry(number) = windows.chain << 1;
    windows.chain = number + 1;
    lock_release(&windows.lock);
}

bool window_open(struct space *space)
{
    uint64_t table = frame_alloc(space->account, 0), number;

    if (table == 0) {
        return false;
    }
    if (!window_take(&number)) {
        frame_free(space->account, table, 0);
        return false;
    }
    *window_entry(number) = table | PTE_PRESENT | PTE_WRITE;
    space->caps = (struct cap *)window_address(number);
    return true;
}

void window_close(struct space *space)
{
    uint64_t table = window_table(space).root, number = window_number(space);

    *window_entry(number) = 0;
    tlb_invalidate(NULL, (uint64_t)space->caps, 1);
    frame_free(space->account, table, 0);
    window_give(number);
    space->caps = NULL;
}

bool space_grow_caps(struct space *space)
{
    struct page_table table = window_table(space);
    uint64_t address = (uint64_t)&space->caps[space->cap_limit];
    uint64_t frame;

    if (space->cap_limit >= CAP_TABLE_MAX) {
        return false;
    }
    frame = frame_alloc(space->account, 0);
    if (frame == 0) {
        return false;
    }
    if (!page_set(&table, address, 1, frame | RIGHTS_DATA)) {
        frame_free(space->account, frame, 0);
        return false;
    }
    return true;
}

bool window_shrink(struct space *space)
{
    struct page_table table = window_table(space);
    uint64_t frames[TABLE_LEVELS];
    unsigned level;

    if (space->cap_limit == 0) {
        return false;
    }
    space->cap_limit -= CAPS_PER_PAGE;
    uint64_t address = (uint64_t)&space->caps[space->cap_limit];
    uint64_t page = *page_find(&table, address, &level) & PTE_ADDRESS;

    page_clear_some(&table, address, address + PAGE_SIZE, 1);
    unsigned count = page_detach(&table, address, frames);

    frames[count++] = page;
    tlb_invalidate(NULL, address, 1);
    while (count > 0) {
        frame_free(space->account, frames[--count], 0);
    }
    return true;
}
