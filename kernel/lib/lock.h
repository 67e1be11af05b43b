/* SPDX-License-Identifier: MIT */
/*
 * Short locks. Held with interrupts on: a nested interrupt only records and takes no lock (E6),
 * so none needs IF=0, and an NMI takes none (N2). Who holds one takes only those of a higher rank,
 * and of two spaces, or two memory objects, the one at the lower address first; a debug build makes
 * sure of it (lock_check.h).
 */
#ifndef ONESTACK_LIB_LOCK_H
#define ONESTACK_LIB_LOCK_H

#include <stdbool.h>
#include <stdint.h>

/* An object's lock has the rank of its type, and 0 here. */
enum lock_rank {
    RANK_BY_TYPE,
    RANK_SPACE,
    RANK_THREAD,
    RANK_MEMORY,
    RANK_OBJECT,  /* all others */
    RANK_CAPS,    /* a space's free slots */
    RANK_SLABS,   /* an account's */
    RANK_WINDOWS, /* of capabilities */
    RANK_FRAMES,
    RANK_LINE, /* of the console */
    RANK_COUNT
};

struct lock {
    union {
        struct {
            uint8_t held;
            uint8_t rank; /* enum lock_rank */
        };
        uint16_t word; /* for lock_try: there is no bts on a byte */
    };
};

#ifndef LOCK_CHECK
#define LOCK_CHECK CONFIG_DEBUG
#endif
#if LOCK_CHECK
/* kernel/debug/lock_check.c: the calling core has it now, or gives it up. Panic if it must not. */
void lock_wanted(const struct lock *lock);
void lock_taken(const struct lock *lock);
void lock_given(const struct lock *lock);
#else
static inline void lock_wanted(const struct lock *lock)
{
    (void)lock;
}
static inline void lock_taken(const struct lock *lock)
{
    (void)lock;
}
static inline void lock_given(const struct lock *lock)
{
    (void)lock;
}
#endif

static inline void lock_acquire(struct lock *lock)
{
    lock_wanted(lock);
    while (__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE)) {
        while (__atomic_load_n(&lock->held, __ATOMIC_RELAXED)) {
            __builtin_ia32_pause();
        }
    }
    lock_taken(lock);
}

/* One instruction that leaves its answer in a flag: the fast paths count. */
static inline bool lock_try(struct lock *lock)
{
    bool held;

    __asm__ volatile("lock btsw $0, %0" : "+m"(lock->word), "=@ccc"(held) : : "memory");
    if (!held) {
        lock_taken(lock);
    }
    return !held;
}

static inline void lock_release(struct lock *lock)
{
    lock_given(lock);
    __atomic_store_n(&lock->held, 0, __ATOMIC_RELEASE);
}

#endif
