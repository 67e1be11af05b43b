/* SPDX-License-Identifier: MIT */
/*
 * Threads that wait, by priority, FIFO within one; empty = head NULL. A ring through thread.next
 * and prev; the first thread of each priority also points to the first of the next lower one
 * (group_next; NULL in the last), so inserting and removing take at most one step for each priority
 * that is present, however many threads wait. Guarded by the lock of the object that it is part of.
 */
#ifndef ONESTACK_OBJ_WAIT_QUEUE_H
#define ONESTACK_OBJ_WAIT_QUEUE_H

#include "kernel/obj/thread.h"

void wait_queue_insert(struct wait_queue *queue, struct thread *thread);
/* With the priority that it was inserted with. */
void wait_queue_remove(struct wait_queue *queue, struct thread *thread);

/* Into a queue that is empty. */
static inline void wait_queue_insert_first(struct wait_queue *queue, struct thread *thread)
{
    thread->next = thread;
    thread->prev = thread;
    thread->group_next = NULL;
    queue->head = thread;
}

/* Take the head, which there is. */
static inline struct thread *wait_queue_pop(struct wait_queue *queue)
{
    struct thread *head = queue->head, *next = head->next;

    if (__builtin_expect(next == head, 1)) {
        queue->head = NULL;
        __asm__ volatile(""); /* a store of its own, not one merged with the other way's */
        return head;
    }
    next->prev = head->prev;
    head->prev->next = next;
    if (next->priority == head->priority) {
        next->group_next = head->group_next;
    }
    queue->head = next;
    return head;
}

#endif
