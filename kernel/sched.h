/* SPDX-License-Identifier: MIT */
/*
 * Who runs. Each core has its own queues: 256 priorities, FIFO within one, picked in O(1). The
 * running thread stands in no queue. All functions here act on the calling core's own threads;
 * for a thread of another core they leave it a message (thread_wake does so by itself).
 */
#ifndef ONESTACK_SCHED_H
#define ONESTACK_SCHED_H

#include "kernel/arch/core.h"

/* Round robin among equals: nanoseconds, boot option `timeslice=` in microseconds. */
#define TIMESLICE_DEFAULT_NS 10000000ULL

void sched_init(struct core *core);
/* Into its queue's end (or front: a thread preempted by a higher one keeps its turn). */
void sched_enqueue(struct core *core, struct thread *thread);
void sched_enqueue_front(struct core *core, struct thread *thread);
void sched_dequeue(struct core *core, struct thread *thread);
/* The next to run, taken out of its queue; NULL = idle. */
struct thread *sched_pick(struct core *core);
/* Change the effective priority, wherever the thread stands. */
void sched_set_priority(struct core *core, struct thread *thread, uint8_t priority);

/*
 * End a wait: state READY, frame.rax = result, out of the timer queue, into the run queue (unless
 * suspended). The caller has already taken it out of the object's queue.
 */
void thread_wake(struct core *core, struct thread *thread, int64_t result);

/* One-shot timers (timer.c): wake `thread` from its wait with E_TIMEOUT at `deadline` (TSC). */
void timer_set(struct core *core, struct thread *thread, uint64_t deadline);
void timer_cancel(struct core *core, struct thread *thread);
/* TSC of now + nanoseconds, saturating. */
uint64_t timer_deadline(uint64_t nanoseconds);

#endif
