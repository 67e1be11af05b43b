/* SPDX-License-Identifier: MIT */
#include "kernel/broken.h"

#include "kernel/abi/fault.h"
#include "kernel/arch/entry.h"
#include "kernel/arch/mcheck.h"
#include "kernel/fault.h"
#include "kernel/mail.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/mapping.h"
#include "kernel/sched.h"
#include "kernel/syscall.h"

/* A machine check is worked on in one go, so what it looks at is bounded. */
#define MAPPINGS_MOST 64 /* of the memory object: what is further down its list is passed over */
#define SPACES_MOST   8  /* told of one page */
#define THREADS_MOST  32 /* looked at, of a space, for one that can tell soon */

/* Who shows the page, and where. A reference is held. */
struct place {
    struct space *space;
    uint64_t address;
};

static bool has(const struct place *places, unsigned count, const struct space *space)
{
    while (count > 0) {
        if (places[--count].space == space) {
            return true;
        }
    }
    return false;
}

/* A space that shows it twice hears of one place. */
static unsigned find_places(struct memory *memory, uint64_t offset,
                            struct place places[SPACES_MOST])
{
    const struct mapping *mapping;
    unsigned looks = 0, count = 0;

    lock_acquire(&memory->object.lock);
    for (mapping = memory->mappings;
         mapping != NULL && looks < MAPPINGS_MOST && count < SPACES_MOST;
         mapping = mapping->memory_next, looks++) {
        if (mapping_shows(mapping, offset) && !has(places, count, mapping->space)) {
            object_ref(&mapping->space->object); /* its mapping keeps it alive only so long */
            places[count++] = (struct place){mapping->space,
                                             mapping->node.key + (offset - mapping->offset)};
        }
    }
    lock_release(&memory->object.lock);
    return count;
}

/* ---- the message ---- */

/* A continuation of a thread that was on its way to user mode; its words are the message's. */
static void send(struct core *core, struct thread *self)
{
    struct endpoint *endpoint = self->space->fault_endpoint;

    if ((!endpoint || !fault_send(core, self, endpoint)) && self->words[2]) {
        thread_end_itself(core, self);
    }
}

static void prepare(struct thread *thread, uint64_t status, uint64_t address, bool required)
{
    thread->words[0] = status;
    thread->words[1] = address;
    thread->words[2] = required;
    thread->words[3] = FAULT_MACHINE_CHECK;
    thread->continuation = send;
}

/* In user mode, or with nothing left to do but to go there. */
static bool is_leaving(const struct thread *thread)
{
    return thread->state == THREAD_READY && !thread->continuation;
}

void broken_tell(struct thread *thread)
{
    struct space *space = thread->space;

    thread->flags |= THREAD_FLAG_TELLS;
    if (!space || !is_leaving(thread)) {
        return;
    }
    thread->flags &= (uint16_t)~THREAD_FLAG_TELLS;
    lock_acquire(&space->object.lock);
    uint64_t status = space->broken_status, address = space->broken_address;

    space->broken_status = 0;
    lock_release(&space->object.lock);
    if (status) {
        prepare(thread, status, address, false);
    }
}

/* ---- who brings it ---- */

/*
 * The space's lock is held. One that is ready, if there is one; else one that waits, which is none the
 * worse for it: it touches nothing before. What other cores' threads do may change while we look.
 */
static struct thread *find_teller(const struct space *space)
{
    struct thread *found = NULL, *thread = space->threads;

    for (unsigned looks = 0; thread && looks < THREADS_MOST; looks++) {
        if (thread->state != THREAD_INACTIVE && thread->state != THREAD_DEAD) {
            found = thread;
            if (thread_runnable(thread)) {
                break;
            }
        }
        thread = thread->space_next;
    }
    return found;
}

static void tell(struct core *core, const struct place *place, uint64_t status)
{
    struct thread *teller = entry_current(core);
    struct space *space = place->space;

    lock_acquire(&space->object.lock);
    if (teller->space != space) {
        teller = find_teller(space);
    }
    if (teller) {
        space->broken_status = status;
        space->broken_address = place->address;
        object_ref(&teller->object); /* it is in the list, so it has one */
    }
    lock_release(&space->object.lock);
    if (!teller) {
        return; /* it is ending, or has not begun */
    }
    if (teller->core == core) {
        broken_tell(teller);
    } else {
        mail_post(teller, MAIL_BROKEN);
    }
    object_unref(&teller->object);
}

void broken_report(struct core *core, const struct mcheck_record *record)
{
    struct thread *self = entry_current(core);
    struct place places[SPACES_MOST];
    struct memory *memory = NULL;
    uint64_t offset, address = 0;
    unsigned count = 0;

    if (!(record->status & MCHECK_STATUS_UNCORRECTED)) {
        return;
    }
    if (record->status & MCHECK_STATUS_ADDRESS) {
        memory = frame_owner(record->address, &offset);
    }
    if (memory) {
        count = find_places(memory, offset, places);
    }
    /* In the middle of a call it has used no broken memory: that would have been fatal. */
    bool required = record->user && mcheck_required(record) && self->space && is_leaving(self);

    for (unsigned i = 0; i < count; i++) {
        if (required && places[i].space == self->space) {
            address = places[i].address;
        } else {
            tell(core, &places[i], record->status);
        }
        object_unref(&places[i].space->object);
    }
    if (required) {
        prepare(self, record->status, address, true);
    }
}
