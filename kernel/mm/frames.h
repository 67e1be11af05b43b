/* SPDX-License-Identifier: MIT */
/* The inside of kernel/mm: what is known of each physical frame. Everyone else uses kmem.h. */
#ifndef ONESTACK_MM_FRAMES_H
#define ONESTACK_MM_FRAMES_H

#include <stdint.h>

#include "kernel/arch/layout.h"
#include "kernel/lib/lock.h"
#include "kernel/mm/kmem.h"

enum frame_kind {
    FRAME_NONE = 0, /* not RAM, not ours, or in the middle of a block */
    FRAME_FREE,     /* first frame of a free block of 2^order */
    FRAME_USED,     /* first frame of a block in use */
    FRAME_MEMORY,   /* the same, as part of a memory object; mm/owner.c */
    FRAME_SLAB      /* in use for objects of 64 << order bytes */
};

/* 12 bytes a frame: 0.3 % of memory. */
struct page_frame {
    union {
        struct {
            uint32_t next, prev; /* frame numbers: free blocks, or slabs with room; 0 = none */
        };
        struct {
            uint32_t owner, page; /* MEMORY: which object, which page of it; the low halves */
        };
    };
    uint8_t kind;
    uint8_t order;
    union {
        struct {
            uint8_t first; /* slab: index of the first free object; the object holds the next */
            uint8_t room;  /* slab: free objects */
        };
        struct {
            uint8_t owner_high, page_high;
        };
        uint16_t entries; /* page table: entries that are not 0 */
    };
};

_Static_assert(sizeof(struct page_frame) == 12, "there is one for each 4 KiB");

#define FRAME_ORDERS 10 /* blocks of 2^0 .. 2^9 frames: up to a large page */

extern struct page_frame *frame_table;
extern uint32_t frame_count;

static inline struct page_frame *frame_at(uint64_t physical)
{
    return &frame_table[physical >> PAGE_SHIFT];
}

/* `table` is zeroed and has an entry for each frame below `count`. */
void frames_init(struct page_frame *table, uint32_t count);
/* Whole pages that are free from now on. */
void frames_add(uint64_t base, uint64_t bytes);
/* 2^order frames without charge; 0 = none. */
uint64_t frames_take(unsigned order);
void frames_give(uint64_t physical, unsigned order);

/*
 * Held by who looks at frames that may be anybody's: what is in use stays so meanwhile, as the one who
 * gives it back needs this lock. It also guards the entries of frames that nobody owns.
 */
extern struct free_frames {
    struct lock lock;
    uint32_t orders; /* bit n: list[n] is not empty */
    uint64_t count;
    uint32_t list[FRAME_ORDERS];
} free_frames;

/* Lists of frames by their `next` and `prev`. */
void frame_list_push(uint32_t *head, uint32_t number);
void frame_list_remove(uint32_t *head, uint32_t number);

#endif
