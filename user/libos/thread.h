/* SPDX-License-Identifier: MIT */
/* Threads of this process. */
#ifndef ONESTACK_LIBOS_THREAD_H
#define ONESTACK_LIBOS_THREAD_H

#include "user/libos/memory.h"

typedef void thread_fn(void *argument);

#define THREAD_STACK_BYTES 16384UL

/* At the top of a new thread's stack; crt0.S hands it to libos_thread_start. */
struct thread_entry {
    thread_fn *function;
    void *argument;
};

struct user_thread {
    cap_t cap;
    struct region stack;
};

/*
 * Start function(argument) in a thread of its own; it ends when that returns. priority | ceiling
 * << 8. 0 or an error, with nothing left behind.
 */
int64_t thread_spawn(struct user_thread *thread, thread_fn *function, void *argument,
                     uint64_t priority);
/* End it if it still runs, and drop what it had. */
void thread_reap(struct user_thread *thread);

/* priority | ceiling << 8 */
#define PRIORITY(base, ceiling) ((uint64_t)(base) | (uint64_t)(ceiling) << 8)

/* crt0.S */
void thread_entry_point(void);
_Noreturn void libos_thread_start(struct thread_entry *entry);

#endif
