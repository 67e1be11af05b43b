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
#define FREE_STEP   4 /* frames between two looks for pending work */
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
    struct memory *memory = object_alloc(quota, sizeof(*memory));

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
    } else if (!page_set(&memory->frames, offset, 1, frame | PTE_PRESENT)) {
        return false;
    }
    frame_own(frame, memory, offset);
    return true;
}

/* The place of one page, or NULL where there is not even a table. */
static uint64_t *find_place(struct memory *memory, uint64_t offset)
{
    unsigned level = 1;
    uint64_t *place = &memory->frames.root;

    if (memory->frames.levels > 0) {
        place = page_find(&memory->frames, offset, &level);
    }
    return level == 1 ? place : NULL;
}

uint64_t memory_place(const struct memory *memory, uint64_t offset)
{
    const uint64_t *place = find_place((struct memory *)memory, offset);

    return place ? *place : 0;
}

void memory_mark(struct memory *memory, uint64_t offset, uint64_t mark)
{
    uint64_t *place = find_place(memory, offset);

    *place = (*place & ~(PAGE_LEAVING | PAGE_LEFT)) | mark;
}

uint64_t memory_take_frame(struct memory *memory, uint64_t offset)
{
    uint64_t frame;

    if (memory->frames.levels == 0) {
        frame = memory->frames.root;
        memory->frames.root = 0;
    } else {
        frame = page_take(find_place(memory, offset));
        page_give_back(&memory->frames, offset);
    }
    return frame & PTE_ADDRESS;
}

/* A whole large page at once, still to be zeroed; its entry, or NULL if none is to be had. */
static uint64_t *put_large(struct memory *memory, uint64_t offset)
{
    if (offset % LARGE_PAGE_SIZE != 0 || memory->bytes - offset < LARGE_PAGE_SIZE) {
        return NULL;
    }
    uint64_t block = frame_alloc_dirty(memory->object.quota, LARGE_ORDER);

    if (block == 0) {
        return NULL;
    }
    uint64_t *entry = page_reach(&memory->frames, offset, 2, NULL);

    if (entry == NULL) {
        frame_free(memory->object.quota, block, LARGE_ORDER);
        return NULL;
    }
    page_write(entry, block | LARGE_ENTRY);
    frame_own(block, memory, offset);
    return entry;
}

static void zero_part(uint64_t large_entry, uint64_t offset)
{
    uint64_t page = (large_entry & PTE_ADDRESS) + offset % LARGE_PAGE_SIZE;

    memset(phys_to_virt(page), 0, PAGE_SIZE);
}

/* The next page of a tree of frames: part of a large one, if there is or can be one, or by itself. */
static bool fill_tree(struct memory *memory, uint64_t offset)
{
    unsigned level = 2;
    uint64_t *entry = put_large(memory, offset);

    if (entry == NULL) {
        entry = page_reach(&memory->frames, offset, 1, &level);
    }
    if (entry == NULL) {
        return false;
    }
    if (level > 1) {
        zero_part(*entry, offset);
        return true;
    }
    uint64_t page = frame_alloc(memory->object.quota, 0);

    if (page != 0) {
        page_write(entry, page | PTE_PRESENT);
        frame_own(page, memory, offset);
    }
    return page != 0;
}

/* The only page of an object. */
static bool fill_root(struct memory *memory)
{
    memory->frames.root = frame_alloc(memory->object.quota, 0);
    if (memory->frames.root != 0) {
        frame_own(memory->frames.root, memory, 0);
    }
    return memory->frames.root != 0;
}

bool memory_fill_some(struct memory *memory)
{
    bool filled = false;

    lock_acquire(&memory->object.lock);
    if (!memory->object.dying) {
        filled = memory->frames.levels > 0 ? fill_tree(memory, memory->filled) : fill_root(memory);
    }
    if (filled) {
        memory->filled += PAGE_SIZE;
    }
    lock_release(&memory->object.lock);
    return filled;
}

/* In a tree of frames. */
static struct memory_run find_run(const struct memory *memory, uint64_t offset)
{
    unsigned level;
    const uint64_t *entry = page_find(&memory->frames, offset, &level);
    uint64_t skip = offset % LARGE_PAGE_SIZE;
    struct memory_run run = {.pages = (LARGE_PAGE_SIZE - skip) / PAGE_SIZE};

    if (*entry == 0) {
        run.pages = 0;
    } else if (level == 1) {
        run.entries = entry;
    } else {
        run.page = (*entry & PTE_ADDRESS) + skip;
        run.large = skip == 0;
    }
    return run;
}

struct memory_run memory_run(const struct memory *memory, uint64_t offset)
{
    uint64_t left = (memory->bytes - offset) / PAGE_SIZE;
    struct memory_run run = {.pages = left};

    if (!owns_frames(memory)) {
        run.page = memory->base + offset;
        run.large = run.page % LARGE_PAGE_SIZE == 0 && left >= LARGE_PAGE_SIZE / PAGE_SIZE;
    } else if (memory->frames.levels == 0) {
        run.entries = &memory->frames.root;
        run.pages = *run.entries != 0;
    } else {
        run = find_run(memory, offset);
        run.pages = run.pages < left ? run.pages : left;
    }
    return run;
}

uint64_t memory_page(const struct memory *memory, uint64_t offset)
{
    /* The one is memory_destroy()'s alone, the other may still show what was somebody else's. */
    if (memory->object.dying || (memory->kind == MEMORY_ANONYMOUS && offset >= memory->filled)) {
        return 0;
    }
    struct memory_run run = memory_run(memory, offset);

    if (run.pages == 0 || (run.entries != NULL && *run.entries & (PAGE_LEAVING | PAGE_LEFT))) {
        return 0;
    }
    return run.entries != NULL ? *run.entries & PTE_ADDRESS : run.page;
}

uint64_t memory_page_now(struct memory *memory, uint64_t offset)
{
    lock_acquire(&memory->object.lock);
    uint64_t page = memory_page(memory, offset);

    lock_release(&memory->object.lock);
    return page;
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

/* Give some frames back, or pass over a hole; with them the tables that become empty. */
static void free_some(struct memory *memory)
{
    struct page_table *table = &memory->frames;
    uint64_t from = memory->freed;
    unsigned level, count = 0;
    uint64_t *entry = page_find(table, from, &level);

    do {
        uint64_t value = page_take(entry++);

        if (value != 0) {
            frame_free(table->quota, value & PTE_ADDRESS, level == 1 ? 0 : LARGE_ORDER);
        }
        memory->freed = page_next(memory->freed, memory->bytes, level);
    } while (level == 1 && ++count < FREE_STEP && memory->freed < memory->bytes &&
             memory->freed % LARGE_PAGE_SIZE != 0);
    page_give_back(table, from);
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
        frame_free(memory->frames.quota, memory->frames.root & PTE_ADDRESS, 0);
        memory->frames.root = 0;
        memory->frames.levels = 0;
    }
}
