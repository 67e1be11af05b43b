/* SPDX-License-Identifier: MIT */
/*
 * Page tables (Intel SDM vol. 3, 4.5), and trees of the same form in which memory objects keep
 * their frames. A table's frame counts its entries, and goes when it has none.
 *
 * Levels count from the bottom: 1 = 4 KiB entries, 2 = 2 MiB, 3 = 1 GiB, 4 = the PML4. The
 * caller holds the lock of whatever the tables belong to.
 */
#ifndef ONESTACK_ARCH_PAGING_H
#define ONESTACK_ARCH_PAGING_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/arch/layout.h"

struct core;
struct quota;
struct space;

#define PTE_PRESENT  0x001ULL
#define PTE_WRITE    0x002ULL
#define PTE_USER     0x004ULL
#define PTE_UNCACHED 0x018ULL /* PWT and PCD: the PAT's entry 3, uncacheable after reset */
#define PTE_LARGE    0x080ULL /* levels 2 and 3: a page, not a table */
#define PTE_GLOBAL   0x100ULL
#define PTE_DEVICE   0x200ULL /* ours to define: the frame is not in the direct map */
#define PTE_NX       0x8000000000000000ULL
#define PTE_ADDRESS  0x000ffffffffff000ULL

#define TABLE_ENTRIES 512
#define TABLE_LEVELS  4

struct page_table {
    uint64_t root;       /* physical address of the topmost table */
    unsigned levels;     /* its level */
    struct quota *quota; /* pays for the tables below it */
};

/* Bytes that one entry of a level covers. */
static inline uint64_t level_size(unsigned level)
{
    return 1ULL << (PAGE_SHIFT + 9 * (level - 1));
}

/* The lowest entry that there is for an address, and its level. */
uint64_t *page_find(const struct page_table *table, uint64_t address, unsigned *level);
/*
 * The entry of `level`, the tables above it made, or that of a large page which is there already (then
 * *found, which may be NULL, is its level). NULL = no memory, nothing changed.
 */
uint64_t *page_reach(const struct page_table *table, uint64_t address, unsigned level,
                     unsigned *found);
/* Write an entry that one of these returned; empty one, returning what it was. */
void page_write(uint64_t *entry, uint64_t value);
uint64_t page_take(uint64_t *entry);
/* Where the entry after the one of `address` begins, or `end` if that comes first. */
uint64_t page_next(uint64_t address, uint64_t end, unsigned level);
/* Both; false = no memory. No large page is there. */
bool page_set(const struct page_table *table, uint64_t address, unsigned level, uint64_t entry);
/*
 * From `address` on: clear at most `budget` (> 0) entries of one table, or pass over a hole.
 * Returns the address reached, never beyond `end`; large pages must lie inside the range.
 */
uint64_t page_clear_some(const struct page_table *table, uint64_t address, uint64_t end,
                         unsigned budget);
/* Alike: give present pages other rights (PTE_WRITE and PTE_NX of `rights`). */
uint64_t page_protect_some(const struct page_table *table, uint64_t address, uint64_t end,
                           unsigned budget, uint64_t rights);
/* Turn a 2 MiB page into 4 KiB pages in the zeroed frame `physical`, a table from now on. */
void page_split(uint64_t *entry, uint64_t physical);
/*
 * Take tables without entries out of the tree, on the way to `address`. Returns how many; their
 * frames may be freed once no TLB knows them (tlb_invalidate does it for the address).
 */
unsigned page_detach(const struct page_table *table, uint64_t address,
                     uint64_t frames[TABLE_LEVELS - 1]);

/* The same, and free them: where no TLB can know them. */
void page_give_back(const struct page_table *table, uint64_t address);

/* The kernel's own table; the upper half of every space's is a copy of its topmost entries. */
extern struct page_table kernel_table;
/* A new top for a space, charged to `quota`; 0 = no memory. */
uint64_t page_root_create(struct quota *quota);
/* Before a space's is freed: cores that still have it loaded, for idle perhaps, take the kernel's. */
void page_root_leave(struct space *space);

/*
 * Forget translations of `pages` 4 KiB pages from `address` on, and of the tables on the way there.
 * `space` NULL: kernel addresses. Other cores that may know them are told to do the same.
 */
void tlb_invalidate(struct space *space, uint64_t address, uint64_t pages);
/* From kintr_handler: other cores wait for this one to forget something. */
void tlb_shootdown_event(struct core *core);

#endif
