/* SPDX-License-Identifier: MIT */
/*
 * System-call stubs, one `sys_NAME` for each line of kernel/abi/syscalls.def. A call returns its
 * value or a negative error, and a second word. Pointers are passed as uint64_t.
 *
 * The five calls that carry message words have their stubs in ipc.h, for no inline assembly may
 * have rbp as an operand.
 */
#ifndef ONESTACK_LIBOS_SYSCALL_H
#define ONESTACK_LIBOS_SYSCALL_H

#include "kernel/abi/error.h"
#include "kernel/abi/syscall.h"

struct result {
    int64_t value;
    uint64_t second;
};

/*
 * The kernel's argument registers are its to change, so each is an input that also comes out (or a
 * clobber where a call does not use it).
 */
#define STUB_HEAD(number) struct result result = {(int64_t)(number), 0};

#define STUB_0(number, name)                                                         \
    static inline struct result sys_##name(void)                                     \
    {                                                                                \
        STUB_HEAD(number)                                                            \
        __asm__ volatile("syscall"                                                   \
                         : "+a"(result.value), "=d"(result.second)                   \
                         :                                                           \
                         : "rsi", "r8", "r9", "r10", "rdi", "rcx", "r11", "memory"); \
        return result;                                                               \
    }

#define STUB_1(number, name)                                                  \
    static inline struct result sys_##name(uint64_t a0)                       \
    {                                                                         \
        STUB_HEAD(number)                                                     \
        __asm__ volatile("syscall"                                            \
                         : "+a"(result.value), "=d"(result.second), "+S"(a0)  \
                         :                                                    \
                         : "r8", "r9", "r10", "rdi", "rcx", "r11", "memory"); \
        return result;                                                        \
    }

#define STUB_2(number, name)                                                  \
    static inline struct result sys_##name(uint64_t a0, uint64_t a1)          \
    {                                                                         \
        STUB_HEAD(number)                                                     \
        result.second = a1;                                                   \
        __asm__ volatile("syscall"                                            \
                         : "+a"(result.value), "+d"(result.second), "+S"(a0)  \
                         :                                                    \
                         : "r8", "r9", "r10", "rdi", "rcx", "r11", "memory"); \
        return result;                                                        \
    }

#define STUB_3(number, name)                                                           \
    static inline struct result sys_##name(uint64_t a0, uint64_t a1, uint64_t a2)      \
    {                                                                                  \
        STUB_HEAD(number)                                                              \
        register uint64_t r8 __asm__("r8") = a2;                                       \
        result.second = a1;                                                            \
        __asm__ volatile("syscall"                                                     \
                         : "+a"(result.value), "+d"(result.second), "+S"(a0), "+r"(r8) \
                         :                                                             \
                         : "r9", "r10", "rdi", "rcx", "r11", "memory");                \
        return result;                                                                 \
    }

#define STUB_4(number, name)                                                                     \
    static inline struct result sys_##name(uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3)   \
    {                                                                                            \
        STUB_HEAD(number)                                                                        \
        register uint64_t r8 __asm__("r8") = a2;                                                 \
        register uint64_t r9 __asm__("r9") = a3;                                                 \
        result.second = a1;                                                                      \
        __asm__ volatile("syscall"                                                               \
                         : "+a"(result.value), "+d"(result.second), "+S"(a0), "+r"(r8), "+r"(r9) \
                         :                                                                       \
                         : "r10", "rdi", "rcx", "r11", "memory");                                \
        return result;                                                                           \
    }

#define STUB_5(number, name)                                                                      \
    static inline struct result sys_##name(uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,    \
                                           uint64_t a4)                                           \
    {                                                                                             \
        STUB_HEAD(number)                                                                         \
        register uint64_t r8 __asm__("r8") = a2;                                                  \
        register uint64_t r9 __asm__("r9") = a3;                                                  \
        register uint64_t r10 __asm__("r10") = a4;                                                \
        result.second = a1;                                                                       \
        __asm__ volatile("syscall"                                                                \
                         : "+a"(result.value), "+d"(result.second), "+S"(a0), "+r"(r8), "+r"(r9), \
                           "+r"(r10)                                                              \
                         :                                                                        \
                         : "rdi", "rcx", "r11", "memory");                                        \
        return result;                                                                            \
    }

/* A line of the list becomes its stub unless its name is one of these. */
#define STUB_IS_IPC_call          ~, NONE
#define STUB_IS_IPC_reply_receive ~, NONE
#define STUB_IS_IPC_send          ~, NONE
#define STUB_IS_IPC_receive       ~, NONE
#define STUB_IS_IPC_reply         ~, NONE
#define STUB_NONE(number, name)
#define STUB_SECOND(first, second, ...)  second
#define STUB_CHOOSE(...)                 STUB_SECOND(__VA_ARGS__)
#define STUB_PASTE(which, number, name)  STUB_##which(number, name)
#define STUB_EXPAND(which, number, name) STUB_PASTE(which, number, name)
#define SYSCALL(number, name, kind, args, text) \
    STUB_EXPAND(STUB_CHOOSE(STUB_IS_IPC_##name, args, ~), number, name)
#include "kernel/abi/syscalls.def"
#undef SYSCALL

#endif
