/* SPDX-License-Identifier: MIT */
#include "kernel/obj/space.h"

#include "kernel/arch/paging.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/endpoint.h"
#include "kernel/obj/mapping.h"
#include "kernel/obj/notification.h"
#include "kernel/obj/quota.h"
#include "kernel/obj/window.h"
#include "kernel/syscall.h"

/* The CPU's error code of a page fault (Intel SDM vol. 3, 4.7). */
#define FAULT_WRITE    0x02
#define FAULT_RESERVED 0x08
#define FAULT_FETCH    0x10

struct space *space_new(struct quota *quota, struct quota *account)
{
    struct space *space = object_alloc(quota, sizeof(*space));

    if (space == NULL) {
        return NULL;
    }
    object_init(&space->object, OBJ_SPACE, quota);
    if (!object_try_ref(&account->object)) {
        object_unref(&space->object);
        return NULL;
    }
    space->account = account;
    space->cap_lock.rank = RANK_CAPS;
    space->cr3 = page_root_create(account);
    if (space->cr3 == 0 || !window_open(space)) {
        space_give_up(space);
        return NULL;
    }
    return space;
}

/* The end of both kinds of space: one that was never seen, and one that has been emptied. */
static void drop_account(struct space *space)
{
    if (space->caps != NULL) {
        window_close(space);
    }
    if (space->cr3 != 0) {
        frame_free(space->account, space->cr3, 0);
        space->cr3 = 0;
    }
    object_unref(&space->account->object);
    space->account = NULL;
}

void space_give_up(struct space *space)
{
    drop_account(space);
    object_unref(&space->object);
}

int64_t sys_space_create(struct core *core, struct thread *self)
{
    struct quota *quota = cap_object(self->space, ARG0(self), RIGHT_QUOTA_USE);
    cap_t account_handle = ARG1(self) ? ARG1(self) : ARG0(self);
    struct quota *account = cap_object(self->space, account_handle, RIGHT_QUOTA_USE);
    cap_t handle;

    (void)core;
    if (quota == NULL || account == NULL) {
        return cap_error(self->space, quota ? account_handle : ARG0(self), OBJ_QUOTA);
    }
    struct space *space = space_new(quota, account);

    if (space == NULL) {
        return E_NOMEM;
    }
    int error = cap_insert(self->space, &space->object, cap_type_rights(OBJ_SPACE), 0, NULL, 0,
                           &handle);

    if (error) {
        space_give_up(space);
        return error;
    }
    self->frame.rdx = handle;
    return E_OK;
}

int64_t space_map(struct space *space, struct cap *cap, uint64_t address, uint64_t bytes,
                  uint64_t offset, uint8_t flags)
{
    struct map_request request = {cap->handle, address, bytes, offset, flags, NULL};
    int64_t error = mapping_add(space, cap, &request);
    uint64_t reached = address;

    while (!error && reached < address + bytes) {
        if (!mapping_fill_some(mapping_from(space, reached), &reached)) {
            error = E_NOMEM;
        }
    }
    return error;
}

/* --- faults --- */

static bool access_allowed(const struct mapping *mapping, uint64_t error)
{
    return !(error & FAULT_RESERVED) && (!(error & FAULT_WRITE) || mapping->flags & MAP_WRITE) &&
           (!(error & FAULT_FETCH) || mapping->flags & MAP_EXECUTE);
}

/* Under the space's lock. */
static enum space_fault resolve(struct space *space, uint64_t address, uint64_t error,
                                struct memory **memory, uint64_t *offset)
{
    struct page_table table = space_table(space);
    struct mapping *mapping = mapping_from(space, address);

    if (mapping == NULL || address < mapping->node.key || !access_allowed(mapping, error)) {
        return SPACE_FAULT_NONE;
    }
    *offset = mapping->offset + (address - mapping->node.key);
    *memory = mapping->memory;
    uint64_t page = memory_page_now(mapping->memory, *offset);

    if (page == 0) {
        return mapping->memory->pager ? SPACE_FAULT_PAGER : SPACE_FAULT_NONE;
    }
    uint64_t rights = mapping_rights(mapping);
    unsigned level;
    bool absent = *page_find(&table, address, &level) == 0;

    if (absent && level > 2) { /* each new table is cleared under a hold of the lock of its own */
        return page_reach(&table, address, level - 1, NULL) ? SPACE_FAULT_TABLE : SPACE_FAULT_NONE;
    }
    if (!absent) {
        /* Who protects it may not have come so far, or have ended; else only the TLB did not know better. */
        page_protect_some(&table, address, address + PAGE_SIZE, 1, rights & (PTE_WRITE | PTE_NX));
    } else if (!page_set(&table, address, 1, page | rights)) {
        return SPACE_FAULT_NONE;
    }
    tlb_invalidate(space, address, 1);
    return mapping->memory->kind == MEMORY_DEVICE ? SPACE_FAULT_DEVICE : SPACE_FAULT_RETRY;
}

enum space_fault space_fault(struct space *space, uint64_t address, uint64_t error,
                             struct memory **memory, uint64_t *offset)
{
    enum space_fault what;

    address &= ~(uint64_t)(PAGE_SIZE - 1);
    do {
        what = SPACE_FAULT_NONE;
        lock_acquire(&space->object.lock);
        if (!space->object.dying) {
            what = resolve(space, address, error, memory, offset);
        }
        if (what == SPACE_FAULT_PAGER) {
            object_ref(&(*memory)->object);
        }
        lock_release(&space->object.lock);
    } while (what == SPACE_FAULT_TABLE);
    return what;
}

uint64_t space_user_frame(const struct space *space, uint64_t address, bool write)
{
    struct page_table table = space_table(space);
    unsigned level;
    uint64_t entry = *page_find(&table, address, &level);
    uint64_t needed = PTE_PRESENT | PTE_USER | (write ? PTE_WRITE : 0);

    if (address >= USER_END || (entry & (needed | PTE_DEVICE)) != needed) {
        return 0;
    }
    return (entry & PTE_ADDRESS) + (address & (level_size(level) - 1));
}

/* --- fault endpoint --- */

/*
 * Exchange it; the new one comes with a reference, the old one's is given back. In a space that is
 * ending only for none: false.
 */
static bool set_fault(struct space *space, struct endpoint *endpoint, uint64_t badge)
{
    struct endpoint *old = endpoint;

    lock_acquire(&space->object.lock);
    bool done = endpoint == NULL || !space->object.dying;

    if (done) {
        old = space->fault_endpoint;
        space->fault_endpoint = endpoint;
        space->fault_badge = badge;
    }
    lock_release(&space->object.lock);
    if (old != NULL) {
        object_unref(&old->object);
    }
    return done;
}

int64_t sys_space_set_fault(struct core *core, struct thread *self)
{
    struct space *space = cap_object(self->space, ARG0(self), RIGHT_SPACE_CONTROL);
    struct endpoint *endpoint = NULL;

    (void)core;
    if (space == NULL) {
        return cap_error(self->space, ARG0(self), OBJ_SPACE);
    }
    if (ARG1(self) != 0) {
        endpoint = cap_object(self->space, ARG1(self), RIGHT_ENDPOINT_SEND);
        if (endpoint == NULL) {
            return cap_error(self->space, ARG1(self), OBJ_ENDPOINT);
        }
    }
    if (space->object.dying ||
        (endpoint != NULL && (endpoint->object.dying || !object_try_ref(&endpoint->object)))) {
        return E_DEAD;
    }
    return set_fault(space, endpoint, ARG2(self)) ? E_OK : E_DEAD;
}

/* --- the end --- */

int64_t sys_space_end(struct core *core, struct thread *self)
{
    struct space *space = self->space;

    if (ARG0(self) != 0) {
        space = cap_object(self->space, ARG0(self), RIGHT_SPACE_CONTROL);
        if (space == NULL) {
            return cap_error(self->space, ARG0(self), OBJ_SPACE);
        }
    }
    object_end(self, &space->object);
    return reap(core, self, E_OK);
}

/* Each of these does a part of its work; false = there is more. */

static bool end_threads(struct core *core, struct thread *self, struct space *space)
{
    while (space->threads != NULL) {
        if (!thread_quit(core, self, space->threads) || preemption_wanted(core)) {
            return false;
        }
    }
    return true;
}

static bool end_mappings(struct core *core, struct space *space)
{
    for (;;) {
        lock_acquire(&space->object.lock);
        struct mapping *mapping = mapping_from(space, 0);

        if (mapping != NULL) {
            mapping_cut_some(mapping, USER_END);
        }
        lock_release(&space->object.lock);
        if (mapping == NULL) {
            return true;
        }
        if (preemption_wanted(core)) {
            return false;
        }
    }
}

static bool end_window(struct core *core, struct space *space)
{
    while (window_shrink(space)) {
        if (preemption_wanted(core)) {
            return false;
        }
    }
    return true;
}

bool space_destroy(struct core *core, struct thread *self, struct object *object)
{
    struct space *space = (struct space *)object;

    if (!end_threads(core, self, space) || !cap_table_empty(core, self, space) ||
        !end_mappings(core, space) || !end_window(core, space)) {
        return false;
    }
    set_fault(space, NULL, 0);
    space_watch_end(core, space);
    page_root_leave(space);
    drop_account(space);
    return true;
}
