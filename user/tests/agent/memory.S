/* SPDX-License-Identifier: MIT */
/* One access to memory that may not be there; worker.c's handler sends a fault to memory_faulted. */
    .text
/* C: bool memory_peek(uint64_t address, uint64_t *value); */
    .globl memory_peek
    .type memory_peek, @function
memory_peek:
    mov (%rdi), %rax
    mov %rax, (%rsi)
    mov $1, %eax
    ret
    .size memory_peek, . - memory_peek

/* C: bool memory_poke(uint64_t address, uint64_t value); */
    .globl memory_poke
    .type memory_poke, @function
memory_poke:
    mov %rsi, (%rdi)
    mov $1, %eax
    ret
    .size memory_poke, . - memory_poke

/* From a fault in either: the stack is as at their first instruction. */
    .globl memory_faulted
    .type memory_faulted, @function
memory_faulted:
    xor %eax, %eax
    ret
    .size memory_faulted, . - memory_faulted

    .section .note.GNU-stack, "", @progbits
