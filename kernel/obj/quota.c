/* SPDX-License-Identifier: MIT */
#include "kernel/obj/quota.h"

#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/syscall.h"

struct quota root_quota = {
    .object = {.type = OBJ_QUOTA, .references = 1},
};

bool quota_charge(struct quota *quota, uint64_t bytes)
{
    uint64_t used = __atomic_load_n(&quota->used, __ATOMIC_RELAXED);

    do {
        if (bytes > __atomic_load_n(&quota->limit, __ATOMIC_RELAXED) - used) {
            return false;
        }
    } while (!__atomic_compare_exchange_n(&quota->used, &used, used + bytes, true,
                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED));
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
