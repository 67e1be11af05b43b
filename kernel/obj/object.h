/* SPDX-License-Identifier: MIT */
/*
 * What every kernel object begins with. An object is named by capabilities and kept alive by
 * references: the capabilities together count as one (taken at creation, given back when the
 * last one goes), each kernel-internal pointer that outlives a system call as one more.
 *
 * An object ends when its last capability goes, or by itself (a thread that exits): it is `dying`,
 * and its type's destroy function tells every waiter. Capabilities that are left then name a
 * dead object (E_DEAD). Ending one object may end others (a space its threads and what its
 * table alone named), without bound; so nothing recurses: what shall end is put on the list of
 * the thread that caused it, and reap() works on that list, preemptibly, before the call returns.
 */
#ifndef ONESTACK_OBJ_OBJECT_H
#define ONESTACK_OBJ_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/abi/cap.h"
#include "kernel/lib/lock.h"

struct cap;
struct core;
struct quota;
struct thread;

struct object {
    uint8_t type; /* enum object_type */
    bool dying;   /* no new waiters, no new references; set under the lock, never false again */
    uint16_t spare;
    struct lock lock;    /* guards the capability tree and what the object's header says */
    uint32_t references; /* changed by locked instructions */
    uint32_t cap_count;
    struct cap *caps;    /* first root of the derivation tree (cap.h) */
    struct quota *quota; /* pays for the object; NULL: not from kmem_alloc, is never freed */
};

_Static_assert(sizeof(struct object) == 32, "header of every object");

/*
 * What an object type is made of; object.c has the table. All three run with IF=1 and hold no lock.
 */
struct object_ops {
    uint16_t size;      /* what kmem_alloc gave */
    uint16_t reap_link; /* offset of a pointer that is free once the object is dying */
    /* Tell waiters, let go of others. False: call me again, after a preemption point if wanted. */
    bool (*destroy)(struct core *core, struct thread *self, struct object *object);
    /* The last reference has gone, the memory goes next. Must not drop references: destroy has. */
    void (*release)(struct object *object);
};

/*
 * Zeroed memory for an object, and a reference of the object's to its account. NULL: the account is
 * exhausted, or has just ended.
 */
void *object_alloc(struct quota *quota, size_t size);
/* Start an object whose memory object_alloc() gave; it has one reference, the capabilities'. */
void object_init(struct object *object, enum object_type type, struct quota *quota);
/* By who has one, or under the object's lock if it is not dying. */
void object_ref(struct object *object);
/* For a pointer without a reference, as a look-up gives: false = it has ended (grace.h). */
bool object_try_ref(struct object *object);
/* Drop a reference; the last one frees the object's memory and gives it back to its account. */
void object_unref(struct object *object);
/* Free its memory, once nobody can be looking at it (grace.h). Returns its account, to be unref'd. */
struct object *object_free(struct object *object);

/* The object ends: mark it, put it on self's list. Does nothing if it is dying already. */
void object_end(struct thread *self, struct object *object);
/*
 * Destroy what is on self's list. Returns `result`, or BLOCKED when it has to go on as a
 * continuation (which then leaves `result` in frame.rax); does not return if self itself came to
 * its end. To be the last thing that a call does: `return reap(core, self, E_OK);`
 */
int64_t reap(struct core *core, struct thread *self, int64_t result);
/* What `other`, who ends, has yet to destroy is self's to destroy: some of it; false = there is more. */
bool object_take_some(struct thread *self, struct thread *other);
/* One part of it, for calls with more to do: false = preemption is wanted, come again. */
bool reap_some(struct core *core, struct thread *self);

/* Destroy and release functions; each is with its type. */
bool thread_destroy(struct core *core, struct thread *self, struct object *object);
bool space_destroy(struct core *core, struct thread *self, struct object *object);
bool endpoint_destroy(struct core *core, struct thread *self, struct object *object);
bool notification_destroy(struct core *core, struct thread *self, struct object *object);
bool reply_destroy(struct core *core, struct thread *self, struct object *object);
bool memory_destroy(struct core *core, struct thread *self, struct object *object);
void memory_free(struct object *object);
void quota_free(struct object *object);

#endif
