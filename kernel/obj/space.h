/* SPDX-License-Identifier: MIT */
/*
 * An address space with its table of capabilities: what other systems call a process. It ends
 * when its last capability goes or by space_end; its threads end with it.
 */
#ifndef ONESTACK_OBJ_SPACE_H
#define ONESTACK_OBJ_SPACE_H

#include "kernel/arch/core.h"
#include "kernel/lib/tree.h"
#include "kernel/obj/object.h"

struct endpoint;
struct mapping;
struct memory;
struct notification;
struct thread;

struct space {
    struct object object;

    /* read by every system call that names a capability */
    struct cap *caps;   /* this space's window (window.h) */
    uint32_t cap_limit; /* slots that have memory; a look-up compares with it */
    uint32_t cap_free;  /* first free slot, 0 = none (slot 0 is never used) */

    uint64_t cr3;           /* physical address of the PML4 */
    uint64_t cores_loaded;  /* bit n: core n may hold translations (arch/tlb.c) */
    struct tree mappings;   /* by address; they and the page tables are guarded by object.lock */
    struct thread *threads; /* list through thread.space_next */
    uint32_t thread_count;
    struct quota *account; /* pays for the table of capabilities, page tables and mappings */
    struct endpoint *fault_endpoint; /* where faults of threads without handler go; may be NULL */
    uint64_t fault_badge;
    uint64_t broken_status, broken_address; /* of a machine check, yet to be told; 0 = none */
    struct notification *watcher;           /* signalled when it ends, */
    uint64_t watch_bits;                    /* with these bits */
    struct object *reap_next;               /* object.h */
    uint32_t cap_used;          /* slots that are not free, those that wait for it included */
    uint32_t cap_cursor;        /* cap_table_empty(): slots below it are done */
    struct lock cap_lock;       /* guards cap_free, cap_used and growing */
    uint32_t living[MAX_CORES]; /* how many of its threads have that core as their `core` */
};

_Static_assert(sizeof(struct space) <= 512, "slab size");

/* A space without anything in it; NULL = no memory. */
struct space *space_new(struct quota *quota, struct quota *account);
/* The same away again: one that nobody has seen. */
void space_give_up(struct space *space);

/*
 * One page of zeroed slots more, from cap_limit on; the caller (cap.c, which holds cap_lock)
 * raises cap_limit by CAPS_PER_PAGE. False: the account is exhausted, or the table full.
 */
#define CAPS_PER_PAGE 64
bool space_grow_caps(struct space *space);

/*
 * A thread of it comes to run on `core`, which calls this, and counts in `living` already: the core is
 * asked to forget its pages until none lives there any more.
 */
static inline void space_comes_to(struct space *space, const struct core *core)
{
    __atomic_fetch_or(&space->cores_loaded, 1ULL << core->id, __ATOMIC_ACQ_REL);
}

/* Map without system call, for the boot loader: all frames must be there. E_OK or an error. */
int64_t space_map(struct space *space, struct cap *cap, uint64_t address, uint64_t bytes,
                  uint64_t offset, uint8_t flags);

/* The space ends: signal who watches it, and let it go (watch.c). */
void space_watch_end(struct core *core, struct space *space);

/* What can be done about a page fault. */
enum space_fault {
    SPACE_FAULT_RETRY,  /* the page is mapped now; it may go again at any moment */
    SPACE_FAULT_PAGER,  /* ask the pager of *memory for the page at *offset */
    SPACE_FAULT_NONE,   /* a real fault: nothing mapped there, not so, or no memory for tables */
    SPACE_FAULT_TABLE,  /* inside space.c: a page table more is there; look again */
    SPACE_FAULT_DEVICE, /* as RETRY, a device's: it has no frame in the direct map */
};
/*
 * `error` is the CPU's error code. For SPACE_FAULT_PAGER, *memory comes with a reference that the
 * caller gives back.
 */
enum space_fault space_fault(struct space *space, uint64_t address, uint64_t error,
                             struct memory **memory, uint64_t *offset);

/*
 * Physical address of a byte of user memory as it is mapped now, in the direct map; or 0: absent, a
 * device's, or read-only and `write`. For the long copy; valid until the space's lock is given to someone else.
 */
uint64_t space_user_frame(const struct space *space, uint64_t address, bool write);

#endif
