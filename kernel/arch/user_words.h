/* SPDX-License-Identifier: MIT */
/*
 * A few words between the core and the user memory of the space that is loaded, for the fast ways.
 * A page that is missing, or an address that is none, is a plain false: the faulting instruction stands
 * in a table with the place to go on at (fixup.h), so the caller keeps its stack and its registers. It
 * holds no lock (E6), has interrupts on, and has set CORE_ST_IPC, which alone makes the table count.
 */
#ifndef ONESTACK_ARCH_USER_WORDS_H
#define ONESTACK_ARCH_USER_WORDS_H

#include "kernel/abi/message.h"
#include "kernel/arch/core.h"
#include "kernel/arch/cpu.h"
#include "kernel/arch/fixup.h"

/* The lower half's addresses have their highest bit clear; what is not canonical faults. */
static inline bool user_address(uint64_t address)
{
    return (int64_t)address >= 0;
}

/* `bytes`, whole words, from where the struct message at `message` says to core->words. */
static inline bool user_words_from(struct core *core, uint64_t message, uint64_t bytes)
{
    uint64_t *to = core->words;
    uint64_t from;

    __asm__ goto volatile(
        "stac\n"
        "1: mov %c[send](%[message]), %[from]\n\t"
        "test %[from], %[from]\n\t"
        "js %l[fault]\n\t"
        "shr $3, %[count]\n"
        "2: rep movsq\n\t"
        "clac\n\t" FIXUP("1b", "%l[fault]") FIXUP("2b", "%l[fault]")
        : [from] "=&S"(from), "+D"(to), [count] "+c"(bytes)
        : [message] "r"(message), [send] "i"(offsetof(struct message, send_buffer))
        : "memory", "cc"
        : fault);
    return true;
fault:
    cpu_clac();
    return false;
}

/* And from there, if there is room for them. */
static inline bool user_words_to(struct core *core, uint64_t message, uint64_t bytes)
{
    const uint64_t *from = core->words;
    uint64_t to;

    __asm__ goto volatile(
        "stac\n"
        "1: mov %c[receive](%[message]), %[to]\n\t"
        "test %[to], %[to]\n\t"
        "js %l[fault]\n"
        "2: cmp %[count], %c[size](%[message])\n\t"
        "jb %l[fault]\n\t"
        "shr $3, %[count]\n"
        "3: rep movsq\n\t"
        "clac\n\t" FIXUP("1b", "%l[fault]") FIXUP("2b", "%l[fault]") FIXUP("3b", "%l[fault]")
        : [to] "=&D"(to), "+S"(from), [count] "+c"(bytes)
        : [message] "r"(message), [receive] "i"(offsetof(struct message, receive_buffer)),
          [size] "i"(offsetof(struct message, receive_size))
        : "memory", "cc"
        : fault);
    return true;
fault:
    cpu_clac();
    return false;
}

#endif
