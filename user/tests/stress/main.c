/* SPDX-License-Identifier: MIT */
/*
 * stress [OPERATIONS [SEED]]: 64 threads that call each other within and across cores, and others that
 * signal, map and unmap, make and end threads and spaces, and move the callers about, until so many
 * operations are done. Everything received is checked; each side's sum must be its partner's; the
 * account must be what it was. Prints progress, and who does not go on if somebody does not.
 */
#include "user/libos/number.h"
#include "user/libos/print.h"
#include "user/libos/start.h"
#include "user/libos/syscall.h"
#include "user/tests/stress/actor.h"

#define OPERATIONS  100000UL
#define MAIN        PRIORITY(120, 120)
#define LOOK_NS     100000000UL
#define STUCK_LOOKS 600 /* without any operation: a minute */
#define REPORTS     20
#define REST_NS     20000000UL
#define CAPS_MOST   512
/* How many are made meanwhile is the host's affair: shootdowns wait for all of its threads. */
#define SPACES_LEAST(operations) (4 + (operations) / 50000)

struct actor actors[ACTORS];
volatile bool stress_stop;
unsigned stress_cores;
uint64_t stress_spaces;

static struct actor *next_actor = actors;

/* xorshift64*, never 0 */
uint64_t stress_random(uint64_t *seed)
{
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return *seed * 0x2545f4914f6cdd1dUL;
}

void stress_expect(struct actor *actor, const char *what, uint64_t is, uint64_t wanted)
{
    if (is == wanted) {
        return;
    }
    if (actor->wrong++ == 0) {
        printf("stress: %s %u: %s: 0x%lx, not 0x%lx\n", actor->kind, actor->number, what, is,
               wanted);
    }
}

void stress_rest(struct actor *self)
{
    sys_sleep(stress_random(&self->seed) % REST_NS);
}

static struct actor *cast(const char *kind, unsigned number, uint64_t seed)
{
    struct actor *actor = next_actor++;

    actor->kind = kind;
    actor->number = number;
    actor->seed = seed * 2654435761UL + (uint64_t)(actor - actors) + 1;
    return actor;
}

static cap_t made(struct result result)
{
    if (result.value < 0) {
        die("no object: %s", error_name(result.value));
    }
    return result.second;
}

/* Their thread, not yet begun to matter: it goes to its core first. */
static void start(struct actor *actor, thread_fn *function, unsigned core)
{
    bool makes = function == maker || function == landlord;
    unsigned priority = makes ? MAKER_PRIORITY : STRESS_PRIORITY;
    int64_t status = thread_spawn(&actor->thread, function, actor, PRIORITY(priority, priority));

    if (status < 0 || sys_thread_set_affinity(actor->thread.cap, core % stress_cores).value < 0) {
        die("no thread: %s", error_name(status));
    }
}

/* The first half within a core, the others from one to the next. */
static void cast_pairs(uint64_t seed)
{
    for (unsigned i = 0; i < PAIRS; i++) {
        struct actor *client = cast("client", i, seed), *server = cast("server", i, seed);

        client->partner = server;
        client->object = server->object = made(sys_endpoint_create(own.quota));
    }
    for (unsigned i = 0; i < PAIRS; i++) {
        start(&actors[2 * i + 1], pair_server, i + (i >= PAIRS / 2));
        start(&actors[2 * i], pair_client, i);
    }
}

static void cast_bells(uint64_t seed)
{
    for (unsigned i = 0; i < BELLS; i++) {
        struct actor *ringer = cast("ringer", i, seed), *listener = cast("listener", i, seed);

        ringer->object = listener->object = made(sys_notification_create(own.quota));
        ringer->answer = listener->answer = made(sys_notification_create(own.quota));
        start(listener, bell_listener, i + i / 2);
        start(ringer, bell_ringer, i);
    }
}

static void cast_others(uint64_t seed)
{
    for (unsigned i = 0; i < MAPPERS; i++) {
        start(cast("mapper", i, seed), mapper, i);
    }
    for (unsigned i = 0; i < MAKERS; i++) {
        struct actor *actor = cast("maker", i, seed);

        actor->object = made(sys_notification_create(own.quota));
        start(actor, maker, i);
    }
    for (unsigned i = 0; i < MOVERS; i++) {
        start(cast("mover", i, seed), mover, i);
    }
    for (unsigned i = 0; i < LANDLORDS; i++) {
        struct actor *actor = cast("landlord", i, seed);

        actor->object = made(sys_endpoint_create(own.quota));
        actor->answer = made(sys_notification_create(own.quota));
        start(actor, landlord, i);
    }
}

static uint64_t all_operations(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < ACTORS; i++) {
        sum += actors[i].operations;
    }
    return sum;
}

static bool all_ended(void)
{
    for (unsigned i = 0; i < ACTORS; i++) {
        if (!actors[i].ended) {
            return false;
        }
    }
    return true;
}

/* Print who has done nothing since the last look; true: there was one. */
static bool name_the_stuck(const uint64_t *before)
{
    bool any = false;

    for (unsigned i = 0; i < ACTORS; i++) {
        if (actors[i].operations == before[i] && !actors[i].ended) {
            printf("stress: %s %u is stuck after %lu operations\n", actors[i].kind,
                   actors[i].number, actors[i].operations);
            any = true;
        }
    }
    return any;
}

/* One by one each must go on; a look at all of them every so often. */
static void watch(uint64_t wanted)
{
    static uint64_t before[ACTORS];
    uint64_t reported = 0, sum;

    for (unsigned look = 1;
         (sum = all_operations()) < wanted || stress_spaces < SPACES_LEAST(wanted); look++) {
        sys_sleep(LOOK_NS);
        if (sum / (wanted / REPORTS + 1) != reported) {
            reported = sum / (wanted / REPORTS + 1);
            printf("stress: %lu operations\n", sum);
        }
        if (look % STUCK_LOOKS == 0) {
            if (name_the_stuck(before)) {
                die("not all go on");
            }
            for (unsigned i = 0; i < ACTORS; i++) {
                before[i] = actors[i].operations;
            }
        }
    }
    stress_stop = true;
    for (unsigned look = 0; !all_ended(); look++) {
        sys_sleep(LOOK_NS / 10);
        if (look == STUCK_LOOKS * 10) {
            static uint64_t now[ACTORS];

            for (unsigned i = 0; i < ACTORS; i++) {
                now[i] = actors[i].operations;
            }
            name_the_stuck(now);
            die("not all come to an end");
        }
    }
}

static uint64_t strike(void)
{
    uint64_t lost = 0;

    for (unsigned i = 0; i < ACTORS; i++) {
        struct actor *actor = &actors[i];

        thread_reap(&actor->thread);
        if (actor->partner) {
            lost += actor->operations != actor->partner->operations ||
                    actor->sum != actor->partner->sum;
        }
        if (actor->object != 0) { /* the partner's is the same: gone already */
            sys_cap_delete(actor->object);
            sys_cap_delete(actor->answer);
        }
    }
    return lost;
}

static uint64_t free_bytes(void)
{
    return sys_quota_info(own.quota).second;
}

/* Other cores have to pass a clean point before all memory is free again: until it stays the same. */
static uint64_t settled_bytes(void)
{
    uint64_t before, now = free_bytes();

    do {
        before = now;
        sys_sleep(LOOK_NS / 4);
        now = free_bytes();
    } while (now != before);
    return now;
}

static uint64_t argument(int argc, char **argv, int number, uint64_t otherwise)
{
    uint64_t value;

    return argc > number && parse_number(argv[number], &value) ? value : otherwise;
}

/* A table of capabilities does not shrink: let it have from the start what it takes at most. */
static void make_room(void)
{
    static cap_t room[CAPS_MOST];

    for (unsigned i = 0; i < CAPS_MOST; i++) {
        room[i] = made(sys_cap_copy(own.quota, RIGHT_ALL, 0, 0));
    }
    for (unsigned i = 0; i < CAPS_MOST; i++) {
        sys_cap_delete(room[i]);
    }
}

/* From nothing to nothing; how many operations, and what was wrong. */
static uint64_t play(uint64_t wanted, uint64_t seed, uint64_t *wrong, uint64_t *lost)
{
    uint64_t sum;

    for (unsigned i = 0; i < ACTORS; i++) {
        actors[i] = (struct actor){0};
    }
    next_actor = actors;
    stress_stop = false;
    stress_spaces = 0;
    cast_pairs(seed);
    cast_bells(seed);
    cast_others(seed);
    watch(wanted);
    sum = all_operations();
    for (unsigned i = 0; i < ACTORS; i++) {
        *wrong += actors[i].wrong;
    }
    *lost += strike();
    return sum;
}

/* A short play comes first: after it page tables have their size. */
int main(int argc, char **argv)
{
    uint64_t wanted = argument(argc, argv, 1, OPERATIONS), seed = argument(argc, argv, 2, 1);
    uint64_t before, sum, wrong = 0, lost = 0;

    stress_cores = (unsigned)sys_kernel_info(KINFO_CORES, 0).second;
    printf("stress: %lu operations on %u cores, seed %lu\n", wanted, stress_cores, seed);
    sys_thread_set_priority(own.thread, MAIN & 0xff);
    make_room();
    play(1, seed, &wrong, &lost);
    before = settled_bytes();
    sum = play(wanted, seed, &wrong, &lost);
    printf("stress: %lu spaces made and ended\n", stress_spaces);
    printf("stress: %lu operations done, %lu wrong, %lu sums differ, %ld bytes missing\n", sum,
           wrong, lost, (int64_t)(before - settled_bytes()));
    return wrong != 0 || lost != 0;
}
