/* SPDX-License-Identifier: MIT */
/*
 * Broken memory: whose is it, and how does the process hear? A machine check names a physical address;
 * what is known of the frame (mm/owner.c) leads to the memory object, and that to the spaces that map
 * it, wherever they run. Each one's fault endpoint gets FAULT_MACHINE_CHECK, from one of its threads.
 */
#ifndef ONESTACK_BROKEN_H
#define ONESTACK_BROKEN_H

#include "kernel/arch/core.h"

struct mcheck_record;

/*
 * Outermost level: an uncorrected machine check that is not fatal. If it struck the thread that is current,
 * in user mode, and that must not go on, its space's fault endpoint is told; without one it ends. The
 * spaces that map the address are told in any case.
 */
void broken_report(struct core *core, const struct mcheck_record *record);
/*
 * A thread of this core is to tell what its space has been left: before it next leaves to user
 * mode, which may be after a wait (THREAD_FLAG_TELLS remembers).
 */
void broken_tell(struct thread *thread);

#endif
