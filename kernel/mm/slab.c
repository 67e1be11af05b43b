/* SPDX-License-Identifier: MIT */
/*
 * Small objects: frames cut into pieces of one size, 64 to 2048 bytes, each piece aligned to its
 * size. What is known of a slab stands in its frame's entry, and free pieces are chained by a byte in
 * themselves, so an object has no header. Each account has slabs of its own (obj/quota.h says why).
 */
#include "kernel/debug/panic.h"
#include "kernel/lib/string.h"
#include "kernel/mm/frames.h"
#include "kernel/obj/quota.h"

#define SMALLEST_SHIFT 6
#define LARGEST_SMALL  (64u << (SLAB_CLASSES - 1))

static unsigned class_of(size_t size)
{
    return size <= 64 ? 0 : 64 - (unsigned)__builtin_clzl(size - 1) - SMALLEST_SHIFT;
}

/* Beyond the slabs: frames as they are, for a page and more. */
static unsigned order_of(size_t size)
{
    return size <= PAGE_SIZE ? 0 : 64 - (unsigned)__builtin_clzl((size - 1) >> PAGE_SHIFT);
}

static unsigned pieces(unsigned class)
{
    return PAGE_SIZE >> (SMALLEST_SHIFT + class);
}

/*
 * In debug builds a free piece holds this, all but its link, and must still hold it when it is taken
 * again: somebody has used it after its end otherwise.
 */
#define POISON 0xd5

static void poison(uint8_t *piece, unsigned class)
{
    if (CONFIG_DEBUG) {
        memset(piece + 1, POISON, (64u << class) - 1);
    }
}

static void check_poison(const uint8_t *piece, unsigned class)
{
    for (unsigned i = 1; CONFIG_DEBUG && i < 64u << class; i++) {
        if (piece[i] != POISON) {
            panic("%p of %u bytes was written to at %u after its end", (const void *)piece,
                  64u << class, i);
        }
    }
}

/* A new frame with all pieces chained, the account's only one of its class with room; 0 = no memory. */
static uint32_t slab_create(struct quota *quota, unsigned class)
{
    uint64_t physical = frame_alloc_dirty(quota, 0);

    if (physical == 0) {
        return 0;
    }
    uint32_t number = (uint32_t)(physical >> PAGE_SHIFT);
    struct page_frame *frame = &frame_table[number];
    uint8_t *piece = phys_to_virt(physical);

    if (CONFIG_DEBUG) { /* all at once: a lock is held */
        memset(piece, POISON, PAGE_SIZE);
    }
    for (unsigned i = 1; i <= pieces(class); i++) {
        *piece = (uint8_t)i;
        piece += 64u << class;
    }
    frame->kind = FRAME_SLAB;
    frame->order = (uint8_t) class;
    frame->first = 0;
    frame->room = (uint8_t)pieces(class);
    frame_list_push(&quota->slabs[class], number);
    return number;
}

static void *slab_take(struct quota *quota, unsigned class)
{
    uint32_t number = quota->slabs[class];

    if (number == 0) {
        number = slab_create(quota, class);
        if (number == 0) {
            return NULL;
        }
    }
    struct page_frame *frame = &frame_table[number];
    uint8_t *page = phys_to_virt((uint64_t)number << PAGE_SHIFT);
    uint8_t *piece = page + ((unsigned)frame->first << (SMALLEST_SHIFT + class));

    frame->first = *piece;
    if (--frame->room == 0) {
        frame_list_remove(&quota->slabs[class], number);
    }
    return piece;
}

void *kmem_alloc(struct quota *quota, size_t size)
{
    if (size > LARGEST_SMALL) {
        uint64_t physical = frame_alloc(quota, order_of(size));

        return physical == 0 ? NULL : phys_to_virt(physical);
    }
    unsigned class = class_of(size);

    lock_acquire(&quota->slab_lock);
    void *piece = slab_take(quota, class);

    lock_release(&quota->slab_lock);
    if (piece == NULL) {
        return NULL;
    }
    check_poison(piece, class);
    return memset(piece, 0, 64u << class);
}

/* Is the piece in the chain of free ones? Only debug builds ask. */
__attribute__((unused)) static bool is_free(const struct page_frame *frame, const uint8_t *page,
                                            unsigned piece)
{
    unsigned at = frame->first;

    for (unsigned i = 0; i < frame->room; i++) {
        if (at == piece) {
            return true;
        }
        at = page[at << (SMALLEST_SHIFT + frame->order)];
    }
    return false;
}

void kmem_free(struct quota *quota, void *memory, size_t size)
{
    uint64_t physical = virt_to_phys(memory);

    if (size > LARGEST_SMALL) {
        frame_free(quota, physical, order_of(size));
        return;
    }
    unsigned class = class_of(size);
    struct page_frame *frame = frame_at(physical);
    uint32_t number = (uint32_t)(physical >> PAGE_SHIFT);

    if (frame->kind != FRAME_SLAB || frame->order != class) {
        panic("%zu bytes at %p given back: its frame is of kind %u, order %u", size, memory,
              frame->kind, frame->order);
    }
    unsigned index = (physical & (PAGE_SIZE - 1)) >> (SMALLEST_SHIFT + class);

    lock_acquire(&quota->slab_lock);
    KASSERT(
        !is_free(frame, (uint8_t *)memory - ((size_t)index << (SMALLEST_SHIFT + class)), index));
    poison(memory, class);
    *(uint8_t *)memory = frame->first;
    frame->first = (uint8_t)index;
    if (frame->room++ == 0) {
        frame_list_push(&quota->slabs[class], number);
    }
    bool empty = frame->room == pieces(class);

    if (empty) {
        frame_list_remove(&quota->slabs[class], number);
    }
    lock_release(&quota->slab_lock);
    if (empty) {
        frame_free(quota, physical & ~(uint64_t)(PAGE_SIZE - 1), 0);
    }
}
