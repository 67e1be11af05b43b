/* SPDX-License-Identifier: MIT */
/*
 * Mappings: the inside of spaces and memory objects. The space's lock guards its tree of mappings
 * and its page tables; the memory object's lock, taken inside it, guards the lists by capability.
 *
 * Everything that can take long goes on in steps of MAPPING_STEP pages: the caller looks for
 * pending work between two, with no lock held. What is half done is a smaller mapping.
 */
#ifndef ONESTACK_OBJ_MAPPING_H
#define ONESTACK_OBJ_MAPPING_H

#include "kernel/abi/syscall.h"
#include "kernel/obj/memory.h"
#include "kernel/obj/space.h"

#define MAPPING_STEP 32

#define MAP_RIGHTS (MAP_READ | MAP_WRITE | MAP_EXECUTE)

/* What a mapping is to be. */
struct map_request {
    cap_t handle;                    /* by which the capability was found */
    uint64_t address, bytes, offset; /* whole pages; offset in what the capability names */
    uint8_t flags;                   /* MAP_* */
    const struct thread *maker;      /* memory.h */
};

/* The space's page tables. */
static inline struct page_table space_table(const struct space *space)
{
    return (struct page_table){
        .root = space->cr3,
        .levels = TABLE_LEVELS,
        .quota = space->account,
    };
}

/* Inside user space, whole pages, not empty? */
bool user_range(uint64_t address, uint64_t bytes);
/* MAP_* flags of a mapping or a protection: readable, and not both writable and executable. */
bool map_flags_valid(uint64_t flags);

/* The first mapping that reaches beyond `address`, or NULL. The space's lock is held. */
struct mapping *mapping_from(const struct space *space, uint64_t address);

/* Enter a mapping without any page: E_OK or the error. */
int64_t mapping_add(struct space *space, struct cap *cap, const struct map_request *request);
/* The space's lock is held: map some pages from *address on, and move it. False: no memory. */
bool mapping_fill_some(struct mapping *mapping, uint64_t *address);
/* The space's lock is held: cut some pages off the mapping's start, up to `end`; with the last it goes. */
void mapping_cut_some(struct mapping *mapping, uint64_t end);
/*
 * Cut in two what crosses either address now, mapping and large page; false = no memory, nothing changed. What
 * crosses them later somebody has mapped since: to unmap and protect it comes after them, and they pass it over.
 */
bool mapping_split(struct space *space, uint64_t from, uint64_t to);
/* Does it show the object's page at `offset`? Either lock is held. */
static inline bool mapping_shows(const struct mapping *mapping, uint64_t offset)
{
    return offset >= mapping->offset && offset - mapping->offset < mapping->bytes;
}
/* The space's lock is held: unmap that page, until the next touch. */
void mapping_forget(struct mapping *mapping, uint64_t offset);
/* What a page table entry for the mapping has besides the address. */
uint64_t mapping_rights(const struct mapping *mapping);

#endif
