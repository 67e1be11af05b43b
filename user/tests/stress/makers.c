/* SPDX-License-Identifier: MIT */
/* Who makes and unmakes: mappings, memory, threads. */
#include <stddef.h>

#include "kernel/abi/message.h"
#include "user/libos/start.h"
#include "user/libos/syscall.h"
#include "user/tests/stress/actor.h"

#define SPOT        0x600000000000UL
#define WINDOW      (1UL << 30) /* addresses of one mapper */
#define PAGES       6
#define NEW_EVERY   8
#define CHILD_STACK 4096

static volatile uint64_t *word_of(uint64_t base, unsigned page)
{
    return (volatile uint64_t *)(base + page * PAGE_BYTES + page * 8);
}

static void write_and_look(struct actor *self, uint64_t base, uint64_t mark, bool fresh)
{
    for (unsigned page = 0; page < PAGES; page++) {
        if (fresh) {
            stress_expect(self, "new memory", *word_of(base, page), 0);
        }
        *word_of(base, page) = mark + page;
    }
}

static void map(struct actor *self, uint64_t base, unsigned flags)
{
    stress_expect(
        self, "map",
        (uint64_t)sys_map(own.space, self->object, base | flags, PAGES * PAGE_BYTES, 0).value, 0);
}

static void unmap(struct actor *self, uint64_t base)
{
    stress_expect(self, "unmap", (uint64_t)sys_unmap(own.space, base, PAGES * PAGE_BYTES).value, 0);
}

/* What is written by one mapping is read by the next, elsewhere; new memory is zero. */
static void map_once(struct actor *self, uint64_t n, bool fresh)
{
    uint64_t base = SPOT + self->number * WINDOW;
    uint64_t other = base + (1 + stress_random(&self->seed) % 100) * PAGES * PAGE_BYTES;

    map(self, base, MAP_READ | MAP_WRITE);
    write_and_look(self, base, n, fresh);
    unmap(self, base);
    map(self, other, MAP_READ);
    for (unsigned page = 0; page < PAGES; page++) {
        stress_expect(self, "what was written", *word_of(other, page), n + page);
    }
    unmap(self, other);
    self->operations += 4;
}

void mapper(void *argument)
{
    struct actor *self = argument;

    for (uint64_t n = 1; !stress_stop; n++) {
        bool fresh = n % NEW_EVERY == 1;

        if (fresh) {
            struct result result = sys_memory_create(own.quota, PAGES * PAGE_BYTES, 0);

            stress_expect(self, "memory", (uint64_t)result.value, 0);
            self->object = result.second;
        }
        map_once(self, n, fresh);
        if (n % NEW_EVERY == 0) {
            sys_cap_delete(self->object);
            self->object = 0;
        }
        stress_rest(self);
    }
    if (self->object != 0) {
        sys_cap_delete(self->object);
        self->object = 0;
    }
    self->ended = true;
}

static uint8_t child_stacks[MAKERS][CHILD_STACK] __attribute__((aligned(16)));

/* Half of them end by themselves; the others go on until they are ended. */
static void child(void *argument)
{
    struct actor *maker = argument;
    bool by_itself = maker->sum % 2;

    for (unsigned i = 0; i < 3; i++) {
        sys_null();
    }
    sys_signal(maker->object, 1);
    if (by_itself) {
        return;
    }
    for (;;) {
        sys_yield();
    }
}

static cap_t start_child(struct actor *self, uint64_t core)
{
    struct thread_entry *entry = (struct thread_entry *)(child_stacks[self->number] + CHILD_STACK) -
                                 1;
    struct result result = sys_thread_create(own.quota, own.space,
                                             PRIORITY(CHILD_PRIORITY, CHILD_PRIORITY));
    cap_t thread = result.second;

    *entry = (struct thread_entry){child, self};
    stress_expect(self, "a thread", (uint64_t)result.value, 0);
    stress_expect(self, "its core", (uint64_t)sys_thread_set_affinity(thread, core).value, 0);
    result = sys_thread_start(thread, (uint64_t)thread_entry_point, (uint64_t)entry,
                              (uint64_t)entry);
    stress_expect(self, "its start", (uint64_t)result.value, 0);
    return thread;
}

/* It may have ended: then E_DEAD is right. */
static void meddle(struct actor *self, uint64_t random, cap_t thread)
{
    struct result result = {0, 0};

    switch (random % 4) {
    case 0:
        result = sys_thread_suspend(thread);
        sys_thread_resume(thread);
        break;
    case 1:
        result = sys_thread_set_affinity(thread, random / 4 % stress_cores);
        break;
    case 2:
        result = sys_thread_set_priority(thread, STRESS_PRIORITY);
        break;
    default:
        break;
    }
    if (result.value != E_DEAD) {
        stress_expect(self, "meddling", (uint64_t)result.value, 0);
    }
}

void maker(void *argument)
{
    struct actor *self = argument;

    while (!stress_stop) {
        uint64_t random = stress_random(&self->seed);

        self->sum++; /* before it begins: it looks */
        cap_t thread = start_child(self, random / 16 % stress_cores);

        meddle(self, random, thread);
        struct result result = sys_wait(self->object, TIMEOUT_NONE);

        stress_expect(self, "the child's bit", result.second, 1);
        meddle(self, random / 4, thread);
        result = sys_thread_end(thread);
        if (result.value != E_DEAD) {
            stress_expect(self, "its end", (uint64_t)result.value, 0);
        }
        stress_expect(self, "its deletion", (uint64_t)sys_cap_delete(thread).value, 0);
        self->operations++;
        stress_rest(self);
    }
    self->ended = true;
}
