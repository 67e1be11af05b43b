/* SPDX-License-Identifier: MIT */
/*
 * FPU, SSE and AVX state (Intel SDM vol. 1, chapter 13). A thread that has never used them has
 * none; from its first use on (#NM) it has a save area, and the state is saved and restored at each
 * switch. While a thread without state runs, CR0.TS is set and the registers hold the initial state.
 * Only functions whose names begin with fpu_ contain such instructions; the build checks it.
 */
#ifndef ONESTACK_ARCH_FPU_H
#define ONESTACK_ARCH_FPU_H

#include "kernel/arch/core.h"

/* On each core, once, after core_init's control registers: XCR0, CR4, initial state, CR0.TS set. */
void fpu_init(void);

/*
 * #NM of a thread in user mode: its state begins. False = its account has no memory for the save
 * area: treat it as a fault. Also for a thread whose area is there (nothing to do).
 */
bool fpu_first_use(struct thread *thread);

/* The thread's state is given up with it: before its memory is. */
void fpu_thread_end(struct core *core, struct thread *thread);

/* At least one of the two, who are not the same, has state (THREAD_FLAG_FPU). */
void fpu_switch_state(const struct thread *from, const struct thread *to);

/*
 * The same for the fast ways (fpu_kept.S): called by assembly that tells the compiler what it
 * changes. The pointer is constant once the first core is up.
 */
extern void (*fpu_kept)(void);

static inline __attribute__((always_inline)) void fpu_switch_kept(struct thread *from,
                                                                  const struct thread *to)
{
    register const struct thread *r9 __asm__("r9") = to;

    __asm__ volatile("call *fpu_kept(%%rip)"
                     :
                     : "D"(thread_save_end(from)), "r"(r9)
                     : "rax", "r11", "memory", "cc");
}

/* `to` runs next. One test when neither it nor the one before has any state. */
static inline void fpu_switch(const struct thread *from, const struct thread *to)
{
    if (__builtin_expect((from->flags | to->flags) & THREAD_FLAG_FPU, 0)) {
        fpu_switch_state(from, to);
    }
}

#endif
