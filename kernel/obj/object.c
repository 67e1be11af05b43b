/* SPDX-License-Identifier: MIT */
/* Life and death of objects: references, the list of what has yet to be destroyed, freeing. */
#include "kernel/obj/object.h"

#include "kernel/arch/entry.h"
#include "kernel/grace.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/endpoint.h"
#include "kernel/obj/memory.h"
#include "kernel/obj/notification.h"
#include "kernel/obj/quota.h"
#include "kernel/obj/reply.h"
#include "kernel/obj/thread.h"
#include "kernel/syscall.h"

#define TAKE_STEP 32

/* Where the list runs through objects that end with their last capability only: the tree is empty. */
#define LINK_IN_TREE offsetof(struct object, caps)

static const struct object_ops ops[OBJ_TYPE_COUNT] = {
    [OBJ_THREAD] = {0 /* THREAD_MEMORY */, offsetof(struct thread, reap_next), thread_destroy,
                    NULL},
    [OBJ_SPACE] = {sizeof(struct space), offsetof(struct space, reap_next), space_destroy, NULL},
    [OBJ_ENDPOINT] = {sizeof(struct endpoint), offsetof(struct endpoint, reap_next),
                      endpoint_destroy, NULL},
    [OBJ_NOTIFICATION] = {sizeof(struct notification), LINK_IN_TREE, notification_destroy, NULL},
    [OBJ_REPLY] = {sizeof(struct reply), LINK_IN_TREE, reply_destroy, NULL},
    [OBJ_MEMORY] = {sizeof(struct memory), offsetof(struct memory, reap_next), memory_destroy,
                    memory_free},
    [OBJ_IRQ] = {0, LINK_IN_TREE, NULL, NULL},     /* there is one, static */
    [OBJ_IOPORTS] = {0, LINK_IN_TREE, NULL, NULL}, /* there is one, static */
    [OBJ_QUOTA] = {sizeof(struct quota), LINK_IN_TREE, NULL, quota_free},
};

void object_init(struct object *object, enum object_type type, struct quota *quota)
{
    object->type = (uint8_t)type;
    object->references = 1;
    object->quota = quota;
}

void *object_alloc(struct quota *quota, size_t size)
{
    void *memory;

    if (!object_try_ref(&quota->object)) {
        return NULL;
    }
    memory = kmem_alloc(quota, size);
    if (!memory) {
        object_unref(&quota->object);
    }
    return memory;
}

void object_ref(struct object *object)
{
    __atomic_fetch_add(&object->references, 1, __ATOMIC_RELAXED);
}

bool object_try_ref(struct object *object)
{
    uint32_t references = __atomic_load_n(&object->references, __ATOMIC_RELAXED);

    do {
        if (references == 0) {
            return false;
        }
    } while (!__atomic_compare_exchange_n(&object->references, &references, references + 1, true,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    return true;
}

struct object *object_free(struct object *object)
{
    struct quota *quota = object->quota;

    if (object->type == OBJ_THREAD) {
        kmem_free(quota, (uint8_t *)object - ENTRY_THREAD_EXTRA, THREAD_MEMORY);
    } else {
        kmem_free(quota, object, ops[object->type].size);
    }
    return &quota->object;
}

/* Freeing one gives back its reference to its account, which may be the last, and so on up. */
void object_unref(struct object *object)
{
    while (__atomic_sub_fetch(&object->references, 1, __ATOMIC_ACQ_REL) == 0 && object->quota) {
        if (ops[object->type].release) {
            ops[object->type].release(object);
        }
        if (grace_hold_object(core_here(), object)) {
            return;
        }
        object = object_free(object);
    }
}

static struct object **reap_link(struct object *object)
{
    return (struct object **)((char *)object + ops[object->type].reap_link);
}

void object_end(struct thread *self, struct object *object)
{
    lock_acquire(&object->lock);
    bool ended = object->dying;

    if (!ended) {
        object_ref(object); /* the list's: once it is dying, others may take theirs away */
        object->dying = true;
    }
    lock_release(&object->lock);
    if (ended) {
        return;
    }
    *reap_link(object) = self->reap;
    self->reap = object;
}

bool object_take_some(struct thread *self, struct thread *other)
{
    for (unsigned i = 0; i < TAKE_STEP && other->reap; i++) {
        struct object *object = other->reap;
        struct object **link = reap_link(object);

        other->reap = *link;
        *link = self->reap;
        self->reap = object;
    }
    return !other->reap;
}

/* What destroying one object ends comes before the rest of it. */
bool reap_some(struct core *core, struct thread *self)
{
    while (self->reap) {
        struct object *object = self->reap;
        struct object **link = reap_link(object);

        self->reap = *link;
        *link = NULL;
        if (!ops[object->type].destroy || ops[object->type].destroy(core, self, object)) {
            object_unref(object);
        } else {
            *link = self->reap;
            self->reap = object;
        }
        if (self->reap && (self->state == THREAD_MOVING || preemption_wanted(core))) {
            return false;
        }
    }
    return true;
}

static void reap_continue(struct core *core, struct thread *self)
{
    if (!reap_some(core, self)) {
        self->continuation = reap_continue;
    } else if (self->flags & THREAD_FLAG_ENDING) {
        thread_finish(core, self);
    }
}

int64_t reap(struct core *core, struct thread *self, int64_t result)
{
    self->frame.rax = (uint64_t)result;
    reap_continue(core, self);
    return self->continuation ? BLOCKED : result;
}
