/* SPDX-License-Identifier: MIT */
/*
 * A space's table of capabilities, and what was derived from what. The table is one window of
 * kernel addresses (layout.h), filled page by page from the space's quota, and a handle's low half is
 * its slot's offset there, so a look-up is a bound check and one load.
 *
 * Derivation is a tree for each object: siblings form a list whose first member points back to
 * the last, and whose last points, tagged, to the head pointer of the list: object.caps or the
 * parent's `child`. So a capability goes in O(1), its children taking its place, and revoke needs
 * no more memory than the tree: take the first child until there is none. It can be left at any
 * step.
 *
 * Of I/O ports, interrupt lines and memory a capability may name a part, by its badge: first of
 * the range in the low half, count in the high half, 0 = all (memory.h for memory). What was made
 * with a capability and must not outlive it - a mapping, the binding of an interrupt line - is
 * undone before the slot is freed.
 */
#ifndef ONESTACK_OBJ_CAP_H
#define ONESTACK_OBJ_CAP_H

#include <stddef.h>

#include "kernel/abi/error.h"
#include "kernel/arch/cpu.h"
#include "kernel/arch/fixup.h"
#include "kernel/arch/layout.h"
#include "kernel/obj/space.h"
#include "kernel/obj/thread.h"

struct cap {
    uint64_t handle; /* the only handle that names this slot now; low half 0: free */
    struct object *object;
    union {
        uint64_t badge;
        uint64_t free_next; /* index of the next free slot, in those that may be filled */
    };
    uint32_t rights; /* RIGHT_*, at least one of its own type and the generic ones; 0: going */
    uint32_t spare;
    struct cap *child; /* these three: guarded by the lock of the object */
    struct cap *next, *prev;
    union {
        struct mapping *mappings; /* memory: what is mapped by this capability (obj/memory.h) */
        struct space *space;      /* slot 0 of each table: whose it is */
    };
};

_Static_assert(sizeof(struct cap) == 64, "one cache line; a handle's offset is masked by it");
_Static_assert(CAPS_PER_PAGE * sizeof(struct cap) == PAGE_SIZE, "slots do not cross pages");

/*
 * Look-ups take no lock. What they read stays as it is until the core that looks has come to the end
 * of its outermost level (grace.h), and they read the handle first: the CPU keeps loads in order, and
 * here is what tells the compiler to.
 */
static inline void cap_read_on(void)
{
    __asm__ volatile("" : : : "memory");
}

/* Whose table a slot is in: windows are aligned to their size, and slot 0 says it. */
static inline struct space *cap_space(const struct cap *cap)
{
    return ((const struct cap *)((uint64_t)cap & ~(uint64_t)(CAP_WINDOW_SIZE - 1)))->space;
}

/* The slot where a handle's would be, whatever the handle: in the window, and the beginning of a slot. */
static inline struct cap *cap_slot(struct cap *caps, cap_t handle)
{
    return (struct cap *)((char *)caps + (handle & (CAP_TABLE_BYTES - sizeof(struct cap))));
}

/* The slot that a handle names, whatever its rights, or NULL. */
static inline struct cap *cap_lookup(const struct space *space, cap_t handle)
{
    struct cap *cap = cap_slot(space->caps, handle);

    if (cap >= &space->caps[space->cap_limit] || (uint32_t)handle == 0) {
        return NULL;
    }
    cap_read_on();
    if (cap->handle != handle) {
        return NULL;
    }
    cap_read_on();
    return cap;
}

/*
 * The slot that a handle names, or NULL if it lacks a right (of the type: a right belongs to
 * one type) or names nothing. Comparing the whole handle checks generation and offset at once.
 * Slot 0 has no rights, so offset 0 needs no test.
 */
static inline struct cap *cap_find(const struct space *space, cap_t handle, uint32_t right)
{
    struct cap *cap = cap_slot(space->caps, handle);

    if (cap >= &space->caps[space->cap_limit]) {
        return NULL;
    }
    cap_read_on();
    if (cap->handle != handle) {
        return NULL;
    }
    cap_read_on();
    return cap->rights & right ? cap : NULL;
}

/*
 * The same in self's own space, for the fast ways: where the table ends is not asked but found out, by a
 * fault, after which interrupts are on. NULL says nothing, then; the general way asks again.
 */
static inline __attribute__((always_inline)) struct cap *cap_find_own(const struct thread *self,
                                                                      cap_t handle, uint32_t right)
{
    struct cap *cap = cap_slot(self->caps, handle);

    __asm__ goto("1: cmp %[handle], (%[cap])\n\t"
                 "jne %l[none]\n\t" FIXUP_CAP("1b", "%l[missed]")
                 :
                 : [cap] "r"(cap), [handle] "r"(handle)
                 : "memory", "cc"
                 : none, missed);
    return cap->rights & right ? cap : NULL;
missed:
    cpu_sti();
none:
    return NULL;
}

/* As cap_find, the object; `right` belongs to the object's type. */
static inline void *cap_object(const struct space *space, cap_t handle, uint32_t right)
{
    struct cap *cap = cap_find(space, handle, right);

    return cap ? cap->object : NULL;
}

/* Why cap_find said no: E_BADCAP, or E_RIGHTS where the type is right. */
int cap_error(const struct space *space, cap_t handle, enum object_type type);
/* The same of one that was found, and lacks a right: all of them if it is just being deleted. */
static inline int cap_refusal(const struct cap *cap)
{
    return cap->rights ? E_RIGHTS : E_BADCAP;
}
/* All rights that a capability of this type can have. */
uint32_t cap_type_rights(enum object_type type);

/*
 * Put a capability into `space`: the object's first (parent NULL), or one derived from `parent`,
 * whose handle the caller has looked up as `parent_handle`. E_NOMEM, E_BADCAP (the parent has gone
 * meanwhile), E_DEAD (the object is dying).
 */
int cap_insert(struct space *space, struct object *object, uint32_t rights, uint64_t badge,
               struct cap *parent, cap_t parent_handle, cap_t *handle);
/*
 * For messages: a copy with all that `cap` has, which stands in the tree, where it can be revoked, but which
 * nobody finds by its handle until it is shown, or never, when it is taken back. Both come before self's core
 * is at the end of its outermost level.
 */
int cap_copy_hidden(struct space *space, struct cap *cap, cap_t handle, cap_t *copy);
void cap_show(struct space *space, cap_t handle);
void cap_take_back(struct core *core, struct thread *self, struct space *space, cap_t handle);
/*
 * The end of every *_create: a capability with all rights in self's own table, its handle to rdx.
 * If there is no slot the object goes again. Returns what the system call returns.
 */
int64_t cap_publish(struct thread *self, struct object *object);
/*
 * Take a capability away; its children become its parent's. `handle` is what the caller looked
 * up: one that somebody else has taken away meanwhile is left alone. The object may end: reap().
 * False: it is no longer found for use, but not yet gone; call again, after a preemption point.
 */
bool cap_remove(struct core *core, struct thread *self, struct cap *cap, cap_t handle);
/*
 * Remove what was derived from `cap`, as far as it goes: E_OK = there is nothing left, E_AGAIN = call
 * again, after a preemption point; E_BADCAP = it has gone or moved meanwhile, with what was left.
 */
int cap_revoke_some(struct core *core, struct thread *self, struct cap *cap, cap_t handle);
/* For grace.c: nobody can be looking at the slot any more, it may be filled again. */
void cap_slot_free(struct cap *cap);
/* To another table (or slot), in the same place of the tree. Errors as cap_insert. */
int cap_move(struct space *space, struct cap *from, cap_t from_handle, cap_t *handle);
/*
 * Empty a space's whole table; false: call me again, after a preemption point if wanted. Then no core
 * is looking at any slot of it: the memory may go.
 */
bool cap_table_empty(struct core *core, struct thread *self, struct space *space);

#endif
