/* SPDX-License-Identifier: MIT */
#include "kernel/sched.h"

#include "kernel/arch/clock.h"
#include "kernel/arch/entry.h"
#include "kernel/arch/fpu.h"
#include "kernel/broken.h"
#include "kernel/debug/panic.h"
#include "kernel/lib/cache_line.h"
#include "kernel/mail.h"
#include "kernel/obj/object.h"
#include "kernel/obj/wait_queue.h"
#include "kernel/switch.h"
#include "kernel/timer.h"

/* bit n: core n has nothing to run; others clear it to send something */
static uint64_t idle_cores SHARED;

static uint64_t timeslice; /* ticks of the clock */

void sched_set_timeslice(uint64_t nanoseconds)
{
    timeslice = clock_from_ns(nanoseconds);
}

void sched_init(struct core *core)
{
    core->ready_top = core->queue_top = -1;
    timer_wheel_init(core);
}

/* The queue has become empty: no bit for it, and perhaps another top. */
static void queue_emptied(struct core *core, unsigned priority)
{
    core->ready[priority / 64] &= ~(1ULL << priority % 64);
    if ((int)priority != core->queue_top) {
        return;
    }
    core->queue_top = -1;
    for (int word = (int)priority / 64; word >= 0; word--) {
        if (core->ready[word]) {
            core->queue_top = word * 64 + 63 - __builtin_clzll(core->ready[word]);
            break;
        }
    }
}

static void queue_filled(struct core *core, unsigned priority)
{
    core->ready[priority / 64] |= 1ULL << priority % 64;
    if ((int)priority > core->queue_top) {
        core->queue_top = (int)priority;
    }
}

static void push_back(struct core *core, struct thread *thread)
{
    struct run_queue *queue = &core->queues[thread->priority];

    thread->next = NULL;
    if (queue->head) {
        thread->prev = queue->tail;
        queue->tail->next = thread;
    } else {
        thread->prev = NULL;
        queue->head = thread;
        queue_filled(core, thread->priority);
    }
    queue->tail = thread;
}

static void push_front(struct core *core, struct thread *thread)
{
    struct run_queue *queue = &core->queues[thread->priority];

    thread->prev = NULL;
    thread->next = queue->head;
    if (queue->head) {
        queue->head->prev = thread;
    } else {
        queue->tail = thread;
        queue_filled(core, thread->priority);
    }
    queue->head = thread;
}

static void unlink(struct core *core, struct thread *thread)
{
    struct run_queue *queue = &core->queues[thread->priority];

    if (thread->prev) {
        thread->prev->next = thread->next;
    } else {
        queue->head = thread->next;
    }
    if (thread->next) {
        thread->next->prev = thread->prev;
    } else {
        queue->tail = thread->prev;
    }
    if (!queue->head) {
        queue_emptied(core, thread->priority);
    }
    thread_ring_of_itself(thread);
}

static void top_changed(struct core *core)
{
    core->ready_top = core->queue_top;
}

/* Above all others: most likely it is the next to run, and never sees a queue. */
static void set_top(struct core *core, struct thread *thread)
{
    if (core->top) {
        push_front(core, core->top);
    }
    core->top = thread;
    core->ready_top = thread->priority;
}

void sched_enqueue(struct core *core, struct thread *thread)
{
    thread->flags |= THREAD_FLAG_QUEUED;
    if ((int)thread->priority > core->ready_top) {
        set_top(core, thread);
    } else {
        push_back(core, thread);
    }
}

void sched_enqueue_front(struct core *core, struct thread *thread)
{
    thread->flags |= THREAD_FLAG_QUEUED;
    if ((int)thread->priority > core->ready_top) {
        set_top(core, thread);
        return;
    }
    if (core->top && core->top->priority == thread->priority) {
        push_front(core, core->top);
        core->top = NULL;
    }
    push_front(core, thread);
}

void sched_dequeue(struct core *core, struct thread *thread)
{
    thread->flags &= (uint16_t)~THREAD_FLAG_QUEUED;
    if (core->top == thread) {
        core->top = NULL;
    } else {
        unlink(core, thread);
    }
    if (!core->top) {
        top_changed(core);
    }
}

/* The next to run, out of its queue; the dummy if nobody is ready. */
static struct thread *pick(struct core *core)
{
    struct thread *next = core->top;

    if (next) {
        core->top = NULL;
    } else if (core->queue_top >= 0) {
        next = core->queues[core->queue_top].head;
        unlink(core, next);
    } else {
        return &core->dummy;
    }
    next->flags &= (uint16_t)~THREAD_FLAG_QUEUED;
    top_changed(core);
    return next;
}

void sched_set_priority(struct core *core, struct thread *thread, uint8_t priority)
{
    if (thread->flags & THREAD_FLAG_QUEUED) {
        sched_dequeue(core, thread);
        thread->priority = priority;
        sched_enqueue(core, thread);
    } else {
        thread->priority = priority;
    }
}

void sched_ready(struct core *core, struct thread *thread)
{
    if (thread->flags & THREAD_FLAG_SUSPENDED) {
        return; /* resuming comes here again */
    }
    if (UNLIKELY(thread->flags & THREAD_FLAG_TELLS)) {
        broken_tell(thread);
    }
    if (thread->flags & THREAD_FLAG_AWAY && !thread->continuation) {
        mail_send(thread, core_at(thread->core_wish));
    } else {
        sched_enqueue(core, thread);
    }
}

void thread_wake(struct core *core, struct thread *thread, int64_t result)
{
    if (thread->core != core) {
        thread->frame.rax = (uint64_t)result;
        mail_post(thread, MAIL_WAKE);
        return;
    }
    /* The driver of a long copy, whose page has come, has not come to the end of its call. */
    if ((thread->flags & (THREAD_FLAG_TIMER | THREAD_FLAG_DRIVES)) == THREAD_FLAG_TIMER) {
        timer_cancel(core, thread);
    }
    thread->state = THREAD_READY;
    thread->frame.rax = (uint64_t)result;
    if (!(thread->flags & THREAD_FLAG_QUEUED) && thread != entry_current(core)) {
        sched_ready(core, thread);
    }
}

/* No core runs on it any more. */
static void left_behind(struct thread *thread)
{
    if (thread->state == THREAD_DEAD) {
        object_unref(&thread->object); /* it was kept until now (E2) */
    } else {
        mail_send(thread, core_at(thread->target));
    }
}

/* It has run until now. */
static inline uint64_t account(struct core *core, struct thread *from)
{
    uint64_t now = clock_now();

    from->cpu_time += now - core->switched_in;
    core->switched_in = now;
    return now;
}

void sched_switch(struct core *core, struct thread *from, struct thread *to)
{
    account(core, from);
    /* A user's selector load changes the bases behind the TCB's back: ask the registers (E7). */
    from->fs_base = rdfsbase();
    from->gs_base = rdgsbase();
    if (to->fs_base != from->fs_base) {
        wrfsbase(to->fs_base);
    }
    if (to->gs_base != from->gs_base) {
        wrgsbase(to->gs_base);
    }
    /* The dummy has no space: idle keeps whatever is loaded. */
    if (to->cr3 != 0 && to->cr3 != read_cr3()) {
        write_cr3(to->cr3);
    }
    fpu_switch(from, to);
    entry_set_current(core, to);
    if (UNLIKELY(from->state >= THREAD_MOVING)) {
        left_behind(from);
    }
}

static bool may_move(const struct thread *thread)
{
    return thread->core_wish == CORE_ANY && !thread->continuation;
}

/*
 * Has the running thread to give way? Queues it then: who has not had its slice keeps its turn and
 * what is left of it, else a higher thread that comes often would starve its equals.
 */
static bool give_way(struct core *core, struct thread *self)
{
    if (self->flags & THREAD_FLAG_AWAY && thread_runnable(self) && !self->continuation) {
        mail_go(core, self, core_at(self->core_wish), NULL);
    }
    if (!thread_runnable(self)) {
        return true;
    }
    uint64_t now = clock_now();

    if (now >= core->slice_end) {
        struct core *idle = may_move(self) ? sched_idle_core(core) : NULL;

        if (idle) {
            mail_go(core, self, idle, NULL);
        } else {
            sched_enqueue(core, self);
        }
        return true;
    }
    if (core->ready_top == self->priority) {
        return false;
    }
    self->slice_left = core->slice_end - now;
    sched_enqueue_front(core, self);
    return true;
}

struct core *sched_idle_core(struct core *core)
{
    uint64_t idle = __atomic_load_n(&idle_cores, __ATOMIC_RELAXED) & ~(1ULL << core->id);

    while (idle) {
        uint64_t bit = idle & -idle;

        /* Whose bit it is to clear has it: two do not send to one. */
        if (__atomic_fetch_and(&idle_cores, ~bit, __ATOMIC_ACQ_REL) & bit) {
            return core_at((unsigned)__builtin_ctzll(bit));
        }
        idle &= ~bit;
    }
    return NULL;
}

struct thread *sched_choose(struct core *core)
{
    struct thread *self = entry_current(core);

    if (self == &core->dummy) {
        __atomic_fetch_and(&idle_cores, ~(1ULL << core->id), __ATOMIC_RELAXED);
    }
    if (give_way(core, self)) {
        struct thread *next = pick(core);

        if (next != self) {
            sched_switch(core, self, next);
            self = next;
        }
        KASSERT(!self->fault_memory); /* slice_left would be fault_page */
        core->slice_end = core->switched_in + (self->slice_left ? self->slice_left : timeslice);
        self->slice_left = 0;
    }
    if (core->ready_top == self->priority) {
        timer_arm(core, core->slice_end);
    }
    if (self != &core->dummy) {
        return self;
    }
    __atomic_fetch_or(&idle_cores, 1ULL << core->id, __ATOMIC_RELEASE);
    return NULL;
}

void sched_hand_over(struct core *core, struct thread *self, struct thread *thread)
{
    if (UNLIKELY(thread->priority <= self->priority)) {
        sched_enqueue(core, thread);
        return;
    }
    uint64_t now = account(core, self);

    self->slice_left = LIKELY(core->slice_end > now) ? core->slice_end - now : 1;
    core->slice_end = now + timeslice;
    switch_now(core, self, thread);
    if (LIKELY(!core->top && (int)self->priority > core->ready_top)) {
        self->flags |= THREAD_FLAG_QUEUED;
        core->top = self;
        core->ready_top = self->priority;
    } else {
        sched_enqueue_front(core, self);
    }
    exit_other(core);
}

static __attribute__((noinline)) _Noreturn void leave_armed(struct core *core)
{
    timer_arm(core, core->slice_end);
    exit_other(core);
}

/*
 * `next`, in no queue, has self's place. A single equal has no need of a queue: the two take turns in
 * being `top`. What is rare is a call that does not come back, and so costs no register here.
 */
static inline __attribute__((always_inline)) _Noreturn void
yield_to(struct core *core, struct thread *self, struct thread *next)
{
    if (LIKELY(core->queue_top < self->priority)) {
        core->top = self;
    } else {
        core->top = NULL;
        push_back(core, self);
    }
    next->flags &= (uint16_t)~THREAD_FLAG_QUEUED;
    self->flags |= THREAD_FLAG_QUEUED;
    core->slice_end = account(core, self) + timeslice;
    switch_now(core, self, next);
    if (UNLIKELY(next->continuation)) {
        kernel_leave(core);
    }
    if (UNLIKELY(core->slice_end < core->timer_armed)) {
        leave_armed(core);
    }
    exit_other(core);
}

/* The first of self's equals stands in a queue. */
static __attribute__((noinline)) _Noreturn void yield_queued(struct core *core, struct thread *self)
{
    struct thread *next = core->queues[self->priority].head;

    unlink(core, next);
    yield_to(core, self, next);
}

_Noreturn void sched_yield(struct core *core, struct thread *self)
{
    if (UNLIKELY(!core->top)) {
        yield_queued(core, self);
    }
    yield_to(core, self, core->top);
}
