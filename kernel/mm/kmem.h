/* SPDX-License-Identifier: MIT */
/*
 * Kernel memory. All of it belongs to an account (obj/quota.h), charged to the byte of the slab
 * or frame that it takes. Nothing here sleeps; running out is NULL, for that account alone.
 */
#ifndef ONESTACK_MM_KMEM_H
#define ONESTACK_MM_KMEM_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/arch/layout.h"

struct bootinfo;
struct quota;

/* Physical addresses; direct map. */
static inline void *phys_to_virt(uint64_t physical)
{
    return (void *)(physical + DIRECT_MAP_BASE);
}

static inline uint64_t virt_to_phys(const void *virtual)
{
    return (uint64_t)virtual - DIRECT_MAP_BASE; /* of direct-map addresses only */
}

/* Take over the machine's memory, build the final page tables, load them (mm/init.c). */
void mm_init(const struct bootinfo *info);

/* Zeroed; `size` is rounded up to a power of two, 64 .. 4096 bytes. */
void *kmem_alloc(struct quota *quota, size_t size);
void kmem_free(struct quota *quota, void *memory, size_t size);
/* One zeroed frame or 2^order of them, naturally aligned; physical address, 0 = none. */
uint64_t frame_alloc(struct quota *quota, unsigned order);
void frame_free(struct quota *quota, uint64_t physical, unsigned order);
/* Bytes that belong to no account's object. */
uint64_t mm_free_bytes(void);

#endif
