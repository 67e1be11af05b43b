/* SPDX-License-Identifier: MIT */
/*
 * What every kernel object begins with. An object is named by capabilities and kept alive by
 * references: the capabilities together count as one (taken at creation, given back when the
 * last one goes), each kernel-internal pointer that outlives a system call as one more.
 */
#ifndef ONESTACK_OBJ_OBJECT_H
#define ONESTACK_OBJ_OBJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/abi/cap.h"
#include "kernel/lib/lock.h"

struct cap;
struct quota;

struct object {
    uint8_t type;         /* enum object_type */
    bool dying;           /* the last capability is gone: no new waiters, no new references */
    uint16_t spare;
    struct lock lock;     /* guards the capability list and what the object's header says */
    uint32_t references;  /* changed by locked instructions */
    uint32_t cap_count;
    struct cap *caps;     /* derivation list: preorder, each entry carries its depth */
    struct quota *quota;  /* pays for the object */
};

_Static_assert(sizeof(struct object) == 32, "header of every object");

/* Start an object whose memory kmem_alloc() gave; it has one reference, the capabilities'. */
void object_init(struct object *object, enum object_type type, struct quota *quota);
void object_ref(struct object *object);
/* Drop a reference; the last one frees the object's memory and gives it back to its account. */
void object_unref(struct object *object);
/*
 * The last capability has gone, or the object ends by itself (a thread's exit): tell every
 * waiter, take it out of use, drop the capabilities' reference. Each type has its function in a
 * table in object.c; it may ask to be called again after a preemption point by returning false.
 */
bool object_destroy(struct object *object);

#endif
