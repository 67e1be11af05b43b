/* SPDX-License-Identifier: MIT */
/* The system calls on memory objects: create, and the pager's supply. */
#include "kernel/lib/string.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/endpoint.h"
#include "kernel/obj/memory.h"
#include "kernel/obj/quota.h"
#include "kernel/syscall.h"

static void create_continue(struct core *core, struct thread *self);

/* No memory for all of it: nothing stays. */
static int64_t give_up(struct core *core, struct thread *self, struct memory *memory,
                       struct cap *cap)
{
    object_end(self, &memory->object);
    cap_remove(core, self, cap, self->words[0]); /* has no mappings, so one call does it */
    self->frame.rdx = 0;
    return reap(core, self, E_NOMEM);
}

/* The object's capability (words[0]) is there from the start, so that it has an owner if self ends. */
static int64_t fill(struct core *core, struct thread *self)
{
    struct cap *cap = self->space ? cap_find(self->space, self->words[0], RIGHT_MEMORY_READ) : NULL;

    if (cap == NULL || cap->object->dying) {
        return E_DEAD;
    }
    struct memory *memory = (struct memory *)cap->object;

    while (memory->kind == MEMORY_ANONYMOUS && memory->filled < memory->bytes) {
        if (!memory_fill_some(memory)) {
            return memory->object.dying ? E_DEAD : give_up(core, self, memory, cap);
        }
        if (preemption_wanted(core)) {
            return continue_with(self, create_continue);
        }
    }
    self->frame.rdx = self->words[0];
    return E_OK;
}

static void create_continue(struct core *core, struct thread *self)
{
    int64_t result = fill(core, self);

    if (result != BLOCKED) {
        self->frame.rax = (uint64_t)result;
    }
}

/* With a reference. */
static int64_t find_pager(struct thread *self, cap_t handle, struct cap **cap)
{
    *cap = NULL;
    if (handle == 0) {
        return E_OK;
    }
    *cap = cap_find(self->space, handle, RIGHT_ENDPOINT_SEND);
    if (*cap == NULL) {
        return cap_error(self->space, handle, OBJ_ENDPOINT);
    }
    return (*cap)->object->dying || !object_try_ref((*cap)->object) ? E_DEAD : E_OK;
}

/* Paged by `pager`, whose reference it takes, or else anonymous; NULL = no memory. */
static struct memory *create(struct quota *quota, uint64_t bytes, const struct cap *pager)
{
    struct memory *memory;

    if (pager == NULL && bytes > quota_free_bytes(quota)) {
        return NULL; /* known at once */
    }
    memory = memory_new(quota, pager ? MEMORY_PAGED : MEMORY_ANONYMOUS, bytes);
    if (memory != NULL && pager != NULL) {
        memory->pager_badge = pager->badge;
        memory->pager = (struct endpoint *)pager->object;
    } else if (pager != NULL) {
        object_unref(pager->object);
    }
    return memory;
}

int64_t sys_memory_create(struct core *core, struct thread *self)
{
    struct quota *quota = cap_object(self->space, ARG0(self), RIGHT_QUOTA_USE);
    uint64_t bytes = ARG1(self);
    struct cap *pager;

    if (quota == NULL) {
        return cap_error(self->space, ARG0(self), OBJ_QUOTA);
    }
    if (bytes == 0 || bytes > MEMORY_BYTES_MAX) {
        return E_INVAL;
    }
    int64_t error = find_pager(self, ARG2(self), &pager);

    if (error) {
        return error;
    }
    bytes = (bytes + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);
    struct memory *memory = create(quota, bytes, pager);

    if (memory == NULL) {
        return E_NOMEM;
    }
    error = cap_publish(self, &memory->object);
    if (error) {
        if (pager != NULL) {
            object_unref(pager->object); /* it has not been destroyed, only freed */
        }
        return error;
    }
    self->words[0] = self->frame.rdx;
    return fill(core, self);
}

/* --- the pager's side --- */

/*
 * Copy a page: of an object with RAM, inside what the capability names, and there. Under the object's
 * lock, so that it does not become somebody else's meanwhile.
 */
static int64_t copy_page(uint64_t frame, const struct cap *cap, uint64_t offset)
{
    struct memory *memory = (struct memory *)cap->object;
    int64_t error = E_OK;
    uint64_t first, bytes;

    memory_cap_range(cap, &first, &bytes);
    if (offset % PAGE_SIZE != 0 || offset >= bytes || memory->kind == MEMORY_DEVICE) {
        return E_INVAL;
    }
    lock_acquire(&memory->object.lock);
    uint64_t page = memory_page(memory, first + offset);

    if (page != 0) {
        memcpy(phys_to_virt(frame), phys_to_virt(page), PAGE_SIZE);
    } else {
        error = memory_refusal(memory);
    }
    lock_release(&memory->object.lock);
    return error;
}

/* Put the frame where nothing is yet. */
static int64_t supply(struct memory *memory, uint64_t offset, uint64_t frame)
{
    int64_t error = E_OK;

    lock_acquire(&memory->object.lock);
    if (memory->object.dying) {
        error = E_DEAD;
    } else if (memory_place(memory, offset) != 0) {
        error = E_BUSY;
    } else if (!memory_put_frame(memory, offset, frame)) {
        error = E_NOMEM;
    }
    lock_release(&memory->object.lock);
    return error;
}

int64_t sys_memory_supply(struct core *core, struct thread *self)
{
    struct cap *to = cap_find(self->space, ARG0(self), RIGHT_MEMORY_SUPPLY);
    struct cap *from = cap_find(self->space, ARG2(self), RIGHT_MEMORY_READ);
    uint64_t offset = ARG1(self);
    uint64_t first, bytes;

    (void)core;
    if (to == NULL || from == NULL) {
        return cap_error(self->space, to ? ARG2(self) : ARG0(self), OBJ_MEMORY);
    }
    struct memory *memory = (struct memory *)to->object;

    memory_cap_range(to, &first, &bytes);
    if (memory->kind != MEMORY_PAGED || offset % PAGE_SIZE != 0 || offset >= bytes) {
        return E_INVAL;
    }
    uint64_t frame = frame_alloc_dirty(memory->object.quota, 0);

    if (frame == 0) {
        return E_NOMEM;
    }
    int64_t error = copy_page(frame, from, ARG3(self));

    if (!error) {
        error = supply(memory, first + offset, frame);
    }
    if (error) {
        frame_free(memory->object.quota, frame, 0);
    }
    return error;
}
