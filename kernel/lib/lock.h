/* SPDX-License-Identifier: MIT */
/*
 * Short locks. Held with interrupts on: a nested interrupt only records and takes no lock (E6),
 * so none needs IF=0, and an NMI takes none (N2). One byte; the rank is the debug build's.
 */
#ifndef ONESTACK_LIB_LOCK_H
#define ONESTACK_LIB_LOCK_H

#include <stdint.h>

struct lock {
    uint8_t held;
};

static inline void lock_acquire(struct lock *lock)
{
    while (__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE)) {
        while (__atomic_load_n(&lock->held, __ATOMIC_RELAXED)) {
            __builtin_ia32_pause();
        }
    }
}

static inline int lock_try(struct lock *lock)
{
    return !__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE);
}

static inline void lock_release(struct lock *lock)
{
    __atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
}

#endif
