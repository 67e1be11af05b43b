/* SPDX-License-Identifier: MIT */
#include "user/libos/signal.h"

signal_fn *signal_function;

int64_t signal_set(signal_fn *function, void *stack_top)
{
    signal_function = function;
    return sys_thread_set_handler((uint64_t)signal_entry, (uint64_t)stack_top).value;
}

int64_t signal_clear(void)
{
    return sys_thread_set_handler(0, 0).value;
}
