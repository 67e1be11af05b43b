/* SPDX-License-Identifier: MIT */
/*
 * The heap: free lists of power-of-two blocks, 32 bytes up to 64 KiB with a 16-byte header each,
 * cut from 64 KiB chunks; what is larger is a region by itself.
 */
#include <stdbool.h>

#include "kernel/lib/string.h"
#include "user/libos/memory.h"

#define CLASS_FIRST  5 /* 32 bytes */
#define CLASS_LAST   16
#define CHUNK_BYTES  (1UL << CLASS_LAST)
#define CLASS_REGION 0xffffffffu

struct block {
    struct block *next; /* while free */
    uint32_t class;
    uint32_t spare;
};

/* A large block's region, ahead of its header. */
struct large {
    struct region region;
    uint64_t pad;
    struct block block;
};

_Static_assert(sizeof(struct block) == 16, "what follows a header is 16-byte aligned");
_Static_assert(sizeof(struct large) % 16 == 0, "likewise");

static struct {
    bool held;
    struct block *free[CLASS_LAST + 1];
    uint8_t *chunk, *chunk_end;
} heap;

static void heap_lock(void)
{
    while (__atomic_exchange_n(&heap.held, true, __ATOMIC_ACQUIRE)) {
        __builtin_ia32_pause();
    }
}

static void heap_unlock(void)
{
    __atomic_store_n(&heap.held, false, __ATOMIC_RELEASE);
}

static struct block *cut(uint32_t class)
{
    size_t bytes = 1UL << class;

    if ((size_t)(heap.chunk_end - heap.chunk) < bytes) {
        struct region region; /* what is left of the old chunk stays unused */

        if (region_create(&region, CHUNK_BYTES) < 0) {
            return NULL;
        }
        heap.chunk = region.address;
        heap.chunk_end = heap.chunk + CHUNK_BYTES;
    }
    struct block *block = (struct block *)heap.chunk;
    heap.chunk += bytes;
    block->class = class;
    return block;
}

static void *allocate_large(size_t bytes)
{
    struct region region;

    if (bytes > SIZE_MAX / 2 || region_create(&region, bytes + sizeof(struct large)) < 0) {
        return NULL;
    }
    struct large *large = region.address;
    large->region = region;
    large->block.class = CLASS_REGION;
    return large + 1;
}

void *malloc(size_t bytes)
{
    uint32_t class = CLASS_FIRST;

    if (bytes > CHUNK_BYTES - sizeof(struct block)) {
        return allocate_large(bytes);
    }
    while ((1UL << class) < bytes + sizeof(struct block)) {
        class ++;
    }
    heap_lock();
    struct block *block = heap.free[class];
    if (block != NULL) {
        heap.free[class] = block->next;
    } else {
        block = cut(class);
    }
    heap_unlock();
    return block == NULL ? NULL : block + 1;
}

void *calloc(size_t count, size_t bytes)
{
    size_t total;
    void *block = __builtin_mul_overflow(count, bytes, &total) ? NULL : malloc(total);

    return block == NULL ? NULL : memset(block, 0, total);
}

void free(void *memory)
{
    struct block *block = (struct block *)memory - 1;

    if (memory == NULL) {
        return;
    }
    if (block->class == CLASS_REGION) {
        struct region region = ((struct large *)memory - 1)->region;
        region_release(&region);
        return;
    }
    heap_lock();
    block->next = heap.free[block->class];
    heap.free[block->class] = block;
    heap_unlock();
}
