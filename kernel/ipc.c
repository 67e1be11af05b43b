/* SPDX-License-Identifier: MIT */
#include "kernel/ipc.h"

#include "kernel/abi/message.h"
#include "kernel/fault.h"
#include "kernel/inherit.h"
#include "kernel/lib/string.h"
#include "kernel/mail.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/cap.h"
#include "kernel/obj/endpoint.h"
#include "kernel/obj/reply.h"
#include "kernel/sched.h"
#include "kernel/syscall.h"
#include "kernel/timer.h"

/* A driver's words, while THREAD_FLAG_DRIVES. */
#define PEER(driver)    ((driver)->words[0]) /* the other thread (ipc_partner()); 0: it has left */
#define DONE(driver)    ((driver)->words[1]) /* bytes copied */
#define SENDS(driver)   ((driver)->words[2]) /* the driver is the sender */
#define OUTCOME(driver) ((driver)->words[3]) /* why the other one left */

enum step { STEP_DONE, STEP_BLOCKED, STEP_FAILED, STEP_LEFT };

static void transfer_continue(struct core *core, struct thread *driver);

/* ---- user memory of either side ---- */

/* Where a piece of user memory is in the direct map; for as long as the space's lock is held. */
static void *user_piece(struct thread *thread, uint64_t address, bool write)
{
    uint64_t physical = 0;

    if (address >= USER_BASE && address < USER_END) {
        physical = space_user_frame(thread->space, address, write);
    }
    return physical ? phys_to_virt(physical) : NULL;
}

/* Where a copy goes on. If it does not, a page is missing there. */
struct place {
    struct thread *whose;
    uint64_t address;
    bool write;
};

/* Have the page brought, or learn that it cannot be. */
static enum step user_missing(struct core *core, struct thread *driver, const struct place *place)
{
    uint64_t error = 4 | (place->write ? 2 : 0);

    if (place->address < USER_BASE || place->address >= USER_END) {
        return STEP_FAILED;
    }
    return fault_to_pager(core, driver, place->whose->space, place->address, error,
                          transfer_continue)
               ? STEP_BLOCKED
               : STEP_FAILED;
}

static uint64_t page_rest(uint64_t address)
{
    return PAGE_SIZE - address % PAGE_SIZE;
}

/* Between a thread's memory and the kernel's: small things, struct message and its fields. False: see place. */
static bool user_copy(struct place *place, void *kernel, uint64_t bytes)
{
    struct lock *lock = &place->whose->space->object.lock;
    bool there = true;

    while (bytes && there) {
        uint64_t part = page_rest(place->address) < bytes ? page_rest(place->address) : bytes;

        lock_acquire(lock);
        void *piece = user_piece(place->whose, place->address, place->write);

        there = piece != NULL;
        if (there) {
            memcpy(place->write ? piece : kernel, place->write ? kernel : piece, part);
            kernel = (char *)kernel + part;
            place->address += part;
            bytes -= part;
        }
        lock_release(lock);
    }
    return there;
}

/* ---- the parts of a message beyond its words ---- */

static bool has_message(const struct thread *thread)
{
    return ARG1(thread) & INFO_EXTRA && ARG2(thread) != 0;
}

/* The thread's struct message; for one that gave none, one with room for nothing. */
static enum step get_message(struct core *core, struct thread *driver, struct thread *whose,
                             struct message *message)
{
    struct place place = {whose, ARG2(whose), false};

    memset(message, 0, sizeof(*message));
    if (!has_message(whose) || user_copy(&place, message, sizeof(*message))) {
        return STEP_DONE;
    }
    return user_missing(core, driver, &place);
}

/* Two spaces' locks, the lower address first. */
static void lock_both(struct thread *a, struct thread *b)
{
    struct lock *first = &a->space->object.lock, *second = &b->space->object.lock;

    if (first > second) {
        struct lock *higher = first;

        first = second;
        second = higher;
    }
    lock_acquire(first);
    if (first != second) {
        lock_acquire(second);
    }
}

static void release_both(struct thread *a, struct thread *b)
{
    lock_release(&a->space->object.lock);
    if (a->space != b->space) {
        lock_release(&b->space->object.lock);
    }
}

/* As much as lies in one page on both sides. 0: a page is missing, *missing says whose and where. */
static uint64_t copy_part(struct thread *from, uint64_t source, struct thread *to, uint64_t target,
                          uint64_t bytes, struct place *missing)
{
    uint64_t part = page_rest(source) < bytes ? page_rest(source) : bytes;

    part = page_rest(target) < part ? page_rest(target) : part;
    lock_both(from, to);
    void *source_piece = user_piece(from, source, false);
    void *target_piece = user_piece(to, target, true);

    if (source_piece && target_piece) {
        memcpy(target_piece, source_piece, part);
    } else {
        *missing = source_piece ? (struct place){to, target, true}
                                : (struct place){from, source, false};
        part = 0;
    }
    release_both(from, to);
    return part;
}

static enum step copy_bytes(struct core *core, struct thread *driver, struct thread *from,
                            struct thread *to, const struct message *send,
                            const struct message *receive)
{
    uint64_t total = from->info & INFO_BYTES_MASK;
    struct place missing = {0};

    if (total > receive->receive_size) {
        return STEP_FAILED;
    }
    while (DONE(driver) < total) {
        uint64_t part = copy_part(from, send->send_buffer + DONE(driver), to,
                                  receive->receive_buffer + DONE(driver), total - DONE(driver),
                                  &missing);

        if (part == 0) {
            return user_missing(core, driver, &missing);
        }
        DONE(driver) += part;
        if (preemption_wanted(core) && DONE(driver) < total) {
            driver->continuation = transfer_continue;
            return STEP_BLOCKED;
        }
    }
    return STEP_DONE;
}

/* The partner, if it is another core's, has wished to leave by now, or does not leave any more. */
static enum step end_copy(struct thread *driver)
{
    struct thread *peer = (struct thread *)PEER(driver);
    uint8_t claim = 0;

    if (thread_claimed(peer)) {
        claim = __atomic_fetch_or(&peer->claimed, CLAIM_COPIED, __ATOMIC_ACQ_REL);
    }
    return claim & (CLAIM_CANCEL | CLAIM_LATE) ? STEP_LEFT : STEP_DONE;
}

/*
 * The copies stand in the receiver's table before their handles are written, and are found once nothing can fail
 * any more. If one that is taken back was all that was left of a capability, it would not be found here again:
 * so no page is waited for while something is to end (failed()).
 */
static enum step copy_caps(struct core *core, struct thread *driver, struct thread *from,
                           struct thread *to, const struct message *send)
{
    unsigned count = (from->info & INFO_CAPS_MASK) >> INFO_CAPS_SHIFT, made;
    cap_t handles[MESSAGE_CAPS_MAX] = {0};
    struct place target = {to, ARG2(to) + offsetof(struct message, received_caps), true};
    enum step step = STEP_FAILED;
    bool missing = false;

    if (count == 0) {
        return end_copy(driver);
    }
    if (count > MESSAGE_CAPS_MAX || !has_message(to)) {
        return STEP_FAILED;
    }
    for (made = 0; made < count; made++) {
        struct cap *cap = cap_find(from->space, send->send_caps[made], RIGHT_GRANT);

        if (!cap || cap_copy_hidden(to->space, cap, send->send_caps[made], &handles[made])) {
            break;
        }
    }
    if (made == count) {
        missing = !user_copy(&target, handles, count * sizeof(cap_t));
        step = missing ? STEP_FAILED : end_copy(driver);
    }
    for (unsigned i = 0; i < made; i++) {
        if (step == STEP_DONE) {
            cap_show(to->space, handles[i]);
        } else {
            cap_take_back(core, driver, to->space, handles[i]);
        }
    }
    return missing && !driver->reap ? user_missing(core, driver, &target) : step;
}

static enum step move_message(struct core *core, struct thread *driver, struct thread *from,
                              struct thread *to)
{
    struct message send, receive;
    enum step step;

    if (!(from->info & INFO_LONG_MASK)) {
        return STEP_DONE;
    }
    step = get_message(core, driver, from, &send);
    if (step == STEP_DONE) {
        step = get_message(core, driver, to, &receive);
    }
    if (step == STEP_DONE) {
        step = copy_bytes(core, driver, from, to, &send, &receive);
    }
    if (step == STEP_DONE) {
        step = copy_caps(core, driver, from, to, &send);
    }
    return step;
}

/* ---- time ---- */

static void keep_time(struct core *core, struct thread *self)
{
    uint64_t timeout = ipc_timeout(self);

    if (!(self->flags & THREAD_FLAG_TIMER) && timeout != TIMEOUT_NONE) {
        timer_set(core, self, timer_deadline(timeout));
    }
}

/* The driver waits for a page, or for its turn: that is not what a timeout of 0 is about. */
static void limit_copy(struct core *core, struct thread *driver)
{
    if (driver->state != THREAD_READY || ipc_timeout(driver) != 0) {
        keep_time(core, driver);
    }
}

/* ---- what follows ---- */

void ipc_take_caller(struct core *core, struct thread *server, struct thread *caller,
                     enum thread_state state)
{
    lock_acquire(&server->object.lock);
    caller->server = server;
    /* Behind that, for its own core may look any moment: who waits for an answer has a server. */
    __atomic_store_n(&caller->state, state, __ATOMIC_RELEASE);
    server->caller = caller;
    uint8_t claim = __atomic_exchange_n(&caller->claimed, 0, __ATOMIC_ACQ_REL); /* it waits again */

    lock_release(&server->object.lock);
    if (claim & CLAIM_PRIORITY) {
        mail_post(caller, MAIL_INHERIT);
    }
    thread_inherit(core, server);
}

/* What the receiver sees, but for the result that wakes it. */
static void move_words(const struct thread *from, struct thread *to)
{
    memcpy(&to->frame, &from->frame, FRAME_MESSAGE_WORDS * sizeof(uint64_t));
    to->frame.rdx = from->badge;
}

int64_t ipc_second_half(struct core *core, struct thread *self, int64_t result)
{
    if (result == BLOCKED || !(self->flags & THREAD_FLAG_REPLIES)) {
        return result;
    }
    /* A client's bad buffer is no reason for a server to stop serving. */
    self->flags &= (uint16_t)~THREAD_FLAG_REPLIES;
    return endpoint_receive(core, self);
}

/* In a continuation: the result of the first half. */
static void finish(struct core *core, struct thread *self, int64_t result)
{
    result = ipc_second_half(core, self, result);
    if (result != BLOCKED) {
        self->frame.rax = (uint64_t)result;
    }
}

static int64_t arrived(struct core *core, struct thread *driver, struct thread *from,
                       struct thread *to)
{
    int64_t info = (int64_t)(from->info & INFO_USER_MASK);
    bool call = from->flags & THREAD_FLAG_CALL;

    if (from->core == core) {
        from->flags &= (uint16_t)~THREAD_FLAG_CALL; /* one of another core loses it when it wakes */
    }
    move_words(from, to);
    if (call) {
        ipc_take_caller(core, to, from, THREAD_REPLY);
        if (from == driver) {
            keep_time(core, from);
        }
    } else if (from != driver) {
        thread_wake(core, from, E_OK);
    } else if (from->flags & THREAD_FLAG_TIMER) {
        timer_cancel(core, from);
    }
    thread_wake(core, to, info);
    if (to == driver) {
        return info;
    }
    return call ? BLOCKED : E_OK;
}

/* Then there may be objects to end, of which capabilities have been taken back. */
static void failed_continue(struct core *core, struct thread *driver)
{
    if (!reap_some(core, driver)) {
        driver->continuation = failed_continue;
    } else if (driver->flags & THREAD_FLAG_ENDING) {
        thread_finish(core, driver);
    } else {
        finish(core, driver, (int64_t)driver->frame.rax);
    }
}

static int64_t failed(struct core *core, struct thread *driver, struct thread *peer, int64_t error)
{
    driver->flags &= (uint16_t)~THREAD_FLAG_CALL;
    timer_cancel(core, driver);
    if (peer) {
        thread_wait_failed(core, peer, error);
    }
    if (driver->reap) {
        driver->frame.rax = (uint64_t)error;
        return continue_with(driver, failed_continue);
    }
    return error;
}

static int64_t transfer_some(struct core *core, struct thread *driver)
{
    struct thread *peer = (struct thread *)PEER(driver);
    struct thread *from = SENDS(driver) ? driver : peer;
    struct thread *to = SENDS(driver) ? peer : driver;
    enum step step = peer ? move_message(core, driver, from, to) : STEP_LEFT;

    if (step == STEP_LEFT) {
        ipc_let_go(core, driver); /* unless it has gone already */
        driver->flags &= (uint16_t)~THREAD_FLAG_DRIVES;
        return failed(core, driver, NULL,
                      (int64_t)OUTCOME(driver)); /* it inherits nothing already */
    }
    if (step == STEP_BLOCKED) {
        limit_copy(core, driver);
        return BLOCKED;
    }
    driver->flags &= (uint16_t)~THREAD_FLAG_DRIVES;
    int64_t result = step == STEP_DONE ? arrived(core, driver, from, to)
                                       : failed(core, driver, peer, E_IPCFAULT);

    if (driver->priority != driver->base_priority) {
        thread_inherit(core, driver);
    }
    return result;
}

static void transfer_continue(struct core *core, struct thread *driver)
{
    finish(core, driver, transfer_some(core, driver));
}

/*
 * As the driver of a copy: whatever `peer` waited in, it has been taken out of. Its own core may look at any
 * moment, and is not to take a former server for the driver. If it wishes another priority (CLAIM_PRIORITY) it
 * looks for the driver after that: either it finds one, or the wish is found here.
 */
static void begin(struct core *core, struct thread *driver, struct thread *from, struct thread *to)
{
    struct thread *peer = driver == from ? to : from;

    driver->flags |= THREAD_FLAG_DRIVES;
    PEER(driver) = (uint64_t)peer;
    DONE(driver) = 0;
    SENDS(driver) = driver == from;
    __atomic_store_n(&peer->server, NULL, __ATOMIC_RELEASE);
    __atomic_store_n(&peer->state, THREAD_COPYING, __ATOMIC_RELEASE);
    __atomic_store_n(&peer->server, driver, __ATOMIC_SEQ_CST);
    if (peer->priority > driver->priority ||
        __atomic_load_n(&peer->claimed, __ATOMIC_SEQ_CST) & CLAIM_PRIORITY) {
        thread_inherit(core, driver);
    }
}

int64_t ipc_transfer(struct core *core, struct thread *driver, struct thread *from,
                     struct thread *to)
{
    if (!(from->info & INFO_LONG_MASK)) {
        return arrived(core, driver, from, to);
    }
    begin(core, driver, from, to);
    return transfer_some(core, driver);
}

void ipc_transfer_later(struct core *core, struct thread *from, struct thread *to)
{
    begin(core, from, from, to);
    from->continuation = transfer_continue;
    core_set_pending(core, CORE_PENDING_RESCHED);
}

/* The driver goes on without its partner; no page that it waits for is wanted any more. */
static void lose_peer(struct core *core, struct thread *driver, struct thread *peer, int64_t error)
{
    PEER(driver) = 0;
    OUTCOME(driver) = (uint64_t)error;
    peer->server = NULL;
    thread_inherit(core, driver);
    if ((driver->state == THREAD_FAULTED || driver->state == THREAD_FAULTING) &&
        thread_leave_place(core, driver)) {
        fault_forget(driver);
        thread_wake(core, driver, (int64_t)driver->frame.rax);
    }
}

void ipc_abandon(struct core *core, struct thread *thread, int64_t error)
{
    if (thread->state == THREAD_COPYING) {
        lose_peer(core, thread->server, thread, error);
    }
    if (thread->flags & THREAD_FLAG_DRIVES) {
        struct thread *peer = (struct thread *)PEER(thread);

        thread->flags &= (uint16_t) ~(THREAD_FLAG_DRIVES | THREAD_FLAG_REPLIES | THREAD_FLAG_CALL);
        thread->continuation = NULL;
        thread_inherit(core, thread);
        if (peer) {
            peer->server = NULL;
            if (peer->core == core) {
                peer->flags &= (uint16_t)~THREAD_FLAG_CALL; /* else it loses it when it wakes */
            }
            thread_wake(core, peer, error);
        }
    }
}

/* Who drives the copy that a thread is in, or has just been in; begin() writes in the other order. */
static struct thread *driver_of(const struct thread *thread)
{
    bool copies = __atomic_load_n(&thread->state, __ATOMIC_ACQUIRE) == THREAD_COPYING;
    struct thread *driver = __atomic_load_n(&thread->server, __ATOMIC_ACQUIRE);

    return copies ? driver : NULL;
}

bool ipc_copies_here(const struct core *core, const struct thread *thread)
{
    struct thread *driver = driver_of(thread);

    return driver && __atomic_load_n(&driver->core, __ATOMIC_ACQUIRE) == core &&
           ipc_partner(driver) == thread;
}

bool ipc_ask_to_leave(struct thread *thread, uint8_t wish)
{
    struct thread *driver = driver_of(thread);

    if (!driver || !thread_claim_wish(thread, wish)) {
        return false;
    }
    mail_post(driver, MAIL_LEAVE);
    return true;
}

void ipc_let_go(struct core *core, struct thread *driver)
{
    struct thread *peer = ipc_partner(driver);
    uint8_t claim = peer ? __atomic_load_n(&peer->claimed, __ATOMIC_ACQUIRE) : 0;

    if (claim & (CLAIM_CANCEL | CLAIM_LATE)) {
        lose_peer(core, driver, peer, E_CANCELED);
        thread_wait_failed(core, peer, claim & CLAIM_CANCEL ? E_CANCELED : E_TIMEOUT);
    }
}
