/* SPDX-License-Identifier: MIT */
/*
 * What cap.c, cap_calls.c and object.c need of the rest of the kernel, and how test_cap.py drives
 * them: one thread in each of a few spaces, windows of the host's memory, destroy functions that count.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernel/grace.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/endpoint.h"
#include "kernel/obj/irq.h"
#include "kernel/obj/memory.h"
#include "kernel/obj/notification.h"
#include "kernel/obj/quota.h"
#include "kernel/obj/thread.h"
#include "kernel/syscall.h"

#define SPACES 4

uint64_t host_memory; /* nothing here uses the direct map */
struct quota root_quota;

static struct core core;
static struct space spaces[SPACES];
static struct thread threads[SPACES];
static unsigned pages_left[SPACES];
static unsigned unmap_steps; /* that each memory capability takes to go */
static unsigned steps_done;
static uint64_t live_bytes;
static unsigned destroyed;

/* --- the kernel's other files --- */

void *kmem_alloc(struct quota *quota, size_t size)
{
    (void)quota;
    live_bytes += size;
    return calloc(1, size);
}

void kmem_free(struct quota *quota, void *memory, size_t size)
{
    (void)quota;
    live_bytes -= size;
    free(memory);
}

/* With `looking` another core may hold pointers to slots until collect(); to objects none does. */
static bool looking;
static struct cap *garbage;
static uint64_t collections;

bool grace_hold_object(struct core *at, struct object *object)
{
    (void)at, (void)object;
    return false;
}

bool grace_hold_slot(struct core *at, struct cap *slot)
{
    (void)at;
    if (looking) {
        slot->next = garbage;
        garbage = slot;
    }
    return looking;
}

void collect(void);
void collect(void)
{
    collections++;
    while (garbage) {
        struct cap *slot = garbage;

        garbage = slot->next;
        cap_slot_free(slot);
    }
}

bool space_grow_caps(struct space *space)
{
    return pages_left[space - spaces] > 0 && pages_left[space - spaces]--;
}

bool memory_cap_gone(struct core *at, struct cap *cap)
{
    (void)at, (void)cap;
    if (steps_done++ < unmap_steps) {
        return false;
    }
    steps_done = 0;
    return true;
}

void memory_cap_moved(struct cap *to, struct cap *from)
{
    (void)to, (void)from;
}

void irq_cap_gone(struct core *at, struct cap *cap)
{
    (void)at, (void)cap;
}

void irq_cap_moved(struct cap *to, struct cap *from)
{
    (void)to, (void)from;
}

#define DESTROY(name)                                                                \
    bool name##_destroy(struct core *at, struct thread *self, struct object *object) \
    {                                                                                \
        (void)at, (void)self, (void)object;                                          \
        destroyed++;                                                                 \
        return true;                                                                 \
    }
DESTROY(thread)
DESTROY(endpoint)
DESTROY(notification)
DESTROY(reply)
DESTROY(memory)

bool space_destroy(struct core *at, struct thread *self, struct object *object)
{
    collect();
    if (!cap_table_empty(at, self, (struct space *)object)) {
        return false;
    }
    destroyed++;
    return true;
}

void memory_free(struct object *object)
{
    (void)object;
}

void space_free(struct object *object)
{
    (void)object;
}

void quota_free(struct object *object)
{
    (void)object;
}

void thread_finish(struct core *at, struct thread *self)
{
    (void)at, (void)self;
}

/* --- for the test --- */

void start(unsigned pages, unsigned memory_steps, bool others_look);
int64_t call(unsigned space, unsigned number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
             bool preempt);
int64_t create(unsigned space, unsigned type);
uint64_t second(unsigned space);
uint64_t space_cap(unsigned space, unsigned of);
const struct cap *slot_of(unsigned space, uint64_t handle);
int64_t look(unsigned space, uint64_t handle, uint64_t *badge, uint64_t *rights, void **object);
int tree(struct object *object, uint64_t *handles, uint64_t *where, int *depths, int room);
uint64_t figure(unsigned which);

void start(unsigned pages, unsigned memory_steps, bool others_look)
{
    collect();
    for (unsigned i = 0; i < SPACES; i++) {
        if (!spaces[i].caps) {
            void *block = mmap(NULL, 2UL * CAP_WINDOW_SIZE, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            spaces[i].caps = (struct cap *)(((uint64_t)block + CAP_WINDOW_SIZE - 1) &
                                            ~(uint64_t)(CAP_WINDOW_SIZE - 1));
        }
        struct cap *caps = spaces[i].caps;
        memset(caps, 0, spaces[i].cap_limit * sizeof(struct cap));
        memset(&spaces[i], 0, sizeof(spaces[i]));
        memset(&threads[i], 0, sizeof(threads[i]));
        spaces[i].caps = caps;
        spaces[i].object.type = OBJ_SPACE;
        spaces[i].object.references = 1 << 20; /* static: never freed */
        threads[i].space = &spaces[i];
        pages_left[i] = pages;
    }
    root_quota.object.references = 1 << 20;
    unmap_steps = memory_steps;
    looking = others_look;
    steps_done = destroyed = 0;
    live_bytes = 0;
}

/* As the dispatcher does: continuations until the call has its result. */
static int64_t finish(struct thread *self, int64_t result)
{
    while (result == BLOCKED) {
        continuation_fn *next = self->continuation;

        if (!next) {
            abort();
        }
        self->continuation = NULL;
        collect(); /* the other core has been at its outermost level's end */
        next(&core, self);
        result = self->continuation ? BLOCKED : (int64_t)self->frame.rax;
    }
    return result;
}

int64_t call(unsigned space, unsigned number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
             bool preempt)
{
    struct thread *self = &threads[space];
    int64_t result = E_NOSYS;

    core.pending = preempt;
    self->frame.rax = number;
    self->frame.rsi = a0;
    self->frame.rdx = a1;
    self->frame.r8 = a2;
    self->frame.r9 = a3;
    switch (number) {
    case SYS_cap_copy:
        result = sys_cap_copy(&core, self);
        break;
    case SYS_cap_move:
        result = sys_cap_move(&core, self);
        break;
    case SYS_cap_delete:
        result = sys_cap_delete(&core, self);
        break;
    case SYS_cap_revoke:
        result = sys_cap_revoke(&core, self);
        break;
    case SYS_cap_info:
        result = sys_cap_info(&core, self);
        break;
    case SYS_space_end: /* of `space` itself, by its own thread, which here survives it */
        object_end(self, &spaces[space].object);
        result = reap(&core, self, E_OK);
        break;
    default:
        break;
    }
    return finish(self, result);
}

int64_t create(unsigned space, unsigned type)
{
    size_t size = sizeof(struct notification);
    if (type != OBJ_NOTIFICATION) {
        size = type == OBJ_MEMORY ? sizeof(struct memory) : sizeof(struct endpoint);
    }
    struct object *object = object_alloc(&root_quota, size);

    object_init(object, type, &root_quota);
    return cap_publish(&threads[space], object);
}

uint64_t second(unsigned space)
{
    return threads[space].frame.rdx;
}

/* A capability for space `of` in space `space`; 0 = no room. */
uint64_t space_cap(unsigned space, unsigned of)
{
    cap_t handle = 0;

    cap_insert(&spaces[space], &spaces[of].object, cap_type_rights(OBJ_SPACE), 0, NULL, 0, &handle);
    return handle;
}

/* What another core that looks the handle up now goes on with. */
const struct cap *slot_of(unsigned space, uint64_t handle)
{
    return cap_find(&spaces[space], handle, ~0U);
}

int64_t look(unsigned space, uint64_t handle, uint64_t *badge, uint64_t *rights, void **object)
{
    const struct cap *cap = cap_lookup(&spaces[space], handle);

    if (!cap) {
        return -1;
    }
    *badge = cap->badge;
    *rights = cap->rights;
    *object = cap->object;
    for (unsigned bit = 0; bit < 32; bit++) {
        bool found = cap_find(&spaces[space], handle, 1U << bit) != NULL;

        if (found != (cap->rights >> bit & 1)) {
            abort();
        }
    }
    return cap->object->type;
}

static bool last(const struct cap *cap)
{
    return (uint64_t)cap->next & 1;
}

/* Preorder; -1 if a link is not as cap.h says. Recursive: the test's trees are small. */
static int list(struct cap **head, int depth, uint64_t *handles, uint64_t *where, int *depths,
                int room)
{
    int count = 0;

    for (struct cap *cap = *head; cap; cap = last(cap) ? NULL : cap->next) {
        if (count == room || (last(cap) && (uint64_t)cap->next != ((uint64_t)head | 1)) ||
            (last(cap) && (*head)->prev != cap) || (!last(cap) && cap->next->prev != cap)) {
            return -1;
        }
        handles[count] = cap->handle;
        where[count] = (uint64_t)(cap_space(cap) - spaces);
        depths[count++] = depth;
        int below = list(&cap->child, depth + 1, handles + count, where + count, depths + count,
                         room - count);
        if (below < 0) {
            return -1;
        }
        count += below;
    }
    return count;
}

int tree(struct object *object, uint64_t *handles, uint64_t *where, int *depths, int room)
{
    int count = list(&object->caps, 0, handles, where, depths, room);

    return count == (int)object->cap_count ? count : -1;
}

uint64_t figure(unsigned which)
{
    return which == 0           ? live_bytes
           : which == 1         ? destroyed
           : which < 2 + SPACES ? spaces[which - 2].cap_used
                                : collections;
}
