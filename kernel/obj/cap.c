/* SPDX-License-Identifier: MIT */
/* Tables of capabilities and the derivation trees through them. The system calls are in
 * cap_calls.c. */
#include "kernel/obj/cap.h"

#include "kernel/abi/error.h"
#include "kernel/grace.h"
#include "kernel/obj/endpoint.h"
#include "kernel/obj/irq.h"
#include "kernel/obj/memory.h"
#include "kernel/syscall.h"

#define RIGHTS_GENERIC (RIGHT_GRANT | RIGHT_REVOKE)

static const uint32_t type_rights[OBJ_TYPE_COUNT] = {
    [OBJ_THREAD] = RIGHT_THREAD_CONTROL | RIGHT_THREAD_REGISTERS | RIGHT_THREAD_INFO,
    [OBJ_SPACE] = RIGHT_SPACE_MAP | RIGHT_SPACE_THREAD | RIGHT_SPACE_CAPS | RIGHT_SPACE_CONTROL,
    [OBJ_ENDPOINT] = RIGHT_ENDPOINT_SEND | RIGHT_ENDPOINT_CALL | RIGHT_ENDPOINT_RECEIVE,
    [OBJ_NOTIFICATION] = RIGHT_NOTIFY_SIGNAL | RIGHT_NOTIFY_WAIT,
    [OBJ_REPLY] = RIGHT_REPLY_SEND,
    [OBJ_MEMORY] = RIGHT_MEMORY_READ | RIGHT_MEMORY_WRITE | RIGHT_MEMORY_EXECUTE |
                   RIGHT_MEMORY_SUPPLY,
    [OBJ_IRQ] = RIGHT_IRQ_BIND,
    [OBJ_IOPORTS] = RIGHT_IOPORTS_ACCESS,
    [OBJ_QUOTA] = RIGHT_QUOTA_USE | RIGHT_QUOTA_SPLIT,
};

uint32_t cap_type_rights(enum object_type type)
{
    return type_rights[type] | RIGHTS_GENERIC;
}

int cap_error(const struct space *space, cap_t handle, enum object_type type)
{
    const struct cap *cap = cap_lookup(space, handle);

    return cap && cap->rights && cap->object->type == type ? E_RIGHTS : E_BADCAP;
}

/* --- the tree; the object's lock is held --- */

#define TAG 1UL

static struct cap *list_end(struct cap **head)
{
    return (struct cap *)((uint64_t)head | TAG);
}

static bool is_last(const struct cap *cap)
{
    return (uint64_t)cap->next & TAG;
}

static struct cap **list_head(const struct cap *last)
{
    return (struct cap **)((uint64_t)last->next & ~TAG);
}

/* Of all siblings only the first is pointed back to the last, whose next is the tagged head. */
static bool is_first(const struct cap *cap)
{
    return is_last(cap->prev);
}

static void derive_first(struct cap **head, struct cap *cap)
{
    struct cap *first = *head;

    cap->next = first ? first : list_end(head);
    cap->prev = first ? first->prev : cap;
    if (first) {
        first->prev = cap;
    }
    *head = cap;
}

/* The siblings `first` .. `last` (which may be of another list) come where `cap` is. */
static void derive_replace(struct cap *cap, struct cap *first, struct cap *last)
{
    struct cap *next = cap->next, *prev = cap->prev;
    bool was_first = is_first(cap), was_last = is_last(cap);
    struct cap **head = was_first ? list_head(prev) : was_last ? list_head(cap) : NULL;

    if (was_first) {
        *head = first;
    } else {
        prev->next = first;
    }
    last->next = next;
    first->prev = prev;
    if (was_last) {
        (*head)->prev = last; /* of a list of one: of `first` itself */
    } else {
        next->prev = last;
    }
}

/* Out of the tree, nothing in its place. */
static void derive_unlink(struct cap *cap)
{
    bool was_first = is_first(cap), was_last = is_last(cap);
    struct cap **head = was_first ? list_head(cap->prev) : was_last ? list_head(cap) : NULL;

    if (was_first) {
        *head = was_last ? NULL : cap->next;
    } else {
        cap->prev->next = cap->next;
    }
    if (!was_last) {
        cap->next->prev = cap->prev;
    } else if (*head) {
        (*head)->prev = cap->prev;
    }
}

static void derive_remove(struct cap *cap)
{
    if (cap->child) {
        derive_replace(cap, cap->child, cap->child->prev);
        cap->child = NULL;
    } else {
        derive_unlink(cap);
    }
}

/* --- slots --- */

#define GENERATION_ONE  (1ULL << 32)
#define GENERATION_MASK (~0ULL << 32)

/*
 * A free slot's link: which is the next one, or that there is none. A slot that was never used is all
 * zeros, so that a fresh page takes no time here: the slot after it is the next, up to the page's end.
 */
#define FREE_AFTER_IT 0
#define FREE_NONE     (~0ULL)

static uint32_t free_after(const struct space *space, const struct cap *slot)
{
    uint32_t after = (uint32_t)(slot - space->caps) + 1;

    if (slot->free_next != FREE_AFTER_IT) {
        return slot->free_next == FREE_NONE ? 0 : (uint32_t)slot->free_next;
    }
    return after % CAPS_PER_PAGE ? after : 0;
}

/* A page more of free slots; the table's first slot says whose it is and is never used. */
static bool table_grow(struct space *space)
{
    uint32_t first = space->cap_limit;

    if (!space_grow_caps(space)) {
        return false;
    }
    if (first == 0) {
        space->caps[0].space = space;
    }
    space->cap_free = first == 0 ? 1 : first;
    __atomic_store_n(&space->cap_limit, first + CAPS_PER_PAGE, __ATOMIC_RELEASE);
    return true;
}

/*
 * A slot's handle before it is published, and when it is free: its generation alone, by which nothing finds it.
 * For those who know it is there it names the slot nevertheless.
 */
static cap_t hidden(cap_t handle)
{
    return handle & GENERATION_MASK;
}

static cap_t handle_of(const struct cap *cap)
{
    return hidden(cap->handle) | ((uint64_t)cap & (CAP_WINDOW_SIZE - 1));
}

static void slot_publish(struct cap *cap)
{
    __atomic_store_n(&cap->handle, handle_of(cap), __ATOMIC_RELEASE);
}

/* Nothing finds the slot until its handle is written. */
static int slot_alloc(struct space *space, struct cap **slot)
{
    int error = E_OK;

    lock_acquire(&space->cap_lock);
    if (space->object.dying) {
        error = E_DEAD;
    } else if (!space->cap_free && !table_grow(space)) {
        error = E_NOMEM;
    } else {
        struct cap *free = &space->caps[space->cap_free];

        space->cap_free = free_after(space, free);
        space->cap_used++;
        if (free->handle == 0) {
            free->handle = GENERATION_ONE;
        }
        *slot = free;
    }
    lock_release(&space->cap_lock);
    return error;
}

void cap_slot_free(struct cap *cap)
{
    struct space *space = cap_space(cap);

    lock_acquire(&space->cap_lock);
    cap->free_next = space->cap_free ? space->cap_free : FREE_NONE;
    space->cap_free = (uint32_t)(cap - space->caps);
    space->cap_used--;
    lock_release(&space->cap_lock);
}

/* From here on nothing finds it; a slot's next handle has the next generation. */
static void slot_hide(struct cap *cap)
{
    cap->rights = 0;
    cap->handle = hidden(cap->handle) + GENERATION_ONE;
}

/* A hidden one, which another core may have found before: object and badge stay until it has looked. */
static void slot_leave(struct cap *cap)
{
    if (!grace_hold_slot(core_here(), cap)) {
        cap_slot_free(cap);
    }
}

/* --- capabilities --- */

static bool receives(const struct cap *cap)
{
    return cap->object->type == OBJ_ENDPOINT && cap->rights & RIGHT_ENDPOINT_RECEIVE;
}

/* What was made with it follows it to its new slot. The object's lock is held. */
static void follow(struct cap *to, struct cap *from)
{
    if (to->object->type == OBJ_MEMORY) {
        memory_cap_moved(to, from);
    } else if (to->object->type == OBJ_IRQ) {
        irq_cap_moved(to, from);
    }
}

/* The object's lock is held. */
static int cap_check(const struct object *object, const struct cap *cap, cap_t handle)
{
    if (object->dying) {
        return E_DEAD;
    }
    return cap && (cap->handle != handle || !cap->rights) ? E_BADCAP : E_OK;
}

/* As cap_insert() and cap_copy_hidden(). */
static int insert(struct space *space, struct object *object, uint32_t rights, uint64_t badge,
                  struct cap *parent, cap_t parent_handle, cap_t *handle, bool hide)
{
    struct cap *cap;
    int error = slot_alloc(space, &cap);

    if (error) {
        return error;
    }
    lock_acquire(&object->lock);
    error = cap_check(object, parent, parent_handle);
    if (!error) {
        cap->object = object;
        cap->badge = badge;
        cap->rights = rights;
        cap->child = NULL;
        cap->mappings = NULL;
        derive_first(parent ? &parent->child : &object->caps, cap);
        object->cap_count++;
        if (receives(cap)) {
            ((struct endpoint *)object)->receive_caps++;
        }
        *handle = handle_of(cap);
        if (!hide) {
            slot_publish(cap);
        }
    }
    lock_release(&object->lock);
    if (error) {
        cap_slot_free(cap); /* nobody has seen it */
    }
    return error;
}

int cap_insert(struct space *space, struct object *object, uint32_t rights, uint64_t badge,
               struct cap *parent, cap_t parent_handle, cap_t *handle)
{
    return insert(space, object, rights, badge, parent, parent_handle, handle, false);
}

int cap_copy_hidden(struct space *space, struct cap *cap, cap_t handle, cap_t *copy)
{
    return insert(space, cap->object, cap->rights, cap->badge, cap, handle, copy, true);
}

void cap_show(struct space *space, cap_t handle)
{
    struct cap *cap = cap_slot(space->caps, handle);
    struct object *object = cap->object;

    lock_acquire(&object->lock);
    if (cap->handle == hidden(handle)) { /* else it has been revoked */
        slot_publish(cap);
    }
    lock_release(&object->lock);
}

void cap_take_back(struct core *core, struct thread *self, struct space *space, cap_t handle)
{
    cap_remove(core, self, cap_slot(space->caps, handle), hidden(handle));
}

int64_t cap_publish(struct thread *self, struct object *object)
{
    cap_t handle;
    int error = cap_insert(self->space, object, cap_type_rights(object->type), 0, NULL, 0, &handle);

    if (error) {
        object_unref(object);
        return error;
    }
    self->frame.rdx = handle;
    return E_OK;
}

int cap_move(struct space *space, struct cap *from, cap_t from_handle, cap_t *handle)
{
    struct object *object = from->object;
    struct cap *to;
    int error = slot_alloc(space, &to);

    if (error) {
        return error;
    }
    lock_acquire(&object->lock);
    error = cap_check(object, from, from_handle);
    if (!error) {
        to->object = object;
        to->badge = from->badge;
        to->rights = from->rights;
        to->child = from->child;
        from->child = NULL;
        to->mappings = from->mappings;
        derive_replace(from, to, to);
        if (to->child) {
            to->child->prev->next = list_end(&to->child);
        }
        follow(to, from);
        slot_hide(from);
        *handle = handle_of(to);
        slot_publish(to);
    }
    lock_release(&object->lock);
    if (error) {
        cap_slot_free(to);
    } else {
        slot_leave(from);
    }
    return error;
}

/* Nobody finds it for use any more, but it keeps its place until what it made is undone. */
static bool cap_retire(struct core *core, struct cap *cap, cap_t handle)
{
    struct object *object = cap->object;

    if (object->type != OBJ_MEMORY && object->type != OBJ_IRQ) {
        return true;
    }
    lock_acquire(&object->lock);
    bool there = cap->handle == handle;

    if (there) {
        cap->rights = 0;
    }
    lock_release(&object->lock);
    if (!there) {
        return true;
    }
    if (object->type == OBJ_IRQ) {
        irq_cap_gone(core, cap);
        return true;
    }
    return memory_cap_gone(core, cap);
}

bool cap_remove(struct core *core, struct thread *self, struct cap *cap, cap_t handle)
{
    struct object *object = cap->object;

    if (!cap_retire(core, cap, handle)) {
        return false;
    }
    lock_acquire(&object->lock);
    if (cap->handle != handle) {
        lock_release(&object->lock); /* somebody else came first */
        return true;
    }
    bool deaf = receives(cap) && --((struct endpoint *)object)->receive_caps == 0;
    bool last = --object->cap_count == 0;

    derive_remove(cap);
    slot_hide(cap);
    lock_release(&object->lock);
    slot_leave(cap);
    if (last || deaf) {
        object_end(self, object);
    }
    if (last) {
        object_unref(object);
    }
    return true;
}

/* The first that is derived from it, or NULL. */
static int first_child(struct cap *cap, cap_t handle, struct cap **child, cap_t *child_handle)
{
    struct object *object = cap->object;

    lock_acquire(&object->lock);
    bool there = cap->handle == handle;

    *child = there ? cap->child : NULL;
    *child_handle = *child ? (*child)->handle : 0;
    lock_release(&object->lock);
    return there ? E_OK : E_BADCAP;
}

int cap_revoke_some(struct core *core, struct thread *self, struct cap *cap, cap_t handle)
{
    struct cap *child;
    cap_t child_handle;

    for (;;) {
        int error = first_child(cap, handle, &child, &child_handle);

        if (!child) {
            return error;
        }
        if (!cap_remove(core, self, child, child_handle) || preemption_wanted(core)) {
            return E_AGAIN;
        }
    }
}

bool cap_table_empty(struct core *core, struct thread *self, struct space *space)
{
    /* Who has seen the space alive in slot_alloc() has counted its slot when the lock is ours. */
    lock_acquire(&space->cap_lock);
    lock_release(&space->cap_lock);
    while (space->cap_used) {
        if (space->cap_cursor >= space->cap_limit) {
            space->cap_cursor =
                0; /* one is still being filled, or waits for others to have looked */
            __builtin_ia32_pause();
            return false;
        }
        struct cap *cap = &space->caps[space->cap_cursor];
        cap_t handle = cap->handle;

        if ((uint32_t)handle != 0 && !cap_remove(core, self, cap, handle)) {
            return false;
        }
        space->cap_cursor++;
        if (preemption_wanted(core)) {
            return false;
        }
    }
    return true;
}
