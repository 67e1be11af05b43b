/* SPDX-License-Identifier: MIT */
/* What the memory objects and mappings need of the rest of the kernel, for test_mapping.py. */
#include "kernel/debug/panic.h"
#include "kernel/mm/frames.h"
#include "kernel/mm/init.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/endpoint.h"
#include "kernel/obj/mapping.h"
#include "kernel/obj/notification.h"
#include "kernel/obj/quota.h"
#include "kernel/obj/window.h"
#include "kernel/syscall.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES     8192 /* physical memory; test_mapping.py knows */
#define ALL_RIGHTS 0x1e0003

uint64_t host_memory;
static struct page_frame table[FRAMES];
static struct quota *account;
static struct core core;
static struct thread threads[4], *running;
#define self (*running)
static struct space *space;
static struct cap caps[64];
#define SLOT(n) ((n) * sizeof(struct cap)) /* as a handle names it */
static struct endpoint pager;
static uint32_t state = 1;
static int patience; /* continuations that the thread comes to before it ends, in one call */
static int chance;   /* preemption is wanted once in so many looks, 0 = never */

/* What the files under test need of the rest, as simple as can be. */
void panic(const char *format, ...)
{
    (void)format;
    abort();
}
static void tick(void)
{
    state = state * 1664525 + 1013904223;
    core.pending = chance != 0 && (state >> 8) % (unsigned)chance == 0;
}
void object_init(struct object *object, enum object_type type, struct quota *quota)
{
    object->type = (uint8_t)type;
    object->references = 1;
    object->quota = quota;
}
void object_ref(struct object *object)
{
    object->references++;
}
bool object_try_ref(struct object *object)
{
    object->references++;
    return true;
}
void *object_alloc(struct quota *quota, size_t size)
{
    return kmem_alloc(quota, size);
}
void object_unref(struct object *object)
{
    if (--object->references == 0) {
        size_t size = sizeof(struct quota);
        if (object->type == OBJ_MEMORY) {
            memory_free(object);
            size = sizeof(struct memory);
        } else if (object->type == OBJ_SPACE) {
            size = sizeof(struct space);
        }
        kmem_free(object->quota, object, size);
    }
}
void object_end(struct thread *thread, struct object *object)
{
    (void)thread;
    object->dying = true;
}
int64_t reap(struct core *c, struct thread *thread, int64_t result)
{
    (void)c, (void)thread;
    return result;
}
int cap_insert(struct space *to, struct object *object, uint32_t rights, uint64_t badge,
               struct cap *parent, cap_t parent_handle, cap_t *handle)
{
    (void)to, (void)parent, (void)parent_handle;
    for (uint64_t i = 1; i < 64; i++) {
        if (caps[i].object == NULL) {
            caps[i] = (struct cap){.handle = SLOT(i), .object = object, .rights = rights};
            caps[i].badge = badge;
            object->cap_count++;
            *handle = caps[i].handle;
            return 0;
        }
    }
    return E_NOMEM;
}
uint32_t cap_type_rights(enum object_type type)
{
    (void)type;
    return ALL_RIGHTS;
}
int64_t cap_publish(struct thread *thread, struct object *object)
{
    return cap_insert(space, object, ALL_RIGHTS, 0, NULL, 0, &thread->frame.rdx);
}
int cap_error(const struct space *s, cap_t handle, enum object_type type)
{
    (void)s, (void)handle, (void)type;
    return E_BADCAP;
}
bool cap_remove(struct core *c, struct thread *thread, struct cap *cap, cap_t handle)
{
    struct object *object = cap->object;
    (void)handle;
    cap->rights = 0;
    while (!memory_cap_gone(c, cap)) {
        tick();
    }
    cap->object = NULL;
    cap->handle = 0;
    if (--object->cap_count == 0) {
        while (!memory_destroy(c, thread, object)) {
            tick();
        }
        object_unref(object);
    }
    return true;
}
bool cap_table_empty(struct core *c, struct thread *t, struct space *s)
{
    (void)c, (void)t, (void)s;
    return true;
}
bool window_open(struct space *s)
{
    (void)s;
    return true;
}
void window_close(struct space *s)
{
    (void)s;
}
bool window_shrink(struct space *s)
{
    (void)s;
    return false;
}
bool thread_quit(struct core *c, struct thread *t, struct thread *o)
{
    (void)c, (void)t, (void)o;
    return true;
}
void space_watch_end(struct core *c, struct space *s)
{
    (void)c, (void)s;
}
/* There is one core: nothing waits. */
bool grace_pending(void)
{
    return false;
}
int64_t grace_wait(struct thread *thread, continuation_fn *then)
{
    (void)thread, (void)then;
    abort();
}
void tlb_invalidate(struct space *s, uint64_t address, uint64_t pages)
{
    (void)s, (void)address, (void)pages;
}
void page_root_leave(struct space *s)
{
    (void)s;
}
bool device_memory_allowed(uint64_t base, uint64_t bytes)
{
    (void)base;
    return bytes != 0;
}
static int restarted;
void syscall_restart(struct core *c, struct thread *thread)
{
    (void)c, (void)thread;
    restarted = 1;
}

void start(uint64_t bytes, int chance_of_preemption);
void start(uint64_t bytes, int chance_of_preemption)
{
    static void *block;
    if (!block) {
        block = aligned_alloc(1 << 21, FRAMES * PAGE_SIZE);
    }
    chance = chance_of_preemption;
    state = 1; /* the same every time */
    patience = 0;
    core.pending = 0;
    host_memory = (uint64_t)block;
    memset(block, 0xa5, FRAMES * PAGE_SIZE);
    while (frames_take(0) != 0) { /* what the last run left */
    }
    memset(table, 0, sizeof(table));
    frames_init(table, FRAMES);
    frames_add(PAGE_SIZE, (FRAMES - 1) * PAGE_SIZE);
    memset(caps, 0, sizeof(caps));
    memset(&root_quota, 0, sizeof(root_quota));
    root_quota.object.references = 1;
    root_quota.limit = (FRAMES - 1) * PAGE_SIZE;
    kernel_table.root = frame_alloc(&root_quota, 0);
    account = kmem_alloc(&root_quota, sizeof(*account));
    object_init(&account->object, OBJ_QUOTA, &root_quota);
    account->limit = bytes;
    space = space_new(account, account);
    space->caps = caps;
    space->cap_limit = 64;
    memset(threads, 0, sizeof(threads));
    for (unsigned i = 0; i < sizeof(threads) / sizeof(threads[0]); i++) {
        threads[i].space = space;
    }
    running = threads;
    caps[1] = (struct cap){.handle = SLOT(1), .object = &account->object, .rights = ~0u};
    caps[2] = (struct cap){.handle = SLOT(2), .object = &space->object, .rights = ~0u};
    pager.object.references = 1;
    caps[3] = (struct cap){.handle = SLOT(3), .object = &pager.object, .rights = ~0u};
    caps[3].badge = 77;
}
bool stop(void);
bool stop(void) /* true while there is more to do */
{
    space->caps = NULL;
    object_ref(&space->object);
    bool done = space_destroy(&core, &self, &space->object);
    object_unref(&space->object);
    tick();
    if (done) {
        object_unref(&space->object);
    } else {
        space->caps = caps;
    }
    return !done;
}
uint64_t used(void);
uint64_t used(void)
{
    return account->used;
}
uint64_t limit(uint64_t bytes);
uint64_t limit(uint64_t bytes)
{
    uint64_t old = account->limit;
    account->limit = bytes;
    return old;
}

void give_up_after(int steps);
void give_up_after(int steps)
{
    patience = steps;
}

static uint64_t greatest; /* bytes that the last call took from one look to the next */
uint64_t greatest_step(void);
uint64_t greatest_step(void)
{
    return greatest;
}

typedef int64_t call_fn(struct core *c, struct thread *t);

/* Continuations, until the call has come to its end or is given up. */
static int64_t finish(call_fn *function, int64_t result)
{
    while (result == BLOCKED && patience-- > 0) {
        continuation_fn *next = self.continuation;
        uint64_t before = account->used;
        self.continuation = NULL;
        tick();
        next(&core, &self);
        if (account->used > before + greatest) {
            greatest = account->used - before;
        }
        result = self.continuation ? BLOCKED : (int64_t)self.frame.rax;
        if (restarted) {
            restarted = 0;
            result = function(&core, &self);
        }
    }
    patience = 0;
    return result;
}
int64_t call(call_fn *function, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4);
int64_t call(call_fn *function, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4)
{
    self.frame.rsi = a0, self.frame.rdx = a1, self.frame.r8 = a2;
    self.frame.r9 = a3, self.frame.r10 = a4;
    tick();
    if (patience <= 0) {
        patience = INT_MAX;
    }
    uint64_t first = account->used;
    int64_t result = function(&core, &self);
    greatest = account->used > first ? account->used - first : 0;
    return finish(function, result);
}
/* The thread whose last call has been given up. Other calls are another one's, */
struct thread *keep(void);
struct thread *keep(void)
{
    struct thread *kept = running;
    running = &threads[(unsigned)(running - threads + 1) % (sizeof(threads) / sizeof(threads[0]))];
    return kept;
}
/* until it goes on to the end of that call. */
int64_t go_on(struct thread *from, call_fn *function);
int64_t go_on(struct thread *from, call_fn *function)
{
    running = from;
    patience = INT_MAX;
    return finish(function, BLOCKED);
}
/* Another core, while this one is at its n-th lock from now, not counting those inside others. */
static unsigned locks_left, locks_held;
static void (*meanwhile)(void);
void at_lock(unsigned number, void (*others)(void));
void at_lock(unsigned number, void (*others)(void))
{
    locks_left = number;
    meanwhile = others;
}
void lock_wanted(const struct lock *lock)
{
    (void)lock;
    if (locks_held == 0 && locks_left != 0 && --locks_left == 0) {
        int left = patience;
        struct thread *kept = keep();
        meanwhile();
        running = kept;
        patience = left;
    }
}
void lock_taken(const struct lock *lock)
{
    (void)lock;
    locks_held++;
}
void lock_given(const struct lock *lock)
{
    (void)lock;
    locks_held--;
}
uint64_t rdx(void);
uint64_t rdx(void)
{
    return self.frame.rdx;
}
int64_t drop(uint64_t handle);
int64_t drop(uint64_t handle)
{
    return cap_remove(&core, &self, cap_slot(caps, handle), handle);
}
uint64_t copy(uint64_t handle, uint32_t rights);
uint64_t copy(uint64_t handle, uint32_t rights)
{
    cap_t new = 0;
    cap_insert(space, cap_slot(caps, handle)->object, rights, cap_slot(caps, handle)->badge, NULL,
               0, &new);
    return new;
}
uint64_t move(uint64_t handle);
uint64_t move(uint64_t handle)
{
    uint64_t new = copy(handle, cap_slot(caps, handle)->rights);
    memory_cap_moved(cap_slot(caps, new), cap_slot(caps, handle));
    cap_slot(caps, handle)->object->cap_count--;
    cap_slot(caps, handle)->object = NULL;
    cap_slot(caps, handle)->handle = 0;
    return new;
}
int64_t slice(uint64_t handle, uint64_t first, uint64_t count);
int64_t slice(uint64_t handle, uint64_t first, uint64_t count)
{
    self.frame.rsi = handle;
    return memory_slice(&self, cap_slot(caps, handle), first, count);
}
/* A physical address that it is not, unless a machine check there finds the object, too. */
uint64_t page_of(uint64_t handle, uint64_t offset);
uint64_t page_of(uint64_t handle, uint64_t offset)
{
    const struct cap *cap = cap_slot(caps, handle);
    struct memory *memory = (struct memory *)cap->object;
    uint64_t first, bytes, at = 0;
    memory_cap_range(cap, &first, &bytes);
    uint64_t page = memory_page(memory, first + offset);
    bool owned = page && memory->kind != MEMORY_DEVICE;
    return !owned || (frame_owner(page + 5, &at) == memory && at == first + offset + 5) ? page : 3;
}
uint64_t owned_frames(void);
uint64_t owned_frames(void)
{
    uint64_t count = 0, at;
    for (uint64_t i = 0; i < FRAMES; i++) {
        count += frame_owner(i * PAGE_SIZE, &at) != NULL;
    }
    return count;
}
int fault(uint64_t address, uint64_t error);
int fault(uint64_t address, uint64_t error)
{
    struct memory *memory;
    uint64_t offset;
    enum space_fault what = space_fault(space, address, error, &memory, &offset);
    if (what == SPACE_FAULT_PAGER) {
        object_unref(&memory->object);
    }
    return what;
}
void cut_once(uint64_t address);
void cut_once(uint64_t address)
{
    mapping_cut_some(mapping_from(space, address), USER_END);
}
/* Everything that is mapped there: physical | writable << 1 | executable << 2, 0 = nothing. */
void translate(uint64_t address, uint64_t pages, uint64_t *out);
void translate(uint64_t address, uint64_t pages, uint64_t *out)
{
    struct page_table pt = space_table(space);
    for (uint64_t i = 0; i < pages; i++, address += PAGE_SIZE) {
        unsigned level;
        uint64_t entry = *page_find(&pt, address, &level);
        out[i] = space_user_frame(space, address, false);
        if (out[i] != 0) {
            out[i] |= (entry & PTE_WRITE ? 2 : 0) | (entry & PTE_NX ? 0 : 4);
            if ((space_user_frame(space, address, true) != 0) != ((entry & PTE_WRITE) != 0)) {
                out[i] = ~0ULL;
            }
        }
    }
}
