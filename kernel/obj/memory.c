/* SPDX-License-Identifier: MIT */
/* Memory objects and their frames; what is mapped where is mapping.c's. */
#include "kernel/obj/memory.h"

#include "kernel/lib/string.h"
#include "kernel/mm/frames.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/endpoint.h"
#include "kernel/obj/quota.h"
#include "kernel/syscall.h"

/* A capability's part of its object, in its badge: count of pages below, first page above. */
#define SLICE_COUNT_BITS 24
#define SLICE_COUNT_MAX  ((1ULL << SLICE_COUNT_BITS) - 1)

#define LARGE_ORDER 9
#define LARGE_ENTRY (PTE_PRESENT | PTE_LARGE)

static bool owns_frames(const struct memory *memory)
{
    return memory->kind == MEMORY_ANONYMOUS || memory->kind == MEMORY_PAGED;
}

static unsigned levels_for(uint64_t bytes)
{
    unsigned levels = bytes > PAGE_SIZE; /* one page needs no table */

    while (levels > 0 && level_size(levels + 1) <= bytes) {
        levels++; /* also for one large page, which is an entry of level 2 */
    }
    return levels;
}

struct memory *memory_new(struct quota *quota, enum memory_kind kind, uint64_t bytes)
{
    struct memory *memory = kmem_alloc(quota, sizeof(*memory));

    if (memory == NULL) {
        return NULL;
    }
    object_init(&memory->object, OBJ_MEMORY, quota);
    memory->kind = (uint8_t)kind;
    memory->bytes = bytes;
    memory->frames.quota = quota;
    if (owns_frames(memory)) {
        memory->frames.levels = levels_for(bytes);
    }
    if (memory->frames.levels > 0) {
        memory->frames.root = frame_alloc(quota, 0);
        if (memory->frames.root == 0) {
            object_unref(&memory->object);
            return NULL;
        }
    }
    return memory;
}

bool memory_put_frame(struct memory *memory, uint64_t offset, uint64_t frame)
{
    if (memory->frames.levels == 0) {
        memory->frames.root = frame;
        return true;
    }
    return page_set(&memory->frames, offset, 1, frame | PTE_PRESENT);
}

/* A whole large page at once, still to be zeroed; false if none is to be had. */
static bool put_large(struct memory *memory, uint64_t offset)
{
    if (offset % LARGE_PAGE_SIZE != 0 || memory->bytes - offset < LARGE_PAGE_SIZE) {
        return false;
    }
    uint64_t block = frame_alloc_dirty(memory->object.quota, LARGE_ORDER);

    if (block == 0) {
        return false;
    }
    if (!page_set(&memory->frames, offset, 2, block | LARGE_ENTRY)) {
        frame_free(memory->object.quota, block, LARGE_ORDER);
        return false;
    }
    return true;
}

bool memory_fill_some(struct memory *memory)
{
    uint64_t offset = memory->filled;
    bool large;

    put_large(memory, offset);
    uint64_t page = memory_page(memory, offset, &large);

    if (page != 0) { /* part of a large page */
        memset(phys_to_virt(page), 0, PAGE_SIZE);
    } else {
        page = frame_alloc(memory->object.quota, 0);
        if (page == 0) {
            return false;
        }
        if (!memory_put_frame(memory, offset, page)) {
            frame_free(memory->object.quota, page, 0);
            return false;
        }
    }
    memory->filled += PAGE_SIZE;
    return true;
}

uint64_t memory_page(const struct memory *memory, uint64_t offset, bool *large)
{
    *large = false;
    if (!owns_frames(memory)) {
        uint64_t page = memory->base + offset;

        *large = page % LARGE_PAGE_SIZE == 0 && memory->bytes - offset >= LARGE_PAGE_SIZE;
        return page;
    }
    if (memory->frames.levels == 0) {
        return memory->frames.root;
    }
    unsigned level;
    uint64_t entry = *page_find(&memory->frames, offset, &level);

    if (level == 1 || entry == 0) {
        return entry & PTE_ADDRESS;
    }
    *large = offset % LARGE_PAGE_SIZE == 0;
    return (entry & PTE_ADDRESS) + offset % LARGE_PAGE_SIZE;
}

/* --- parts of objects --- */

void memory_cap_range(const struct cap *cap, uint64_t *first, uint64_t *bytes)
{
    *first = cap->badge >> SLICE_COUNT_BITS << PAGE_SHIFT;
    *bytes = (cap->badge & SLICE_COUNT_MAX) << PAGE_SHIFT;
    if (cap->badge == 0) {
        *bytes = ((const struct memory *)cap->object)->bytes;
    }
}

int64_t memory_slice(struct thread *self, struct cap *cap, uint64_t first, uint64_t count)
{
    uint64_t start, bytes;
    cap_t handle;

    memory_cap_range(cap, &start, &bytes);
    if (first % PAGE_SIZE != 0 || count % PAGE_SIZE != 0 || count == 0 || first > bytes ||
        count > bytes - first || count >> PAGE_SHIFT > SLICE_COUNT_MAX) {
        return E_INVAL;
    }
    uint64_t badge = (start + first) >> PAGE_SHIFT << SLICE_COUNT_BITS | count >> PAGE_SHIFT;
    int error = cap_insert(self->space, cap->object, cap->rights, badge, cap, ARG0(self), &handle);

    if (!error) {
        self->frame.rdx = handle;
    }
    return error;
}

/* --- the end --- */

/* Give the frames of one entry back, or pass over a hole; with them the tables that become empty. */
static void free_some(struct memory *memory)
{
    struct page_table *table = &memory->frames;
    uint64_t frames[TABLE_LEVELS - 1];
    unsigned level;
    uint64_t entry = *page_find(table, memory->freed, &level);
    uint64_t next = page_clear_some(table, memory->freed, memory->bytes, 1);
    unsigned count = page_detach(table, memory->freed, frames);

    if (entry != 0) {
        frame_free(table->quota, entry & PTE_ADDRESS, level == 1 ? 0 : LARGE_ORDER);
    }
    while (count > 0) {
        frame_free(table->quota, frames[--count], 0);
    }
    memory->freed = next;
}

/* With the last capability the last mapping has gone, so no TLB knows any of the frames. */
bool memory_destroy(struct core *core, struct thread *self, struct object *object)
{
    struct memory *memory = (struct memory *)object;

    (void)self;
    if (memory->pager != NULL) {
        object_unref(&memory->pager->object);
        memory->pager = NULL;
    }
    while (memory->frames.levels > 0 && memory->freed < memory->bytes) {
        free_some(memory);
        if (preemption_wanted(core)) {
            return false;
        }
    }
    memory_free(object);
    return true;
}

/* Of an object that never became visible only this much is there. */
void memory_free(struct object *object)
{
    struct memory *memory = (struct memory *)object;

    if (memory->frames.root != 0) {
        frame_free(memory->frames.quota, memory->frames.root, 0);
        memory->frames.root = 0;
        memory->frames.levels = 0;
    }
}
