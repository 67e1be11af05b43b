/* SPDX-License-Identifier: MIT */
/* What a debug build makes sure of at every entry and exit. */
#include "kernel/arch/entry.h"
#include "kernel/debug/lock_check.h"
#include "kernel/debug/panic.h"
#include "kernel/obj/space.h"

#if CONFIG_DEBUG

static void check_canary(const struct thread *thread)
{
    for (unsigned i = 0; i < sizeof(thread->canary) / sizeof(thread->canary[0]); i++) {
        if (thread->canary[i] != THREAD_CANARY) {
            panic("canary of thread %p overwritten: word %u is %lx", (const void *)thread, i,
                  thread->canary[i]);
        }
    }
}

/* The thread that is to run must be one for whose pages this core is asked (arch/tlb.c). */
static void check_space(const struct core *core, const struct space *space)
{
    if (space && (!space->living[core->id] || !(space->cores_loaded >> core->id & 1))) {
        panic("space %p is loaded by a core that it does not know of", (const void *)space);
    }
}

/* From the exits and from idle, on the empty stack but for this call (and two saved registers). */
void debug_exit_check(void)
{
    struct core *core = core_here();
    uint64_t here = (uint64_t)__builtin_frame_address(0);
    uint64_t top = here | (STACK_SIZE - 1);
    uint64_t above = ENTRY_THREAD_EXTRA ? STACK_SIZE - ENTRY_THREAD_EXTRA : 0;

    if (core->self != core || top - here > above + 128) {
        panic("stack not empty at an exit: %p of %p", (void *)here, (void *)top);
    }
    if (core->nest != 1) {
        panic("core_nest %u at an exit", core->nest);
    }
    check_canary(entry_current(core));
    check_canary(&core->dummy);
    if (no_thread.core || no_thread.flags || no_thread.next || no_thread.prev || no_thread.server) {
        panic("somebody has written to `no_thread`");
    }
    check_space(core, entry_current(core)->space);
    lock_check_none(core);
}

_Noreturn void debug_nest_panic(struct core *core)
{
    panic("entry from user mode found core_nest %u", core->nest);
}

#endif
