/* SPDX-License-Identifier: MIT */
/*
 * Timed system calls. The code around the system call is the same in the real and in the `nop` form,
 * where two bytes of nop stand for it; the difference is what the kernel did. Under
 * `-icount shift=0,sleep=off` that is its exact number of instructions.
 */
#ifndef ONESTACK_BENCH_TIMED_H
#define ONESTACK_BENCH_TIMED_H

#include <stdint.h>

/* What the next timed call shall be; then what came of it. Offsets are timed.S's too. */
struct timed {
    uint64_t number, a0, a1, a2, a3;
    uint64_t start; /* the stamp before it: low half of the TSC; the partner's if a message came */
    uint64_t elapsed; /* from `start` to just after */
    uint64_t partner; /* word 1 of the message that came: what the partner measured */
    int64_t result;   /* rax and rdx */
    uint64_t second;
};

extern struct timed timed;

void timed_syscall(void);
void timed_nop(void);

/*
 * Serve for ever: receive, and answer with word 1 = time from the caller's stamp (word 0) to here, word
 * 0 = a stamp of our own. timed.number, a0 .. a3 are the arguments, the first wait's too.
 */
_Noreturn void timed_server(void);
/*
 * What a thread does for ever: the call, a stamp at *stamp, then the call with `next` and `next_a1` in
 * place of number and a1. All of it in memory, for a message may come in any register. One such
 * thread a process.
 */
struct timed_loop {
    uint64_t number, a0, a1, a2, a3;
    volatile uint64_t *stamp;
    uint64_t next, next_a1;
};

extern struct timed_loop timed_other;

_Noreturn void timed_loop(void);
/* A signal handler that leaves a stamp and returns. */
void timed_handler(void);
extern volatile uint64_t timed_handler_stamp;
/* int3 between two stamps, as timed_syscall. */
void timed_int3(void);
void timed_int3_nop(void);
/*
 * Look at the TSC until two looks are more than `gap` apart, or its low half passes `end`: how far
 * apart, 0 = never.
 */
uint64_t timed_spin(uint64_t gap, uint64_t end);
#define TIMED_SPIN_STEP 8 /* instructions of a round */
/* Leave stamps at *stamp until *stop is set. */
void timed_stamps(volatile uint64_t *stamp, volatile uint64_t *stop);

static inline uint64_t timed_now(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

#endif
