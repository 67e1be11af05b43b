/* SPDX-License-Identifier: MIT */
#include "user/libos/thread.h"

#include "user/libos/start.h"
#include "user/libos/syscall.h"

int64_t thread_spawn(struct user_thread *thread, thread_fn *function, void *argument,
                     uint64_t priority)
{
    *thread = (struct user_thread){0};
    int64_t status = region_create(&thread->stack, THREAD_STACK_BYTES);
    if (status < 0) {
        return status;
    }
    struct thread_entry *entry = (struct thread_entry *)((uint8_t *)thread->stack.address +
                                                         thread->stack.bytes) -
                                 1;
    *entry = (struct thread_entry){function, argument};

    struct result created = sys_thread_create(own.quota, own.space, priority);
    thread->cap = created.value < 0 ? 0 : created.second;
    status = created.value < 0 ? created.value
                               : sys_thread_start(thread->cap, (uint64_t)thread_entry_point,
                                                  (uint64_t)entry, (uint64_t)entry)
                                     .value;
    if (status < 0) {
        thread_reap(thread);
    }
    return status;
}

void thread_reap(struct user_thread *thread)
{
    if (thread->cap != 0) {
        sys_thread_end(thread->cap);
        sys_cap_delete(thread->cap);
    }
    region_release(&thread->stack);
    *thread = (struct user_thread){0};
}

_Noreturn void libos_thread_start(struct thread_entry *entry)
{
    entry->function(entry->argument);
    for (;;) {
        sys_thread_end(0);
    }
}
