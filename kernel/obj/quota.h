/* SPDX-License-Identifier: MIT */
/* Accounts for kernel memory. A holder can divide its own; what ends gives back to its account. */
#ifndef ONESTACK_OBJ_QUOTA_H
#define ONESTACK_OBJ_QUOTA_H

#include "kernel/obj/object.h"

/*
 * Accounts are charged for whole frames and share none, so that what one holder does cannot use up
 * memory that another still has in its account: small objects lie in slabs of their own account.
 */
#define SLAB_CLASSES 6 /* 64 .. 2048 bytes */

struct quota {
    struct object
        object;     /* its own account is the one it was split from, which gets the limit back */
    uint64_t limit; /* bytes */
    uint64_t used;  /* changed by locked instructions */
    uint32_t slabs[SLAB_CLASSES]; /* frame numbers of slabs with room, 0 = none (mm/slab.c) */
    struct lock slab_lock;        /* guards them */
    uint8_t depth;                /* how many accounts it was split from, one from the other */
};

/* Each of a chain of accounts may end with the one below it, all of them in one step. */
#define QUOTA_DEPTH_MAX 32

/* Everything the kernel itself needs before the first user quota exists is charged here. */
extern struct quota root_quota;

/* Take `bytes`, or refuse and change nothing. */
bool quota_charge(struct quota *quota, uint64_t bytes);
void quota_refund(struct quota *quota, uint64_t bytes);
/* Bytes not yet charged; others may take them at any time. */
uint64_t quota_free_bytes(const struct quota *quota);
/* More memory was found: the root account's limit grows. */
void quota_grow_root(uint64_t bytes);
#endif
