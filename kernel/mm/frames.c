/* SPDX-License-Identifier: MIT */
/*
 * Physical memory by buddies: a free block of 2^order frames is naturally aligned, and merges with
 * its neighbour of the same size when that is free too. A list and a bit for each order, so taking
 * and giving cost at most FRAME_ORDERS steps, whatever the size of the machine.
 */
#include "kernel/mm/frames.h"

#include "kernel/debug/panic.h"
#include "kernel/lib/cache_line.h"
#include "kernel/lib/string.h"
#include "kernel/obj/quota.h"

struct page_frame *frame_table;
uint32_t frame_count;

struct free_frames free_frames SHARED = {.lock.rank = RANK_FRAMES};

void frame_list_push(uint32_t *head, uint32_t number)
{
    struct page_frame *frame = &frame_table[number];

    frame->prev = 0;
    frame->next = *head;
    if (*head != 0) {
        frame_table[*head].prev = number;
    }
    *head = number;
}

void frame_list_remove(uint32_t *head, uint32_t number)
{
    struct page_frame *frame = &frame_table[number];

    if (frame->prev != 0) {
        frame_table[frame->prev].next = frame->next;
    } else {
        *head = frame->next;
    }
    if (frame->next != 0) {
        frame_table[frame->next].prev = frame->prev;
    }
}

static void block_push(uint32_t number, unsigned order)
{
    frame_table[number].kind = FRAME_FREE;
    frame_table[number].order = (uint8_t)order;
    frame_list_push(&free_frames.list[order], number);
    free_frames.orders |= 1u << order;
}

static void block_remove(uint32_t number, unsigned order)
{
    frame_table[number].kind = FRAME_NONE;
    frame_list_remove(&free_frames.list[order], number);
    if (free_frames.list[order] == 0) {
        free_frames.orders &= ~(1u << order);
    }
}

void frames_init(struct page_frame *table, uint32_t count)
{
    frame_table = table;
    frame_count = count;
}

/* Put a block back, merged as far as its neighbours allow. */
static void block_give(uint32_t number, unsigned order)
{
    free_frames.count += 1u << order;
    while (order < FRAME_ORDERS - 1) {
        uint32_t buddy = number ^ 1u << order;

        if (buddy >= frame_count || frame_table[buddy].kind != FRAME_FREE ||
            frame_table[buddy].order != order) {
            break;
        }
        block_remove(buddy, order);
        number &= ~(1u << order);
        order++;
    }
    block_push(number, order);
}

void frames_add(uint64_t base, uint64_t bytes)
{
    uint32_t number = (uint32_t)(base >> PAGE_SHIFT);
    uint32_t left = (uint32_t)(bytes >> PAGE_SHIFT);

    lock_acquire(&free_frames.lock);
    while (left > 0) {
        unsigned order = FRAME_ORDERS - 1;

        while ((number & ((1u << order) - 1)) != 0 || 1u << order > left) {
            order--;
        }
        block_give(number, order);
        number += 1u << order;
        left -= 1u << order;
    }
    lock_release(&free_frames.lock);
}

uint64_t frames_take(unsigned order)
{
    uint32_t number = 0;

    lock_acquire(&free_frames.lock);
    uint32_t large_enough = free_frames.orders >> order << order;

    if (large_enough != 0) {
        unsigned found = (unsigned)__builtin_ctz(large_enough);

        number = free_frames.list[found];
        block_remove(number, found);
        while (found > order) { /* the upper half goes back */
            found--;
            block_push(number + (1u << found), found);
        }
        frame_table[number].kind = FRAME_USED;
        frame_table[number].order = (uint8_t)order;
        frame_table[number].entries = 0;
        free_frames.count -= 1u << order;
    }
    lock_release(&free_frames.lock);
    return (uint64_t)number << PAGE_SHIFT;
}

void frames_give(uint64_t physical, unsigned order)
{
    uint32_t number = (uint32_t)(physical >> PAGE_SHIFT);
    struct page_frame *frame = &frame_table[number];

    if (frame->kind < FRAME_USED || (frame->kind != FRAME_SLAB && frame->order != order)) {
        panic("frame 0x%lx of order %u given back: it is of kind %u, order %u", physical, order,
              frame->kind, frame->order);
    }
    lock_acquire(&free_frames.lock);
    frame->kind = FRAME_NONE;
    block_give(number, order);
    lock_release(&free_frames.lock);
}

uint64_t frame_alloc_dirty(struct quota *quota, unsigned order)
{
    uint64_t bytes = (uint64_t)PAGE_SIZE << order;

    if (!quota_charge(quota, bytes)) {
        return 0;
    }
    uint64_t physical = frames_take(order);

    if (physical == 0) {
        quota_refund(quota, bytes);
    }
    return physical;
}

uint64_t frame_alloc(struct quota *quota, unsigned order)
{
    uint64_t physical = frame_alloc_dirty(quota, order);

    if (physical != 0) {
        memset(phys_to_virt(physical), 0, (uint64_t)PAGE_SIZE << order);
    }
    return physical;
}

void frame_free(struct quota *quota, uint64_t physical, unsigned order)
{
    frames_give(physical, order);
    quota_refund(quota, (uint64_t)PAGE_SIZE << order);
}

uint64_t mm_free_bytes(void)
{
    return __atomic_load_n(&free_frames.count, __ATOMIC_RELAXED) << PAGE_SHIFT;
}
