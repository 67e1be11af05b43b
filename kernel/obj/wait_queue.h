/* SPDX-License-Identifier: MIT */
/*
 * Threads that wait, by priority, FIFO within one; empty = no_thread at its head. A ring through thread.next
 * and prev; the first thread of each priority also points to the first of the next lower one
 * (group_next; NULL in the last), so inserting and removing take at most one step for each priority
 * that is present, however many threads wait. Guarded by the lock of the object that it is part of.
 *
 * A thread in no queue is a ring of itself, without group_next; who takes one out from among others
 * leaves it like that. So one that waits alone, as servers do, enters and leaves by the head only.
 */
#ifndef ONESTACK_OBJ_WAIT_QUEUE_H
#define ONESTACK_OBJ_WAIT_QUEUE_H

#include "kernel/obj/thread.h"

static inline void wait_queue_init(struct wait_queue *queue)
{
    queue->head = &no_thread;
}

static inline bool wait_queue_empty(const struct wait_queue *queue)
{
    return queue->head == &no_thread;
}

void wait_queue_insert(struct wait_queue *queue, struct thread *thread);
/* With the priority that it was inserted with. */
void wait_queue_remove(struct wait_queue *queue, struct thread *thread);

static inline void thread_ring_of_itself(struct thread *thread)
{
    thread->next = thread->prev = thread;
}

/*
 * Take `head`, which is the queue's. In place: a call, taken or not, would cost each fast way pushes and
 * pops; and the head's `next` is not to be loaded early, into a register, for a case that is rare.
 */
static inline void wait_queue_take_head(struct wait_queue *queue, struct thread *head)
{
    struct thread *next;

    if (__builtin_expect(*(struct thread *volatile *)&head->next == head, 1)) {
        queue->head = &no_thread;
        __asm__ volatile(""); /* a store of its own, not one merged with the other way's */
        return;
    }
    next = head->next;
    next->prev = head->prev;
    head->prev->next = next;
    if (next->priority == head->priority) {
        next->group_next = head->group_next;
    }
    queue->head = next;
    thread_ring_of_itself(head);
    head->group_next = NULL;
}

/* Take the head, which there is. */
static inline struct thread *wait_queue_pop(struct wait_queue *queue)
{
    struct thread *head = queue->head;

    wait_queue_take_head(queue, head);
    return head;
}

#endif
