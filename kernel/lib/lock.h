/* SPDX-License-Identifier: MIT */
/*
 * Short locks. Held with interrupts on: a nested interrupt only records and takes no lock (E6),
 * so none needs IF=0, and an NMI takes none (N2). The rank is the debug build's.
 */
#ifndef ONESTACK_LIB_LOCK_H
#define ONESTACK_LIB_LOCK_H

#include <stdbool.h>
#include <stdint.h>

struct lock {
    union {
        uint8_t held;
        uint16_t word; /* for lock_try: there is no bts on a byte */
    };
};

static inline void lock_acquire(struct lock *lock)
{
    while (__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE)) {
        while (__atomic_load_n(&lock->held, __ATOMIC_RELAXED)) {
            __builtin_ia32_pause();
        }
    }
}

/* One instruction that leaves its answer in a flag: the fast paths count. */
static inline bool lock_try(struct lock *lock)
{
    bool held;

    __asm__ volatile("lock btsw $0, %0" : "+m"(lock->word), "=@ccc"(held) : : "memory");
    return !held;
}

static inline void lock_release(struct lock *lock)
{
    __atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
}

#endif
