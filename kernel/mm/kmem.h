/* SPDX-License-Identifier: MIT */
/*
 * Kernel memory. All of it belongs to an account (obj/quota.h), which is charged for the frames that
 * it takes. Nothing here sleeps; running out is NULL, for that account alone.
 */
#ifndef ONESTACK_MM_KMEM_H
#define ONESTACK_MM_KMEM_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/arch/layout.h"

struct memory;
struct quota;

/* Physical addresses; direct map. */
static inline void *phys_to_virt(uint64_t physical)
{
    return (void *)(physical + DIRECT_MAP_BASE);
}

static inline uint64_t virt_to_phys(const void *virtual)
{
    return (uint64_t) virtual - DIRECT_MAP_BASE; /* of direct-map addresses only */
}

/* Zeroed; `size` is rounded up to a power of two, 64 bytes or more, and aligned to it. */
void *kmem_alloc(struct quota *quota, size_t size);
void kmem_free(struct quota *quota, void *memory, size_t size);
/* One zeroed frame or 2^order of them, naturally aligned; physical address, 0 = none. */
uint64_t frame_alloc(struct quota *quota, unsigned order);
/* The same with what was in it: the caller overwrites all of it before anyone else sees it. */
uint64_t frame_alloc_dirty(struct quota *quota, unsigned order);
void frame_free(struct quota *quota, uint64_t physical, unsigned order);
/*
 * The frame, or a block whose first it is, is now what `memory`, a kmem_alloc()ed object of 128 bytes,
 * has at `offset`; until it is freed.
 */
void frame_own(uint64_t physical, const struct memory *memory, uint64_t offset);
/*
 * Whose is a byte of physical memory, and where in it? NULL: no memory object's. No reference: who
 * asks at the outermost level has it until that ends (grace.h), but it may be dying.
 */
struct memory *frame_owner(uint64_t physical, uint64_t *offset);
/* Bytes in frames that belong to nobody. */
uint64_t mm_free_bytes(void);

#endif
