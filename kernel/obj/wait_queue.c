/* SPDX-License-Identifier: MIT */
#include "kernel/obj/wait_queue.h"

struct thread no_thread;

/* The first thread of the last group above `priority`, or NULL: at most one step for each group. */
static struct thread *group_above(const struct wait_queue *queue, uint8_t priority)
{
    struct thread *above = NULL;

    for (struct thread *group = queue->head; group && group->priority > priority;
         group = group->group_next) {
        above = group;
    }
    return above;
}

static void link_before(struct thread *next, struct thread *thread)
{
    thread->next = next;
    thread->prev = next->prev;
    next->prev->next = thread;
    next->prev = thread;
}

void wait_queue_insert(struct wait_queue *queue, struct thread *thread)
{
    if (wait_queue_empty(queue)) {
        queue->head = thread;
        return;
    }
    struct thread *above = group_above(queue, thread->priority);
    struct thread *group = above ? above->group_next : queue->head;

    if (group && group->priority == thread->priority) {
        /* To its end, which is before the next group, or the ring's end. */
        link_before(group->group_next ? group->group_next : queue->head, thread);
        return;
    }
    thread->group_next = group;
    link_before(group ? group : queue->head, thread);
    if (above) {
        above->group_next = thread;
    } else {
        queue->head = thread;
    }
}

void wait_queue_remove(struct wait_queue *queue, struct thread *thread)
{
    bool first = thread == queue->head || thread->prev->priority != thread->priority;

    if (first && thread != queue->head) {
        struct thread *next = thread->next, *above = group_above(queue, thread->priority);

        if (next != queue->head && next->priority == thread->priority) {
            next->group_next = thread->group_next;
            above->group_next = next;
        } else {
            above->group_next = thread->group_next;
        }
    } else if (first) {
        wait_queue_pop(queue);
        return;
    }
    thread->prev->next = thread->next;
    thread->next->prev = thread->prev;
    thread_ring_of_itself(thread);
    thread->group_next = NULL;
}
