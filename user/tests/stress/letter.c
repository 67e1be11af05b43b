/* SPDX-License-Identifier: MIT */
#include "user/tests/stress/letter.h"

#include <stddef.h>

#define LONG_EVERY  16
#define TURN(value) (~(value)*0x9e3779b97f4a7c15UL)

struct message *letter_message(struct letter *letter)
{
    letter->message = (struct message){.send_buffer = (uint64_t)letter->words,
                                       .receive_buffer = (uint64_t)letter->received,
                                       .receive_size = sizeof(letter->received)};
    return &letter->message;
}

uint64_t letter_words(struct actor *self, struct words *words)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < MESSAGE_WORDS; i++) {
        words->word[i] = stress_random(&self->seed);
        sum += words->word[i];
    }
    return sum;
}

static void check_answer(struct actor *self, const struct words *sent, const struct words *got)
{
    for (unsigned i = 0; i < MESSAGE_WORDS; i++) {
        stress_expect(self, "a word of the answer", got->word[i], TURN(sent->word[i]));
    }
}

static void check_bytes(struct actor *self, const struct letter *letter, uint64_t first,
                        uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        stress_expect(self, "a long message's word", letter->received[i], first + i);
    }
}

void letter_call(struct actor *self, struct letter *letter, uint64_t n)
{
    uint64_t count = n % LONG_EVERY ? 0 : 1 + n / LONG_EVERY % LONG_WORDS;
    struct words sent, words;

    self->sum += letter_words(self, &sent);
    words = sent;
    for (uint64_t i = 0; i < count; i++) {
        letter->words[i] = n + i;
    }
    struct result result = ipc_call(self->object, INFO_LABEL(n % LABEL_STOP) | count * 8, &words,
                                    count ? letter_message(letter) : NULL, TIMEOUT_NONE);

    stress_expect(self, "an answer's descriptor", (uint64_t)result.value,
                  INFO_LABEL(n % LABEL_STOP) | count * 8);
    check_answer(self, &sent, &words);
    check_bytes(self, letter, n + 1, count);
}

/* The answer: each word turned, each of the bytes' words one more. */
uint64_t letter_answer(struct actor *self, struct letter *letter, uint64_t info,
                       struct words *words)
{
    for (unsigned i = 0; i < MESSAGE_WORDS; i++) {
        self->sum += words->word[i];
        words->word[i] = TURN(words->word[i]);
    }
    for (uint64_t i = 0; i < info_bytes(info) / 8; i++) {
        letter->words[i] = letter->received[i] + 1;
    }
    self->operations++;
    return INFO_LABEL(info_label(info)) | info_bytes(info);
}
