/* SPDX-License-Identifier: MIT */
/* All of the FPU's, SSE's and AVX's registers, as state.S moves them. */
#ifndef ONESTACK_FPU_STATE_H
#define ONESTACK_FPU_STATE_H

#include <stdbool.h>
#include <stdint.h>

/* Intel SDM vol. 1, figure 8-9: FNSAVE's image, 32-bit protected mode format. */
struct x87_image {
    uint32_t control, status, tags; /* the upper halves are reserved */
    uint32_t pointers[4];           /* of the last instruction: not ours to compare */
    uint8_t st[8][10];
};

struct fpu_registers {
    uint8_t ymm[16][32]; /* without AVX only the lower halves are used */
    struct x87_image x87;
    uint32_t mxcsr;
    uint64_t done; /* fpu_fresh: 1 once the rest has been stored */
};

/* Set by main; state.S looks at it. */
extern uint32_t fpu_has_avx;

void fpu_load(const struct fpu_registers *from);
void fpu_store(struct fpu_registers *to);
/* A thread's first instruction, with its argument in rsi: store all there, then end. */
void fpu_fresh(void);
/* One instruction that uses SSE; a handler that wants to pass over it goes on at fpu_touched. */
void fpu_touch(void);
void fpu_touched(void);

#endif
