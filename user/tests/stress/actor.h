/* SPDX-License-Identifier: MIT */
/* What the threads of `stress` have in common: a function, a core, counters that main looks at. */
#ifndef ONESTACK_STRESS_ACTOR_H
#define ONESTACK_STRESS_ACTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/abi/cap.h"
#include "user/libos/thread.h"

#define PAIRS     32 /* of IPC: 64 threads */
#define BELLS     4  /* pairs of notifications */
#define MAPPERS   4
#define MAKERS    4
#define MOVERS    2
#define LANDLORDS 4
#define ACTORS    (2 * PAIRS + 2 * BELLS + MAPPERS + MAKERS + MOVERS + LANDLORDS)

/* Who makes things is above the callers: else each step would wait for slices of all of them. */
#define STRESS_PRIORITY 100
#define CHILD_PRIORITY  101
#define MAKER_PRIORITY  102 /* and lodgers */

struct actor {
    const char *kind;
    unsigned number; /* of its kind */
    struct user_thread thread;
    struct actor *partner;
    cap_t object, answer;         /* endpoint, or notifications */
    uint64_t seed;                /* goes on with each random number */
    volatile uint64_t operations; /* only its own thread writes these */
    volatile uint64_t wrong;
    volatile uint64_t sum; /* of what it sent or received */
    volatile bool ended;
} __attribute__((aligned(64)));

extern struct actor actors[ACTORS];
extern volatile bool stress_stop; /* finish what you are at, and end */
extern unsigned stress_cores;
extern uint64_t stress_spaces; /* made and ended */

uint64_t stress_random(uint64_t *seed);
/* What makes and ends things stops other cores for a while: the callers are to have most of the time. */
void stress_rest(struct actor *self);
/* Counts a difference and prints the actor's first. */
void stress_expect(struct actor *actor, const char *what, uint64_t is, uint64_t wanted);

thread_fn pair_client, pair_server, bell_ringer, bell_listener, mapper, maker, mover, landlord;

#endif
