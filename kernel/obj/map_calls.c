/* SPDX-License-Identifier: MIT */
/* The system calls that change what is mapped where. */
#include "kernel/obj/cap.h"
#include "kernel/obj/mapping.h"
#include "kernel/syscall.h"

#define MAP_FLAGS (MAP_RIGHTS | MAP_UNCACHED | MAP_LARGE)
#define PAGE_MASK ((uint64_t)PAGE_SIZE - 1)

/* Argument 0, a space that may be mapped into; on failure *error says why. */
static struct space *argument_space(const struct thread *self, int64_t *error)
{
    struct space *space = NULL;

    if (self->space != NULL) { /* else it is ending, in a continuation */
        space = cap_object(self->space, ARG0(self), RIGHT_SPACE_MAP);
        *error = space == NULL ? cap_error(self->space, ARG0(self), OBJ_SPACE) : E_OK;
    } else {
        *error = E_DEAD;
    }
    if (space != NULL && space->object.dying) {
        *error = E_DEAD;
        space = NULL;
    }
    return space;
}

static void finish(struct thread *self, int64_t result)
{
    if (result != BLOCKED) {
        self->frame.rax = (uint64_t)result;
    }
}

/* --- map: words[0] is the address that has been reached --- */

static void fill_continue(struct core *core, struct thread *self);
static void undo_continue(struct core *core, struct thread *self);

/* One step of it; false = nothing of ours is left. Others may have unmapped some, and mapped theirs there. */
static bool undo_step(struct space *space, struct thread *self)
{
    uint64_t end = (ARG2(self) & ~PAGE_MASK) + ARG3(self);

    lock_acquire(&space->object.lock);
    struct mapping *mapping = mapping_from(space, self->words[0]);
    bool more = mapping != NULL && mapping->node.key < end;

    if (more && mapping->maker == self) {
        mapping_cut_some(mapping, USER_END);
    } else if (more) {
        self->words[0] = mapping->node.key + mapping->bytes;
    }
    lock_release(&space->object.lock);
    return more;
}

/* Memory for page tables ran out: what we have mapped goes again. */
static int64_t undo(struct core *core, struct thread *self)
{
    int64_t error;
    struct space *space = argument_space(self, &error);

    while (space != NULL && undo_step(space, self)) {
        if (preemption_wanted(core)) {
            return continue_with(self, undo_continue);
        }
    }
    return E_NOMEM;
}

static void undo_continue(struct core *core, struct thread *self)
{
    finish(self, undo(core, self));
}

/* One step; false = no memory. *more says whether there is more to do. */
static bool fill_step(struct space *space, struct thread *self, bool *more)
{
    uint64_t end = (ARG2(self) & ~PAGE_MASK) + ARG3(self);
    bool filled = true;

    lock_acquire(&space->object.lock);
    struct mapping *mapping = mapping_from(space, self->words[0]);

    *more = mapping != NULL && mapping->maker == self && mapping->node.key <= self->words[0];
    if (*more) {
        filled = mapping_fill_some(mapping, &self->words[0]);
        *more = self->words[0] < end; /* another piece, if somebody has split it */
    }
    lock_release(&space->object.lock);
    return filled;
}

static int64_t fill(struct core *core, struct thread *self)
{
    int64_t error;
    struct space *space = argument_space(self, &error);
    bool more = true;

    if (space == NULL) {
        return error;
    }
    while (more) {
        if (!fill_step(space, self, &more)) {
            self->words[0] = ARG2(self) & ~PAGE_MASK;
            return undo(core, self);
        }
        if (more && preemption_wanted(core)) {
            return continue_with(self, fill_continue);
        }
    }
    return E_OK;
}

static void fill_continue(struct core *core, struct thread *self)
{
    finish(self, fill(core, self));
}

int64_t sys_map(struct core *core, struct thread *self)
{
    int64_t error;
    struct space *space = argument_space(self, &error);
    struct cap *cap = cap_find(self->space, ARG1(self), RIGHT_MEMORY_READ);
    uint64_t flags = ARG2(self) & PAGE_MASK;
    struct map_request request = {
        .handle = ARG1(self),
        .address = ARG2(self) & ~PAGE_MASK,
        .bytes = ARG3(self),
        .offset = ARG4(self),
        .flags = (uint8_t)flags,
        .maker = self,
    };

    if (space == NULL) {
        return error;
    }
    if (cap == NULL) {
        return cap_error(self->space, ARG1(self), OBJ_MEMORY);
    }
    if (cap->object->dying) {
        return E_DEAD;
    }
    if (flags & ~(uint64_t)MAP_FLAGS || !map_flags_valid(flags) ||
        !user_range(request.address, request.bytes)) {
        return E_INVAL;
    }
    error = mapping_add(space, cap, &request);
    if (error) {
        return error;
    }
    self->words[0] = request.address;
    /* The mapping may have needed a fresh page, and its first table may too. */
    if (preemption_wanted(core)) {
        return continue_with(self, fill_continue);
    }
    return fill(core, self);
}

/* --- unmap: what is done is no longer there, so it can be looked for again from the start --- */

static void unmap_continue(struct core *core, struct thread *self);

/* The first mapping from an address on, but for one that begins below: that was mapped since the split. */
static struct mapping *mapping_at_or_above(const struct space *space, uint64_t address)
{
    struct mapping *mapping = mapping_from(space, address);

    if (mapping != NULL && mapping->node.key < address) {
        mapping = mapping_from(space, mapping->node.key + mapping->bytes);
    }
    return mapping;
}

/* Does it end within a range? Else it was mapped since the split, too. */
static bool ends_by(const struct mapping *mapping, uint64_t end)
{
    return mapping != NULL && mapping->node.key + mapping->bytes <= end;
}

static int64_t unmap(struct core *core, struct thread *self)
{
    int64_t error;
    struct space *space = argument_space(self, &error);
    uint64_t end = ARG1(self) + ARG2(self);
    bool more = space != NULL;

    while (more) {
        lock_acquire(&space->object.lock);
        struct mapping *mapping = mapping_at_or_above(space, ARG1(self));

        more = ends_by(mapping, end);
        if (more) {
            mapping_cut_some(mapping, end);
        }
        lock_release(&space->object.lock);
        if (more && preemption_wanted(core)) {
            return continue_with(self, unmap_continue);
        }
    }
    return error;
}

static void unmap_continue(struct core *core, struct thread *self)
{
    finish(self, unmap(core, self));
}

int64_t sys_unmap(struct core *core, struct thread *self)
{
    int64_t error;
    struct space *space = argument_space(self, &error);

    if (space == NULL) {
        return error;
    }
    if (!user_range(ARG1(self), ARG2(self))) {
        return E_INVAL;
    }
    if (!mapping_split(space, ARG1(self), ARG1(self) + ARG2(self))) {
        return E_NOMEM;
    }
    return unmap(core, self);
}

/* --- protect: words[0] is the address that has been reached --- */

static void protect_continue(struct core *core, struct thread *self);

/*
 * The mapping at words[0]. In the middle of one whose flags are others than ours, somebody has changed
 * or mapped it since we were at its start: it is his, and we go on behind it.
 */
static struct mapping *to_protect(const struct space *space, struct thread *self, uint8_t flags)
{
    struct mapping *mapping = mapping_from(space, self->words[0]);

    if (mapping != NULL && mapping->node.key < self->words[0] &&
        (mapping->flags & MAP_RIGHTS) != flags) {
        mapping = mapping_at_or_above(space, self->words[0]);
    }
    return ends_by(mapping, ARG1(self) + ARG2(self)) ? mapping : NULL;
}

/* One step from words[0] on; *more says whether there is more to do. */
static int64_t protect_step(struct space *space, struct thread *self, bool *more)
{
    uint8_t flags = (uint8_t)ARG3(self);
    struct page_table table = space_table(space);
    struct mapping *mapping = to_protect(space, self, flags);

    *more = mapping != NULL;
    if (!*more) {
        return E_OK;
    }
    if (flags & ~mapping->allowed) {
        return E_RIGHTS;
    }
    mapping->flags = (mapping->flags & ~MAP_RIGHTS) | flags;
    uint64_t at = self->words[0] > mapping->node.key ? self->words[0] : mapping->node.key;

    self->words[0] = page_protect_some(&table, at, mapping->node.key + mapping->bytes, MAPPING_STEP,
                                       mapping_rights(mapping) & (PTE_WRITE | PTE_NX));
    tlb_invalidate(space, at, (self->words[0] - at) / PAGE_SIZE);
    return E_OK;
}

static int64_t protect(struct core *core, struct thread *self)
{
    int64_t error;
    struct space *space = argument_space(self, &error);
    bool more = space != NULL;

    while (more) {
        lock_acquire(&space->object.lock);
        error = protect_step(space, self, &more);
        lock_release(&space->object.lock);
        if (error) {
            return error;
        }
        if (more && preemption_wanted(core)) {
            return continue_with(self, protect_continue);
        }
    }
    return error;
}

static void protect_continue(struct core *core, struct thread *self)
{
    finish(self, protect(core, self));
}

int64_t sys_protect(struct core *core, struct thread *self)
{
    int64_t error;
    struct space *space = argument_space(self, &error);
    uint64_t flags = ARG3(self);

    if (flags & ~(uint64_t)MAP_RIGHTS || !map_flags_valid(flags) ||
        !user_range(ARG1(self), ARG2(self))) {
        return E_INVAL;
    }
    if (space == NULL) {
        return error;
    }
    if (!mapping_split(space, ARG1(self), ARG1(self) + ARG2(self))) {
        return E_NOMEM;
    }
    self->words[0] = ARG1(self);
    return protect(core, self);
}
