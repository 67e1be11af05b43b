/* SPDX-License-Identifier: MIT */
/*
 * The contract between the entry assembly and C. Above: labels that C gives to the CPU or returns
 * to. Below: the C functions that the assembly calls, with the state they run in.
 */
#ifndef ONESTACK_ARCH_ENTRY_H
#define ONESTACK_ARCH_ENTRY_H

#include "entry_model.h"
#include "kernel/arch/core.h"

/* Stacks in a core's area: layout.h's, and the entry model's own. */
#define CORE_STACKS (STACK_COUNT + (ENTRY_VECTOR_IST ? 1 : 0))

extern const char vector_stubs[]; /* stub of vector n at + vector_table[n] */
extern const uint16_t vector_table[256];
extern const char syscall_entry[]; /* stub of core n at + n * SYSCALL_STUB_SIZE */

/* Where core_exit may send the core. */
void exit_iret(void);
void run_continuation(void);
void idle(void);
/* What syscall_fast holds for calls without a fast function. */
void syscall_slow(void);
/* For calls whose function may leave by exit_other. */
void syscall_quick(void);
/* Give up the stack and leave to the current thread, which has no continuation. */
static inline _Noreturn void exit_other(struct core *core)
{
    __asm__ volatile("lea %c1(%0), %%rsp\n\t"
                     "jmp exit_iret"
                     :
                     : "r"(core), "i"(CORE_STACK_TOP(STACK_KERNEL) - 16) /* STACK_RESERVED */
                     : "memory");
    __builtin_unreachable();
}
/* Give up the stack, whatever is on it, and go to ret_to_user. Nothing may be locked. */
_Noreturn void kernel_leave(struct core *core);
_Noreturn void ret_to_user(void);
/* Give it up and go on in function(core, a, b), at the outermost level, IF=1 (E6). */
_Noreturn void kernel_abandon(struct core *core,
                              void (*function)(struct core *, uint64_t, uint64_t), uint64_t a,
                              uint64_t b);
/* At boot: leave the boot stack for the core's own. */
_Noreturn void core_run(struct core *core, void (*function)(struct core *core));

/* An exit's last stretch; kernel/arch/entry/stub.h, WINDOW. Both ends belong to it. */
struct restart_window {
    uint64_t first, last;
};

/* IF=0, whatever was interrupted: acknowledge, record, nothing more (E6). */
void kintr_handler(struct core *core, unsigned inum, unsigned nested);
/*
 * From user mode: as kintr_handler, but a device's interrupt need not wait for core_exit, so it is
 * worked on at once; with IF=1, unless the model keeps it 0 (ENTRY_IRQ_OPEN).
 */
void kintr_user(struct core *core, unsigned inum);
/* IF=1, on the empty kernel stack; the frame is the current thread's. */
void ktrap_user(struct core *core, unsigned trapno, uint32_t errcode, struct frame *regs,
                uint64_t cr2);
/* IF=0, on any of the core's stacks; `state` is what the core was doing. */
void ktrap_kernel(struct core *core, unsigned trapno, uint32_t errcode, struct frame *regs,
                  uint64_t cr2, unsigned state);
/* NMI, #MC, #DB, #DF from ring 0: IF=0, on the vector's own stack, no lock, no print (N2). `dr7` is
 * what DR7 was; it is 0 meanwhile. */
void kist_kernel(struct core *core, struct frame *regs, unsigned vector, uint64_t dr7,
                 unsigned state);
/* IF=1, empty stack. Returns one of the three labels above. */
void *core_exit(struct core *core);
void continuation_run(struct core *core);
/* IF=1, empty stack, all registers in the frame. */
void syscall_dispatch(struct core *core, struct thread *self);

#if CONFIG_DEBUG
/* At each exit: stack empty, nest 1, canaries whole (E10). Panics. */
void debug_exit_check(void);
_Noreturn void debug_nest_panic(struct core *core);
#endif

#endif
