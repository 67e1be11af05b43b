/* SPDX-License-Identifier: MIT */
/*
 * Threads in spaces of their own. A landlord makes a space on some core, is called by the thread in it,
 * moves it about, and sees it leave or ends it in the middle. Both draw from one seed, so the landlord
 * knows each word that has to come: no call is lost, none comes twice, none after the end. What the
 * lodger has counted stands in a page that both spaces have.
 */
#include <stddef.h>

#include "user/libos/process.h"
#include "user/libos/syscall.h"
#include "user/tests/stress/letter.h"

#define ACCOUNT    (2UL << 20)
#define CALLS      32   /* fewer in one stay, */
#define FIRST      2560 /* and the first one's number less than this: it says how long it is */
#define MOVE_EVERY 8
#define NULLS      128 /* system calls, fewer, before one is ended that goes on calling */

enum leaving { BY_RETURN, BY_ENDING_ITS_SPACE, WHEN_ENDED, LEAVINGS };

struct room {
    struct actor lodger;
    enum leaving leaving;
    uint64_t end; /* number of the first call that is not answered */
};

struct stay {
    struct process process;
    struct region region; /* the room */
    struct room *room;
    struct actor expected;  /* its seed goes on as the lodger's */
    uint64_t random, first; /* number of its first call */
    uint64_t wrong;         /* the landlord's count as it begins: the lodger's goes on from there */
};

static struct letter letters[LANDLORDS];
static struct start_page pages[LANDLORDS];

static void lodge(uint64_t argument)
{
    struct room *room = (struct room *)argument;
    struct actor *self = &room->lodger;

    self->object = own.extra[0];
    while (room->leaving == WHEN_ENDED || self->operations < room->end) {
        letter_call(self, &letters[0], self->operations);
        self->operations++;
    }
    if (room->leaving == BY_ENDING_ITS_SPACE) {
        sys_space_end(0);
    }
}

static int64_t load(const struct actor *self, struct stay *stay)
{
    struct process *process = &stay->process;
    int64_t status = process_load_twin(process, lodge, (uint64_t)stay->room);

    if (status >= 0) {
        status = process_share(process, &stay->region, MAP_READ | MAP_WRITE);
    }
    if (status >= 0) {
        status = process_give(process, self->object, RIGHT_ALL, 0, &process->page->extra[0]);
    }
    if (status >= 0) {
        status = sys_space_watch(process->space, self->answer, 1).value;
    }
    if (status >= 0) {
        status =
            sys_thread_set_affinity(process->thread, stay->random / CALLS % stress_cores).value;
    }
    return status < 0 ? status : process_start(process);
}

static int64_t move_in(struct actor *self, struct stay *stay)
{
    int64_t status = region_create(&stay->region, sizeof(struct room));

    if (status < 0) {
        return status;
    }
    stay->random = stress_random(&self->seed);
    stay->first = stress_random(&self->seed) % FIRST;
    stay->expected.seed = stress_random(&self->seed);
    stay->wrong = self->wrong;
    stay->room = stay->region.address;
    stay->room->lodger = (struct actor){.kind = "lodger",
                                        .number = self->number,
                                        .seed = stay->expected.seed,
                                        .operations = stay->first,
                                        .wrong = self->wrong};
    stay->room->end = stay->first + 1 + stay->random % CALLS;
    stay->room->leaving = stay->random / CALLS % LEAVINGS;
    status = process_create(&stay->process, &pages[self->number], ACCOUNT,
                            PRIORITY(MAKER_PRIORITY, MAKER_PRIORITY));
    return status < 0 ? status : load(self, stay);
}

static void check_call(struct actor *self, struct stay *stay, uint64_t n, int64_t info,
                       const struct words *words)
{
    struct words expected;

    letter_words(&stay->expected, &expected);
    stress_expect(self, "a call's descriptor",
                  info < 0 ? (uint64_t)info : info_label((uint64_t)info), n);
    for (unsigned i = 0; i < MESSAGE_WORDS; i++) {
        stress_expect(self, "a word of a call", words->word[i], expected.word[i]);
    }
}

static void serve(struct actor *self, struct stay *stay)
{
    struct letter *letter = &letters[self->number];

    for (uint64_t n = stay->first; n < stay->room->end; n++) {
        struct words words;
        struct result result = ipc_receive(self->object, 0, &words, letter_message(letter),
                                           TIMEOUT_NONE);

        check_call(self, stay, n, result.value, &words);
        if (n % MOVE_EVERY == MOVE_EVERY - 1) {
            uint64_t core = stress_random(&self->seed) % stress_cores;

            stress_expect(self, "a lodger's move",
                          (uint64_t)sys_thread_set_affinity(stay->process.thread, core).value, 0);
        }
        uint64_t info = letter_answer(self, letter, (uint64_t)result.value, &words);

        result = ipc_reply(0, info, &words, letter_message(letter), TIMEOUT_NONE);
        stress_expect(self, "an answer", (uint64_t)result.value, 0);
    }
}

/* One that is ended may not have come to count its last answer, and may be calling again. */
static void move_out(struct actor *self, struct stay *stay)
{
    struct room *room = stay->room;
    uint64_t nulls = room->leaving == WHEN_ENDED ? stress_random(&self->seed) % NULLS : 0;
    struct words words;

    for (uint64_t i = 0; i < nulls; i++) {
        sys_null();
    }
    if (room->leaving == WHEN_ENDED) {
        stress_expect(self, "a space's end", (uint64_t)sys_space_end(stay->process.space).value, 0);
    }
    stress_expect(self, "word of its end", sys_wait(self->answer, TIMEOUT_NONE).second, 1);
    stress_expect(self, "a call of a dead one",
                  (uint64_t)ipc_receive(self->object, 0, &words, NULL, 0).value, (uint64_t)E_AGAIN);
    uint64_t missing = room->end - room->lodger.operations;

    if (room->leaving != WHEN_ENDED || missing > 1) {
        stress_expect(self, "calls without an answer", missing, 0);
    }
    self->wrong += room->lodger.wrong - stay->wrong;
}

void landlord(void *argument)
{
    struct actor *self = argument;

    while (!stress_stop) {
        struct stay stay = {.random = 0};
        int64_t status = move_in(self, &stay);

        if (status >= 0) {
            serve(self, &stay);
            move_out(self, &stay);
        }
        stress_expect(self, "a space", (uint64_t)status, 0);
        process_destroy(&stay.process);
        region_release(&stay.region);
        self->operations++;
        __atomic_fetch_add(&stress_spaces, 1, __ATOMIC_RELAXED);
        stress_rest(self);
    }
    self->ended = true;
}
