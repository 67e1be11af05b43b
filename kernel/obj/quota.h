/* SPDX-License-Identifier: MIT */
/* Accounts for kernel memory. A holder can divide its own; what ends gives back to its account. */
#ifndef ONESTACK_OBJ_QUOTA_H
#define ONESTACK_OBJ_QUOTA_H

#include "kernel/obj/object.h"

struct quota {
    struct object object;
    uint64_t limit; /* bytes */
    uint64_t used;  /* changed by locked instructions */
    struct quota *parent; /* gets the limit back when this one ends */
};

/* Everything the kernel itself needs before the first user quota exists is charged here. */
extern struct quota root_quota;

/* Take `bytes`, or refuse and change nothing. */
bool quota_charge(struct quota *quota, uint64_t bytes);
void quota_refund(struct quota *quota, uint64_t bytes);

#endif
