/* SPDX-License-Identifier: MIT */
#include "kernel/obj/quota.h"

#include "kernel/grace.h"
#include "kernel/lib/cache_line.h"
#include "kernel/obj/cap.h"
#include "kernel/syscall.h"

struct quota root_quota SHARED = {
    .object = {.type = OBJ_QUOTA, .references = 1},
    .slab_lock = {.rank = RANK_SLABS},
};

bool quota_charge(struct quota *quota, uint64_t bytes)
{
    uint64_t used = __atomic_load_n(&quota->used, __ATOMIC_RELAXED);

    do {
        if (bytes > __atomic_load_n(&quota->limit, __ATOMIC_RELAXED) - used) {
            return false;
        }
    } while (!__atomic_compare_exchange_n(&quota->used, &used, used + bytes, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return true;
}

void quota_refund(struct quota *quota, uint64_t bytes)
{
    __atomic_fetch_sub(&quota->used, bytes, __ATOMIC_RELAXED);
}

void quota_grow_root(uint64_t bytes)
{
    __atomic_fetch_add(&root_quota.limit, bytes, __ATOMIC_RELAXED);
}

uint64_t quota_free_bytes(const struct quota *quota)
{
    return __atomic_load_n(&quota->limit, __ATOMIC_RELAXED) -
           __atomic_load_n(&quota->used, __ATOMIC_RELAXED);
}

/* The new account's bytes are in use in the old one until it ends. */
int64_t sys_quota_split(struct core *core, struct thread *self)
{
    struct quota *parent = cap_object(self->space, ARG0(self), RIGHT_QUOTA_SPLIT);
    uint64_t bytes = ARG1(self);

    (void)core;
    if (parent == NULL) {
        return cap_error(self->space, ARG0(self), OBJ_QUOTA);
    }
    if (parent->depth == QUOTA_DEPTH_MAX) {
        return E_INVAL;
    }
    struct quota *quota = object_alloc(parent, sizeof(*quota));

    if (quota == NULL) {
        return E_NOMEM;
    }
    object_init(&quota->object, OBJ_QUOTA, parent);
    if (!quota_charge(parent, bytes)) {
        object_unref(&quota->object);
        return E_NOMEM;
    }
    quota->limit = bytes;
    quota->depth = parent->depth + 1;
    quota->slab_lock.rank = RANK_SLABS;
    return cap_publish(self, &quota->object);
}

void quota_free(struct object *object)
{
    quota_refund(object->quota, ((struct quota *)object)->limit);
}

static int64_t quota_info(struct thread *self)
{
    const struct quota *quota = cap_object(self->space, ARG0(self),
                                           RIGHT_QUOTA_USE | RIGHT_QUOTA_SPLIT);

    if (quota == NULL) {
        return cap_error(self->space, ARG0(self), OBJ_QUOTA);
    }
    self->frame.rdx = quota_free_bytes(quota);
    return E_OK;
}

static void info_continue(struct core *core, struct thread *self)
{
    (void)core;
    self->frame.rax = (uint64_t)quota_info(self);
}

/* To the byte: what has been given up before the call is back in its account. */
int64_t sys_quota_info(struct core *core, struct thread *self)
{
    (void)core;
    return grace_pending() ? grace_wait(self, info_continue) : quota_info(self);
}
