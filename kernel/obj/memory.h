/* SPDX-License-Identifier: MIT */
/*
 * Memory objects: what can be mapped. A mapping is made by a capability and lasts no longer than
 * it: who deletes or revokes the capability takes the memory out of every space that got it so. The
 * badge of a memory capability is the part of the object that it names (0 = all of it).
 */
#ifndef ONESTACK_OBJ_MEMORY_H
#define ONESTACK_OBJ_MEMORY_H

#include "kernel/abi/error.h"
#include "kernel/arch/paging.h"
#include "kernel/lib/tree.h"
#include "kernel/obj/object.h"

struct cap;
struct core;
struct endpoint;
struct thread;

enum memory_kind {
    MEMORY_ANONYMOUS, /* its own frames, all there before it can be mapped */
    MEMORY_PAGED,     /* its own frames, each supplied by the pager when it is missed */
    MEMORY_MODULE,    /* a boot module: frames that are not the allocator's */
    MEMORY_DEVICE     /* physical addresses that are not RAM */
};

struct memory {
    struct object object; /* its lock guards the frames until it ends, and the lists of mappings */
    uint8_t kind;         /* enum memory_kind */
    bool walking;         /* PAGED: a page is leaving (reclaim.c) */
    uint64_t bytes;       /* whole pages */
    union {
        uint64_t filled;  /* ANONYMOUS: so many are there and zeroed */
        uint64_t leaving; /* PAGED, walking: the page's offset */
    };
    union {
        uint64_t base;          /* MODULE, DEVICE: physical address of the first byte */
        struct mapping *cursor; /* PAGED, walking: from here on mappings may show that page */
    };
    struct mapping *mappings; /* all that there are; new ones come first */
    struct page_table frames; /* the others' frames by offset; levels 0: `root` is the only one */
    uint64_t freed;           /* when it has ended: so many bytes' frames have been given back */
    struct endpoint *pager;   /* PAGED: who is asked, or NULL; a reference is held */
    uint64_t pager_badge;     /* of the messages to it */
    struct object *reap_next; /* object.h */
};

_Static_assert(sizeof(struct memory) <= 128, "slab size");

/* One range of one space, to show a part of a memory object. */
struct mapping {
    struct tree_node node; /* in the space's tree; the key is the address; guarded by its lock */
    uint64_t bytes;
    uint64_t offset;       /* of the first byte, in the memory object */
    struct memory *memory; /* no reference: the capability's */
    struct space *space;
    struct mapping *cap_next;     /* list of the capability that it was made by, guarded */
    struct mapping **cap_link;    /* by the memory object's lock: where the pointer to us is */
    struct mapping *memory_next;  /* list of the memory object, likewise; what is shown changes */
    struct mapping **memory_link; /* under both locks */
    /*
     * Who has mapped it, NULL: the boot loader. It may have ended: this is only compared, by one in the middle of
     * a map, whose range was empty when it began. What has its name there is of that map.
     */
    const struct thread *maker;
    uint8_t flags;   /* MAP_* */
    uint8_t allowed; /* MAP_* that the capability's rights allow */
};

_Static_assert(sizeof(struct mapping) <= 128, "slab size");

/* Without any frame; NULL = no memory. `bytes` whole pages, at most MEMORY_BYTES_MAX. */
#define MEMORY_BYTES_MAX (1ULL << 47)
struct memory *memory_new(struct quota *quota, enum memory_kind kind, uint64_t bytes);
/*
 * ANONYMOUS: one page more; false = no memory, or the object has ended. Done when filled == bytes. Who has
 * guessed its handle may use it, or delete it, meanwhile.
 */
bool memory_fill_some(struct memory *memory);
/* A frame for one page of a PAGED object that has none there; false = no memory for tables. */
bool memory_put_frame(struct memory *memory, uint64_t offset, uint64_t frame);
/*
 * What stands in the place of a page of a PAGED object: its frame (PTE_ADDRESS of it) and what becomes
 * of it; 0 = nothing. The object's lock is held, as in the next two.
 */
#define PAGE_LEAVING 0x2ULL /* nobody finds it any more, some may still have it mapped */
#define PAGE_LEFT    0x4ULL /* nobody has */
uint64_t memory_place(const struct memory *memory, uint64_t offset);
void memory_mark(struct memory *memory, uint64_t offset, uint64_t mark); /* one of these, or 0 */
/* Out of the object: the caller's to free. */
uint64_t memory_take_frame(struct memory *memory, uint64_t offset);

/* The pages from some offset on, as far as one look tells. */
struct memory_run {
    uint64_t pages;          /* 0 = the first is absent */
    const uint64_t *entries; /* each one's frame (PTE_ADDRESS of it, 0 = absent), or NULL: */
    uint64_t page;           /* physical address of the first, the others follow it */
    bool large;              /* a whole large page begins there */
};
struct memory_run memory_run(const struct memory *memory, uint64_t offset);
/* Physical address of the page at `offset`, 0 = absent, leaving, or not yet filled; 0 if the object ends. */
uint64_t memory_page(const struct memory *memory, uint64_t offset);
/* Why there is none that could be read or written. */
static inline int64_t memory_refusal(const struct memory *memory)
{
    return memory->object.dying ? E_DEAD : E_INVAL;
}
/* For one look; the object's lock is not held. */
uint64_t memory_page_now(struct memory *memory, uint64_t offset);

/* The part of its object that a capability names, in bytes. */
void memory_cap_range(const struct cap *cap, uint64_t *first, uint64_t *bytes);
/* For sys_range_slice: a capability for bytes `first` .. `first + count` of what `cap` names. */
int64_t memory_slice(struct thread *self, struct cap *cap, uint64_t first, uint64_t count);

/*
 * For cap.c, each time a slot with a memory capability is emptied, without locks held, while the
 * slot still names the object but is no longer found: unmap what it mapped. False: a preemption point
 * was reached, call again.
 */
bool memory_cap_gone(struct core *core, struct cap *cap);
/* For cap.c, under the object's lock: the capability now lives in slot `to`. */
void memory_cap_moved(struct cap *to, struct cap *from);

#endif
