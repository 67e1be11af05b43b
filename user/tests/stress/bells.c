/* SPDX-License-Identifier: MIT */
/* Storms of signals: one rings all its bits, in any order; the other has heard each of them. */
#include "kernel/abi/message.h"
#include "user/libos/syscall.h"
#include "user/tests/stress/actor.h"

#define BITS 8
#define ALL  ((1UL << BITS) - 1)

void bell_ringer(void *argument)
{
    struct actor *self = argument;

    while (!stress_stop) {
        unsigned first = stress_random(&self->seed) % BITS;

        for (unsigned i = 0; i < BITS; i++) {
            stress_expect(self, "a signal",
                          (uint64_t)sys_signal(self->object, 1UL << (first + i) % BITS).value, 0);
            self->operations++;
        }
        struct result result = sys_wait(self->answer, TIMEOUT_NONE);

        stress_expect(self, "the listener's bit", result.second, 1);
    }
    self->ended = true;
    sys_signal(self->object, 1UL << BITS);
}

void bell_listener(void *argument)
{
    struct actor *self = argument;
    uint64_t heard = 0;

    while (!(heard & ~ALL)) {
        struct result result = sys_wait(self->object, TIMEOUT_NONE);

        stress_expect(self, "a bit heard twice", heard & result.second, 0);
        heard |= result.second;
        if (heard == ALL) {
            self->operations++;
            heard = 0;
            sys_signal(self->answer, 1);
        }
    }
    self->ended = true;
}
