/* SPDX-License-Identifier: MIT */
/*
 * One user instruction with every register in a known state before it and looked at after it: all
 * 15 general registers, RSP, the status flags and DF, FS and GS base, xmm0 to xmm15 and MXCSR. One
 * probe at a time in a process.
 *
 *     probe_fill(seed);                  patterns everywhere
 *     probe.in.rax = SYS_null;           then what the instruction needs
 *     probe_run(probe_syscall);
 *     differences = probe_check(PROBE_SYSCALL, "null");
 */
#ifndef ONESTACK_LIBOS_PROBE_H
#define ONESTACK_LIBOS_PROBE_H

#include <stdint.h>

/* The order is probe.S's too. */
struct probe_registers {
    uint64_t r15, r14, r13, r12, rbp, rbx;
    uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
    uint64_t rsp, rflags, fs_base, gs_base, mxcsr;
    uint64_t xmm[16][2];
};

struct probe {
    struct probe_registers in, out;
    uint64_t site;  /* where the instruction is */
    uint64_t stack; /* probe_run's own RSP meanwhile */
    uint64_t old_fs, old_gs;
    uint64_t spins;   /* for probe_spin */
    uint64_t address; /* for probe_touch */
};

extern struct probe probe;

/* Instructions to try. Those that fault need a signal handler that sets rip to probe_after. */
void probe_syscall(void);
void probe_spin(void);  /* no instruction but a loop of `spins` rounds: the flags are lost */
void probe_touch(void); /* reads a word at `address` into rax */
void probe_store(void); /* writes rax to `address` */
void probe_ud2(void);
void probe_int3(void);
void probe_divide(void); /* by zero, if rcx is */
void probe_hlt(void);
void probe_nothing(void);

/* probe_run goes from here to the instruction with every register set, */
void probe_go(void);
/* and every instruction comes here. */
void probe_after(void);

void probe_fill(uint64_t seed);
void probe_run(void (*site)(void));

/* What must be unchanged. */
#define PROBE_KEPT_BY_SYSCALL 0u /* rbx, rbp, r12-r15, rsp and all that is not a general register */
#define PROBE_ALL             1u /* everything: faults, interrupts */
#define PROBE_WORDS           2u /* with a system call: the message words may have changed */
#define PROBE_FLAGS           4u /* the status flags may have changed */
#define PROBE_SILENT          8u /* print nothing */

/*
 * The number of differences, each printed as one line that begins with the program's name and `what`.
 * A register that a system call may change must not hold a kernel address either.
 */
unsigned probe_check(unsigned rules, const char *what);

/* How many of the changes that a check must see it misses: each word changed in turn. */
unsigned probe_self_test(void);

#endif
