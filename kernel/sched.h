/* SPDX-License-Identifier: MIT */
/*
 * Who runs. Each core has its own queues: 256 priorities, FIFO within one, picked in O(1). The
 * running thread stands in no queue. Interrupts never touch a queue (E6), so nothing here needs
 * IF=0. All functions act on threads of the calling core.
 */
#ifndef ONESTACK_SCHED_H
#define ONESTACK_SCHED_H

#include "kernel/arch/core.h"

/* Round robin among equals: nanoseconds, unless the boot option `timeslice=` (in microseconds) says else. */
#define TIMESLICE_DEFAULT_NS 10000000ULL

void sched_set_timeslice(uint64_t nanoseconds);
void sched_init(struct core *core);
/* Into its queue's end, or its front: a thread preempted by a higher one keeps its turn. */
void sched_enqueue(struct core *core, struct thread *thread);
void sched_enqueue_front(struct core *core, struct thread *thread);
void sched_dequeue(struct core *core, struct thread *thread);
/* Make the thread that shall run the current one and return it; NULL and the dummy = idle. */
struct thread *sched_choose(struct core *core);
/* Need that be asked? Not if the current thread can go on and nobody is its equal. */
static inline bool sched_stays(const struct core *core, const struct thread *self)
{
    return self->state == THREAD_READY &&
           !(self->flags & (THREAD_FLAG_SUSPENDED | THREAD_FLAG_AWAY | THREAD_FLAG_TELLS)) &&
           core->ready_top < self->priority;
}
/* Load everything of `to` that is not in its frame, keep `from`'s. `to` is in no queue. */
void sched_switch(struct core *core, struct thread *from, struct thread *to);
/*
 * For those whose frame is complete and who hold no lock: `thread`, READY and in no queue, takes over
 * from the running one if it is higher, and these functions then DO NOT RETURN; else it is queued.
 */
void sched_hand_over(struct core *core, struct thread *self, struct thread *thread);
/* One that is THREAD_READY, and in no queue: into this core's, or to where it belongs. */
void sched_ready(struct core *core, struct thread *thread);
/*
 * Where work goes: a thread without affinity that starts, or whose slice ends while others wait, goes
 * to a core that has nothing to do. NULL: there is none. (The next caller gets another one.)
 */
struct core *sched_idle_core(struct core *core);
/* The running thread, whose frame is complete, goes behind its equals, of whom there are some. */
_Noreturn void sched_yield(struct core *core, struct thread *self);
/* Change the effective priority, wherever the thread stands. */
void sched_set_priority(struct core *core, struct thread *thread, uint8_t priority);

/*
 * End a wait: state READY, frame.rax = result, out of the timer queue, into the run queue (unless
 * suspended). The caller has already taken it out of the object's queue.
 */
void thread_wake(struct core *core, struct thread *thread, int64_t result);

static inline bool thread_runnable(const struct thread *thread)
{
    return thread->state == THREAD_READY && !(thread->flags & THREAD_FLAG_SUSPENDED);
}

#endif
