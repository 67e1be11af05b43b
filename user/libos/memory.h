/* SPDX-License-Identifier: MIT */
/* Memory of one's own: address ranges, regions with memory in them, and a heap. */
#ifndef ONESTACK_LIBOS_MEMORY_H
#define ONESTACK_LIBOS_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/abi/cap.h"

#define PAGE_BYTES           4096UL
#define PAGE_ROUND_UP(bytes) (((uint64_t)(bytes) + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1))

/* A memory object of this process, mapped. */
struct region {
    cap_t memory;
    void *address;
    size_t bytes; /* whole pages */
};

/* Addresses that nobody else in this process gets, with an unmapped page on either side. */
void *region_reserve(size_t bytes);
/* New zeroed memory, mapped for reading and writing. 0 or an error; nothing is left behind then. */
int64_t region_create(struct region *region, size_t bytes);
/* The same on another account than the process's own. */
int64_t region_create_on(struct region *region, size_t bytes, cap_t quota);
/* Map memory that somebody gave; MAP_* flags. */
int64_t region_map(struct region *region, cap_t memory, size_t bytes, uint32_t flags);
/* Unmap; the capability stays. */
void region_unmap(struct region *region);
/* Unmap, and drop the capability: the end of the memory unless somebody else has one. */
void region_release(struct region *region);

/* The heap: 16-byte aligned; never gives pages back. NULL when the quota is exhausted. */
void *malloc(size_t bytes);
void *calloc(size_t count, size_t bytes);
void free(void *memory);

#endif
