/* SPDX-License-Identifier: MIT */
/* What is called and answered in `stress`: random words, every sixteenth time bytes too; both sides check. */
#ifndef ONESTACK_STRESS_LETTER_H
#define ONESTACK_STRESS_LETTER_H

#include "user/libos/ipc.h"
#include "user/tests/stress/actor.h"

#define LABEL_STOP 0x7fffffffu
#define LONG_WORDS 160 /* more than a page's part for some, less than the whole for others */

struct letter {
    uint64_t words[LONG_WORDS] __attribute__((aligned(64)));
    uint64_t received[LONG_WORDS];
    struct message message;
};

/* For receiving into and answering from. */
struct message *letter_message(struct letter *letter);
/* The words of the actor's next call; their sum. */
uint64_t letter_words(struct actor *self, struct words *words);
/* Call number `n`, its answer checked. */
void letter_call(struct actor *self, struct letter *letter, uint64_t n);
/* Make the answer to a call out of what was received: its descriptor. */
uint64_t letter_answer(struct actor *self, struct letter *letter, uint64_t info,
                       struct words *words);

#endif
