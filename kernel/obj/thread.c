/* SPDX-License-Identifier: MIT */
/* Life and end of threads. Their system calls are in thread_calls.c and registers.c. */
#include "kernel/obj/thread.h"

#include "kernel/arch/cpu.h"
#include "kernel/arch/entry.h"
#include "kernel/arch/fpu.h"
#include "kernel/fault.h"
#include "kernel/ipc.h"
#include "kernel/mail.h"
#include "kernel/obj/endpoint.h"
#include "kernel/obj/notification.h"
#include "kernel/obj/space.h"
#include "kernel/obj/wait_queue.h"
#include "kernel/sched.h"
#include "kernel/syscall.h"

struct thread *thread_new(struct quota *quota, struct core *core, uint8_t priority, uint8_t ceiling)
{
    uint8_t *memory = object_alloc(quota, THREAD_MEMORY);

    if (!memory) {
        return NULL;
    }
    struct thread *thread = (struct thread *)(memory + ENTRY_THREAD_EXTRA);

    object_init(&thread->object, OBJ_THREAD, quota);
    thread->state = THREAD_INACTIVE;
    thread->priority = thread->base_priority = priority;
    thread->ceiling = ceiling;
    thread_ring_of_itself(thread);
    thread->caller = &no_thread;
    wait_queue_init(&thread->saved_callers);
    thread->core = core;
    thread->core_wish = CORE_ANY;
    for (unsigned i = 0; i < sizeof(thread->canary) / sizeof(thread->canary[0]); i++) {
        thread->canary[i] = THREAD_CANARY;
    }
    thread->frame.cs = USER_CS;
    thread->frame.ss = USER_DS;
    thread->frame.rflags = RFLAGS_FIXED | RFLAGS_IF;
    return thread;
}

/* One more of the space's threads has that core, or one less. */
static void count_living(struct space *space, const struct core *core, int32_t more)
{
    __atomic_fetch_add(&space->living[core->id], (uint32_t)more, __ATOMIC_ACQ_REL);
}

void thread_live_on(struct thread *thread, struct core *core)
{
    if (thread->space) {
        count_living(thread->space, core, 1); /* before it can be there (arch/tlb.c) */
        count_living(thread->space, thread->core, -1);
    }
    __atomic_store_n(&thread->core, core, __ATOMIC_RELEASE);
}

bool thread_enter(struct thread *thread, struct space *space)
{
    lock_acquire(&space->object.lock);
    bool alive = !space->object.dying;

    if (alive) {
        thread->space_next = space->threads;
        thread->space_prev = NULL;
        if (space->threads) {
            space->threads->space_prev = thread;
        }
        space->threads = thread;
        space->thread_count++;
        count_living(space, thread->core, 1);
        thread->space = space;
        thread->cr3 = space->cr3;
        thread->caps = space->caps;
        object_ref(&space->object);
        object_ref(&thread->object); /* the list's: its space may end it without a capability */
    }
    lock_release(&space->object.lock);
    return alive;
}

/* Was it the space's last? Their references to each other are the caller's to give back. */
static bool unlist(struct thread *thread, struct space *space)
{

    lock_acquire(&space->object.lock);
    if (thread->space_prev) {
        thread->space_prev->space_next = thread->space_next;
    } else {
        space->threads = thread->space_next;
    }
    if (thread->space_next) {
        thread->space_next->space_prev = thread->space_prev;
    }
    bool last = --space->thread_count == 0;

    count_living(space, thread->core, -1);
    thread->space = NULL;
    thread->cr3 = 0; /* whatever is loaded will do: it never runs in user mode again */
    lock_release(&space->object.lock);
    return last;
}

/* A space ends with its last thread. */
static void leave_space(struct thread *self, struct thread *thread)
{
    struct space *space = thread->space;

    if (unlist(thread, space)) {
        object_end(self, &space->object);
    }
    object_unref(&space->object);
    object_unref(&thread->object);
}

void thread_give_up(struct thread *thread)
{
    struct space *space = thread->space;

    unlist(thread, space);
    object_unref(&space->object);
    object_unref(&thread->object);
    object_unref(&thread->object); /* the capabilities', of which there are none */
}

void thread_set_entry(struct thread *thread, uint64_t rip, uint64_t rsp, uint64_t argument)
{
    thread->frame.rip = rip;
    thread->frame.rsp = rsp;
    thread->frame.rsi = argument;
}

void thread_begin(struct core *core, struct thread *thread)
{
    struct core *idle = thread->core_wish == CORE_ANY ? sched_idle_core(core) : NULL;

    space_comes_to(thread->space, core);
    thread->state = THREAD_READY;
    if (idle) {
        mail_send(thread, idle);
    } else if (!(thread->flags & THREAD_FLAG_SUSPENDED)) {
        sched_enqueue(core, thread);
    }
}

void thread_end_itself(struct core *core, struct thread *self)
{
    object_end(self, &self->object);
    reap(core, self, (int64_t)self->frame.rax);
    if (!(self->flags & THREAD_FLAG_ENDING) && !self->continuation) {
        self->flags |= THREAD_FLAG_SUSPENDED; /* somebody else is ending it already */
    }
}

void thread_end_when_run(struct core *core, struct thread *thread)
{
    if (thread->core != core) {
        mail_post(thread, MAIL_END);
        return;
    }
    fault_forget(thread);
    ipc_abandon(core, thread, E_DEAD);
    thread->continuation = thread_end_itself;
    thread->flags &= (uint16_t)~THREAD_FLAG_SUSPENDED;
    thread_wake(core, thread, 0);
}

void thread_wait_failed(struct core *core, struct thread *thread, int64_t error)
{
    bool in_fault = thread->state == THREAD_FAULTED || thread->state == THREAD_FAULTING;

    if (thread->core != core) {
        if (!in_fault) { /* else rax is the user's, or the number of a call that is made again */
            thread->frame.rax = (uint64_t)error;
        }
        mail_post(thread, MAIL_FAIL);
        return;
    }
    if (!in_fault) {
        thread->flags &= (uint16_t) ~(THREAD_FLAG_CALL | THREAD_FLAG_REPLIES);
        thread_wake(core, thread, error);
    } else if (thread->fault_memory) {
        fault_forget(thread);
        thread_wake(core, thread, (int64_t)thread->frame.rax);
    } else {
        thread_end_when_run(core, thread);
    }
}

/* Who waits for its answer learns that none comes, unless somebody else may give it. */
static bool leave_callers(struct core *core, struct thread *thread)
{
    struct thread *caller = endpoint_take_caller(core, thread);

    if (caller) {
        thread_wait_failed(core, caller, E_DEAD);
    }
    while (!wait_queue_empty(&thread->saved_callers)) {
        lock_acquire(&thread->object.lock);
        caller = thread->saved_callers.head;
        if (caller != &no_thread) {
            wait_queue_remove(&thread->saved_callers, caller);
            caller->server = NULL;
        }
        lock_release(&thread->object.lock);
        if (preemption_wanted(core)) {
            return false;
        }
    }
    return true;
}

static void stop(struct core *core, struct thread *thread)
{
    if (thread->flags & THREAD_FLAG_QUEUED) {
        sched_dequeue(core, thread);
    }
    thread->continuation = NULL;
    thread->state = THREAD_DEAD;
}

bool thread_quit(struct core *core, struct thread *self, struct thread *thread)
{
    thread->object.dying = true;
    if (!thread->space) {
        return true; /* has quit already */
    }
    if (thread->core != core) {
        mail_go(core, self, thread->core, NULL); /* reap() goes on there */
        self->flags |= THREAD_FLAG_URGENT;
        return false;
    }
    if (!leave_callers(core, thread) || (thread != self && !object_take_some(self, thread))) {
        return false;
    }
    if (!thread_leave_wait(core, thread)) {
        ipc_ask_to_leave(thread, CLAIM_CANCEL);
        __builtin_ia32_pause();
        return false; /* the other core's mail is on its way */
    }
    if (thread == self) {
        self->flags |= THREAD_FLAG_ENDING;
        object_ref(&self->object); /* until no core runs on it any more (sched_switch) */
    } else {
        stop(core, thread);
    }
    notification_unbind(thread);
    fpu_thread_end(core, thread);
    leave_space(self, thread);
    return true;
}

bool thread_destroy(struct core *core, struct thread *self, struct object *object)
{
    return thread_quit(core, self, (struct thread *)object);
}

void thread_finish(struct core *core, struct thread *self)
{
    (void)core;
    self->state = THREAD_DEAD;
}
