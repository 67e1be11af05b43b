/* SPDX-License-Identifier: MIT */
/* User memory from system calls; the copies themselves are declared in syscall.h. */
#ifndef ONESTACK_UACCESS_H
#define ONESTACK_UACCESS_H

#include "kernel/arch/core.h"

/*
 * From a page fault in ring 0 on a user address while core_state was PARMCHK, with IF=0 on
 * the nested frame. Gives the stack up: the pager is asked and the system call made again, or it ends with an error.
 */
_Noreturn void uaccess_fault(struct core *core, uint64_t address, uint32_t error);

#endif
