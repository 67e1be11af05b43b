/* SPDX-License-Identifier: MIT */
/*
 * A space's table of capabilities, and what was derived from what. The table is one window of
 * kernel addresses (layout.h), filled page by page from the space's quota, so a look-up is a
 * bound check and one load.
 */
#ifndef ONESTACK_OBJ_CAP_H
#define ONESTACK_OBJ_CAP_H

#include <stddef.h>

#include "kernel/arch/layout.h"
#include "kernel/obj/object.h"
#include "kernel/obj/space.h"

struct cap {
    uint64_t handle;       /* the only handle that names this slot now; low half 0: free */
    struct object *object;
    uint64_t badge;
    uint32_t rights;       /* RIGHT_*; of its own type and the generic ones only */
    uint32_t depth;        /* in the derivation list */
    struct cap *next, *prev; /* object's derivation list, guarded by the object's lock */
    struct space *space;   /* whose table the slot is in */
    union {
        uint64_t free_next;       /* free slots: index of the next one */
        struct mapping *mappings; /* memory: what is mapped by this capability (obj/memory.h) */
    };
};

_Static_assert(sizeof(struct cap) == 64, "one cache line; cap_find multiplies by it");

/*
 * The slot that a handle names, or NULL if it lacks a right (of the type: a right belongs to
 * one type) or names nothing. Comparing the whole handle checks generation and index at once.
 */
static inline struct cap *cap_find(const struct space *space, cap_t handle, uint32_t right)
{
    uint64_t index = (uint32_t)handle;

    if (index >= space->cap_limit) {
        return NULL;
    }
    struct cap *cap = &space->caps[index];
    if (cap->handle != handle || !(cap->rights & right)) {
        return NULL;
    }
    return cap;
}

/* Why cap_find said no: E_BADCAP, or E_RIGHTS where the type is right. */
int cap_error(const struct space *space, cap_t handle, enum object_type type);

#endif
