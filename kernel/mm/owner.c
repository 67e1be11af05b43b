/* SPDX-License-Identifier: MIT */
/*
 * From a physical address to the memory object that it belongs to, for machine checks. 40 bits each
 * are enough for both: an object is aligned to 128 bytes of at most 2^46, and page numbers have 35.
 */
#include "kernel/mm/frames.h"

#define OWNER_SHIFT 7

_Static_assert(DIRECT_MAP_SIZE >> OWNER_SHIFT <= 1UL << 40, "owner and owner_high");

void frame_own(uint64_t physical, const struct memory *memory, uint64_t offset)
{
    struct page_frame *frame = frame_at(physical);
    uint64_t owner = virt_to_phys(memory) >> OWNER_SHIFT, page = offset >> PAGE_SHIFT;

    frame->owner = (uint32_t)owner;
    frame->owner_high = (uint8_t)(owner >> 32);
    frame->page = (uint32_t)page;
    frame->page_high = (uint8_t)(page >> 32);
    __atomic_store_n(&frame->kind, FRAME_MEMORY, __ATOMIC_RELEASE);
}

/* The lock is held: the first frame of the block that a frame lies in, if it lies in one. */
static const struct page_frame *block_of(uint64_t number)
{
    const struct page_frame *frame = &frame_table[number];

    for (unsigned order = 1;
         order < FRAME_ORDERS && __atomic_load_n(&frame->kind, __ATOMIC_ACQUIRE) == FRAME_NONE;
         order++) {
        frame = &frame_table[number & ~((1UL << order) - 1)];
    }
    return frame;
}

struct memory *frame_owner(uint64_t physical, uint64_t *offset)
{
    struct memory *memory = NULL;

    if (physical >> PAGE_SHIFT >= frame_count) {
        return NULL;
    }
    lock_acquire(&free_frames.lock);
    const struct page_frame *frame = block_of(physical >> PAGE_SHIFT);

    uint64_t inside = physical - ((uint64_t)(frame - frame_table) << PAGE_SHIFT);

    if (frame->kind == FRAME_MEMORY && inside >> PAGE_SHIFT < 1UL << frame->order) {
        uint64_t owner = (uint64_t)frame->owner_high << 32 | frame->owner;
        uint64_t page = (uint64_t)frame->page_high << 32 | frame->page;

        memory = phys_to_virt(owner << OWNER_SHIFT);
        *offset = (page << PAGE_SHIFT) + inside;
    }
    lock_release(&free_frames.lock);
    return memory;
}
