/* SPDX-License-Identifier: MIT */
/*
 * From one thread to another without a look at the run queues: what the fast ways share. Nothing in
 * here is a call that the compiler knows of, so no path saves registers for it.
 */
#ifndef ONESTACK_SWITCH_H
#define ONESTACK_SWITCH_H

#include "kernel/arch/cpu.h"
#include "kernel/arch/entry.h"
#include "kernel/arch/fpu.h"

#define LIKELY(condition)   __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* Keeps the compiler from loading a value early, into a register, for a branch that is not taken. */
#define READ_AGAIN(place) (*(volatile __typeof__(place) *)&(place))

/* The compiler loads and masks; one instruction does. */
static inline bool has_flags(const struct thread *thread, uint16_t flags)
{
    bool some;

    __asm__("testw %2, %1" : "=@ccnz"(some) : "m"(thread->flags), "i"(flags));
    return some;
}

/* Can `thread`, blocked in an IPC, go on right now on this core? No flag may stand in its way. */
static inline bool ready_here(const struct core *core, const struct thread *thread)
{
    return thread->core == core && !has_flags(thread, (uint16_t)~THREAD_FLAGS_WAITS);
}

/*
 * All but the FPU: load what differs, keep `from`'s bases: a user's selector load changes them behind
 * the TCB's back, so the registers are asked (E7). Neither is the dummy, neither ends.
 */
static inline __attribute__((always_inline)) void
switch_rest(struct core *core, struct thread *from, struct thread *to)
{
    uint64_t base = rdfsbase();

    from->fs_base = base;
    if (UNLIKELY(to->fs_base != base)) {
        wrfsbase(READ_AGAIN(to->fs_base));
    }
    base = rdgsbase();
    from->gs_base = base;
    if (UNLIKELY(to->gs_base != base)) {
        wrgsbase(READ_AGAIN(to->gs_base));
    }
    if (to->cr3 != from->cr3) {
        write_cr3(to->cr3);
    }
    entry_set_current(core, to);
}

static inline __attribute__((always_inline)) void switch_now(struct core *core, struct thread *from,
                                                             struct thread *to)
{
    if (UNLIKELY((from->flags | to->flags) & THREAD_FLAG_FPU)) {
        fpu_switch_kept(from, to);
    }
    switch_rest(core, from, to);
}

#endif
