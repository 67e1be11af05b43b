/* SPDX-License-Identifier: MIT */
/* A thread's own handler of its faults. */
#ifndef ONESTACK_LIBOS_SIGNAL_H
#define ONESTACK_LIBOS_SIGNAL_H

#include "user/libos/syscall.h"

/* May change fault->registers; the thread goes on with what they say when it returns. */
typedef void signal_fn(struct fault_info *fault);

/* For the calling thread. One function for the whole process; stack_top 0 = the interrupted stack.
 */
int64_t signal_set(signal_fn *function, void *stack_top);
int64_t signal_clear(void);

/* signal_entry.S: where the kernel sends the thread */
void signal_entry(void);
extern signal_fn *signal_function;

#endif
