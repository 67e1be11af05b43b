/* SPDX-License-Identifier: MIT */
/* Calls and replies, every sixteenth with bytes; both sides check each word. And who moves them about. */
#include <stddef.h>

#include "user/libos/ipc.h"
#include "user/tests/stress/actor.h"

#define LABEL_STOP  0x7fffffffu
#define LONG_EVERY  16
#define LONG_WORDS  160 /* more than a page's part for some, less than the whole for others */
#define TURN(value) (~(value)*0x9e3779b97f4a7c15UL)

struct letter {
    uint64_t words[LONG_WORDS] __attribute__((aligned(64)));
    uint64_t received[LONG_WORDS];
    struct message message;
};

static struct letter letters[2 * PAIRS];

static struct message *message_of(struct letter *letter)
{
    letter->message = (struct message){.send_buffer = (uint64_t)letter->words,
                                       .receive_buffer = (uint64_t)letter->received,
                                       .receive_size = sizeof(letter->received)};
    return &letter->message;
}

static uint64_t write_words(struct actor *self, struct words *words)
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

static void call_once(struct actor *self, struct letter *letter, uint64_t n)
{
    uint64_t count = n % LONG_EVERY ? 0 : 1 + n / LONG_EVERY % LONG_WORDS;
    struct words sent, words;

    self->sum += write_words(self, &sent);
    words = sent;
    for (uint64_t i = 0; i < count; i++) {
        letter->words[i] = n + i;
    }
    struct result result = ipc_call(self->object, INFO_LABEL(n % LABEL_STOP) | count * 8, &words,
                                    count ? message_of(letter) : NULL, TIMEOUT_NONE);

    stress_expect(self, "an answer's descriptor", (uint64_t)result.value,
                  INFO_LABEL(n % LABEL_STOP) | count * 8);
    check_answer(self, &sent, &words);
    check_bytes(self, letter, n + 1, count);
}

void pair_client(void *argument)
{
    struct actor *self = argument;
    struct letter *letter = &letters[2 * self->number];
    struct words words = {.word = {0}};

    for (uint64_t n = 0; !stress_stop; n++) {
        call_once(self, letter, n);
        self->operations++;
    }
    ipc_call(self->object, INFO_LABEL(LABEL_STOP), &words, NULL, TIMEOUT_NONE);
    self->ended = true;
}

/* The answer: each word turned, each of the bytes' words one more. */
static uint64_t answer(struct actor *self, struct letter *letter, uint64_t info,
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

void pair_server(void *argument)
{
    struct actor *self = argument;
    struct letter *letter = &letters[2 * self->number + 1];
    struct words words;
    struct result result = ipc_receive(self->object, 0, &words, message_of(letter), TIMEOUT_NONE);

    while (result.value >= 0 && info_label((uint64_t)result.value) != LABEL_STOP) {
        uint64_t info = answer(self, letter, (uint64_t)result.value, &words);

        result = ipc_reply_receive(self->object, info, &words, message_of(letter), TIMEOUT_NONE);
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
