/* SPDX-License-Identifier: MIT */
/*
 * A pager takes a page back. First nobody finds it in the object any more (PAGE_LEAVING), then each
 * mapping of the object is visited and forgets it, with a preemption point after each few; then no
 * TLB and no copy knows it (PAGE_LEFT), and whoever asked gets the content and the account the frame.
 *
 * One page of an object leaves at a time, and how far it has come stands in the object, not in the
 * thread: who finds another page leaving helps, so nobody waits for a thread that may have ended.
 */
#include "kernel/lib/string.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/mapping.h"
#include "kernel/syscall.h"

#define LOOKS 32 /* mappings passed over in one go */

/* The next mapping that shows the page, with a reference to its space; false: there is none. */
static bool find_mapping(struct memory *memory, struct mapping **mapping, struct space **space)
{
    *space = NULL;
    lock_acquire(&memory->object.lock);
    for (unsigned i = 0; i < LOOKS && memory->cursor && !*space; i++) {
        if (mapping_shows(memory->cursor, memory->leaving)) {
            *mapping = memory->cursor;
            *space = memory->cursor->space;
            object_ref(&(*space)->object); /* its mapping keeps it alive only so long */
        } else {
            memory->cursor = memory->cursor->memory_next;
        }
    }
    bool more = memory->cursor != NULL;

    if (!more && memory->walking && !memory->object.dying) {
        memory->walking = false;
        memory_mark(memory, memory->leaving, PAGE_LEFT);
    }
    lock_release(&memory->object.lock);
    return more;
}

/*
 * It may have gone meanwhile, or been visited by somebody else: then it is not the next one any more, or is
 * that of the next page's walk, which it may not show.
 */
static void visit(struct memory *memory, struct mapping *mapping, struct space *space)
{
    lock_acquire(&space->object.lock);
    lock_acquire(&memory->object.lock);
    uint64_t offset = memory->leaving;
    bool next = memory->walking && memory->cursor == mapping && mapping->space == space &&
                mapping_shows(mapping, offset);

    lock_release(&memory->object.lock);
    if (next) {
        mapping_forget(mapping, offset);
        lock_acquire(&memory->object.lock);
        if (memory->cursor == mapping) {
            memory->cursor = mapping->memory_next;
        }
        lock_release(&memory->object.lock);
    }
    lock_release(&space->object.lock);
}

/* One step of the walk that is under way; false: it has come to its end. */
static bool walk_some(struct memory *memory)
{
    struct mapping *mapping = NULL;
    struct space *space;
    bool more = find_mapping(memory, &mapping, &space);

    if (space) {
        visit(memory, mapping, space);
        object_unref(&space->object);
    }
    return more;
}

enum progress { MEMORY_ENDS, PAGE_ABSENT, PAGE_ON_ITS_WAY, PAGE_HAS_LEFT };

/*
 * Where the page has come to; begin with it if none is leaving. Of an object that ends, memory_destroy() has
 * all the frames, without a lock.
 */
static enum progress look(struct memory *memory, uint64_t offset)
{
    enum progress progress = PAGE_ON_ITS_WAY;

    lock_acquire(&memory->object.lock);
    bool ends = memory->object.dying;
    uint64_t page = ends ? 0 : memory_place(memory, offset);

    if (ends) {
        progress = MEMORY_ENDS;
    } else if (page == 0) {
        progress = PAGE_ABSENT;
    } else if (page & PAGE_LEFT) {
        progress = PAGE_HAS_LEFT;
    } else if (!memory->walking) {
        memory_mark(memory, offset, PAGE_LEAVING);
        memory->walking = true;
        memory->leaving = offset;
        memory->cursor = memory->mappings;
    }
    lock_release(&memory->object.lock);
    return progress;
}

/* --- its content, and its end --- */

struct target {
    struct memory *memory; /* NULL: the content is not wanted */
    uint64_t offset;
};

static void lock_both(struct memory *memory, const struct target *target)
{
    struct lock *first = &memory->object.lock, *second = first;

    if (target->memory && target->memory != memory) {
        second = &target->memory->object.lock;
    }
    if (first > second) {
        struct lock *higher = first;

        first = second;
        second = higher;
    }
    lock_acquire(first);
    if (first != second) {
        lock_acquire(second);
    }
}

static void release_both(struct memory *memory, const struct target *target)
{
    lock_release(&memory->object.lock);
    if (target->memory && target->memory != memory) {
        lock_release(&target->memory->object.lock);
    }
}

/* Both locks are held. What cannot be copied stays in the object, where the next miss finds it. */
static int64_t take(struct memory *memory, uint64_t offset, const struct target *target,
                    uint64_t *frame)
{
    uint64_t copy = target->memory ? memory_page(target->memory, target->offset) : 0;

    if (memory->object.dying || !(memory_place(memory, offset) & PAGE_LEFT)) {
        return E_AGAIN; /* somebody else was faster */
    }
    if (target->memory && copy == 0) {
        memory_mark(memory, offset, 0);
        return memory_refusal(target->memory);
    }
    *frame = memory_take_frame(memory, offset);
    if (copy) {
        memcpy(phys_to_virt(copy), phys_to_virt(*frame), PAGE_SIZE);
    }
    return E_OK;
}

static int64_t finish(struct memory *memory, uint64_t offset, const struct target *target)
{
    uint64_t frame;

    lock_both(memory, target);
    int64_t error = take(memory, offset, target, &frame);

    release_both(memory, target);
    if (!error) {
        frame_free(memory->frames.quota, frame, 0);
    }
    return error;
}

static int64_t reclaim(struct core *core, struct thread *self, struct memory *memory,
                       uint64_t offset, const struct target *target)
{
    int64_t result = E_AGAIN;

    while (result == E_AGAIN) {
        switch (look(memory, offset)) {
        case MEMORY_ENDS:
            return E_DEAD;
        case PAGE_ABSENT:
            return E_INVAL;
        case PAGE_HAS_LEFT:
            result = finish(memory, offset, target);
            break;
        default:
            walk_some(memory);
        }
        if (result == E_AGAIN && preemption_wanted(core)) {
            return continue_with(self, syscall_restart);
        }
    }
    return result;
}

/* Arguments 2 and 3: a page of RAM that the content shall go to. */
static int64_t find_target(const struct thread *self, struct target *target)
{
    const struct cap *cap;
    uint64_t first, bytes;

    *target = (struct target){0};
    if (ARG2(self) == 0) {
        return E_OK;
    }
    cap = cap_find(self->space, ARG2(self), RIGHT_MEMORY_WRITE);
    if (!cap) {
        return cap_error(self->space, ARG2(self), OBJ_MEMORY);
    }
    target->memory = (struct memory *)cap->object;
    memory_cap_range(cap, &first, &bytes);
    target->offset = first + ARG3(self);
    if (ARG3(self) % PAGE_SIZE != 0 || ARG3(self) >= bytes ||
        target->memory->kind == MEMORY_DEVICE) {
        return E_INVAL;
    }
    return memory_page_now(target->memory, target->offset) ? E_OK : memory_refusal(target->memory);
}

int64_t sys_memory_reclaim(struct core *core, struct thread *self)
{
    struct cap *from = cap_find(self->space, ARG0(self), RIGHT_MEMORY_SUPPLY);
    uint64_t offset = ARG1(self);
    struct target target;
    uint64_t first, bytes;

    if (!from) {
        return cap_error(self->space, ARG0(self), OBJ_MEMORY);
    }
    int64_t error = find_target(self, &target);
    struct memory *memory = (struct memory *)from->object;

    if (error) {
        return error;
    }
    memory_cap_range(from, &first, &bytes);
    if (memory->kind != MEMORY_PAGED || offset % PAGE_SIZE != 0 || offset >= bytes) {
        return E_INVAL;
    }
    return reclaim(core, self, memory, first + offset, &target);
}
