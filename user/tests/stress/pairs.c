/* SPDX-License-Identifier: MIT */
/* Who calls and who answers; and who moves them about. */
#include <stddef.h>

#include "user/tests/stress/letter.h"

static struct letter letters[2 * PAIRS];

void pair_client(void *argument)
{
    struct actor *self = argument;
    struct letter *letter = &letters[2 * self->number];
    struct words words = {.word = {0}};

    for (uint64_t n = 0; !stress_stop; n++) {
        letter_call(self, letter, n);
        self->operations++;
    }
    ipc_call(self->object, INFO_LABEL(LABEL_STOP), &words, NULL, TIMEOUT_NONE);
    self->ended = true;
}

void pair_server(void *argument)
{
    struct actor *self = argument;
    struct letter *letter = &letters[2 * self->number + 1];
    struct words words;
    struct result result = ipc_receive(self->object, 0, &words, letter_message(letter),
                                       TIMEOUT_NONE);

    while (result.value >= 0 && info_label((uint64_t)result.value) != LABEL_STOP) {
        uint64_t info = letter_answer(self, letter, (uint64_t)result.value, &words);

        result = ipc_reply_receive(self->object, info, &words, letter_message(letter),
                                   TIMEOUT_NONE);
    }
    if (result.value < 0) {
        stress_expect(self, "a receive", (uint64_t)result.value, 0);
    }
    self->ended = true;
    ipc_reply(0, 0, &words, NULL, TIMEOUT_NONE);
}

/* Clients change cores and priorities while they call. */
void mover(void *argument)
{
    struct actor *self = argument;

    while (!stress_stop) {
        uint64_t random = stress_random(&self->seed);
        const struct actor *client = &actors[2 * (random % PAIRS)];
        struct result result = random >> 32 & 1
                                   ? sys_thread_set_affinity(client->thread.cap,
                                                             random / PAIRS % stress_cores)
                                   : sys_thread_set_priority(client->thread.cap,
                                                             STRESS_PRIORITY - random / PAIRS % 3);

        if (result.value != E_DEAD || !client->ended) { /* it may have come to its end before us */
            stress_expect(self, "a move", (uint64_t)result.value, 0);
        }
        self->operations++;
        sys_sleep(1000 * (random >> 48 & 0xff));
    }
    self->ended = true;
}
