/* SPDX-License-Identifier: MIT */
/*
 * An address space with its table of capabilities: what other systems call a process. It ends
 * when its last capability goes or by space_end; its threads end with it.
 */
#ifndef ONESTACK_OBJ_SPACE_H
#define ONESTACK_OBJ_SPACE_H

#include "kernel/obj/object.h"

struct thread;
struct endpoint;
struct mapping;

struct space {
    struct object object;

    /* read by every system call that names a capability */
    struct cap *caps;      /* this space's window */
    uint32_t cap_limit;    /* slots that have memory; a look-up compares with it */
    uint32_t cap_free;     /* first free slot, 0 = none (slot 0 is never used) */

    uint64_t cr3;          /* physical address of the PML4 */
    uint64_t cores_loaded; /* bit n: core n may hold translations (SMP shootdown) */
    struct mapping *mappings; /* sorted by address; guarded by object.lock */
    struct thread *threads;   /* list through thread.space_next */
    uint32_t thread_count;
    uint32_t window;          /* number of the capability window */
    struct endpoint *fault_endpoint; /* where faults of threads without handler go; may be NULL */
    uint64_t fault_badge;
    struct thread *watcher;   /* unused until a parent asks; see space.c */
};

#endif
