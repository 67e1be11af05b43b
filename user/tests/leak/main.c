/* SPDX-License-Identifier: MIT */
/*
 * leak [ROUNDS]: creates, uses and destroys an object of each type so many times, in several ways
 * each, and then looks whether its account and the machine's free memory are what they were, to the byte. Says
 * for each kind what the calls said that they should not have.
 */
#include "kernel/lib/string.h"
#include "user/libos/ipc.h"
#include "user/libos/number.h"
#include "user/libos/print.h"
#include "user/libos/start.h"
#include "user/libos/thread.h"
#include "user/tests/leak/server.h"

#define ROUNDS   1000
#define WARM_UP  2 /* rounds after which tables have their size */
#define SPOT     0x600000000000UL
#define CODE     0x10000UL /* in the little spaces */
#define LOW      PRIORITY(60, 60)
#define ABOVE    PRIORITY(140, 140)
#define FAULTING 0x0b0f /* ud2 */

static struct server server;
static struct region code;
static unsigned round_number, wrong;

static void expect(const char *what, int64_t is, int64_t wanted)
{
    if (is != wanted && wrong++ < 20) {
        printf("leak: round %u: %s: %ld, not %ld\n", round_number, what, is, wanted);
    }
}

static cap_t made(const char *what, struct result result)
{
    expect(what, result.value, 0);
    return result.value < 0 ? 0 : result.second;
}

static void gone(cap_t handle)
{
    expect("delete", sys_cap_delete(handle).value, 0);
}

static void notifications(void)
{
    cap_t notification = made("create", sys_notification_create(own.quota));
    cap_t copy = made("copy", sys_cap_copy(notification, RIGHT_ALL, 5, 0));
    cap_t moved = made("move", sys_cap_move(copy, 0));

    expect("stale", sys_signal(copy, 1).value, E_BADCAP);
    expect("signal", sys_signal(moved, 0).value, 0);
    expect("bits", (int64_t)sys_poll(notification).second, 5);
    expect("bind", sys_thread_bind(own.thread, notification).value, 0);
    expect("wait", sys_wait(notification, 1000).value, E_TIMEOUT);
    expect("revoke", sys_cap_revoke(notification).value, 0);
    expect("revoked", sys_signal(moved, 1).value, E_BADCAP);
    gone(notification); /* bound still */
}

static void send_to_server(uint64_t info, int64_t wanted)
{
    static uint8_t buffer[MESSAGE_ROOM];
    struct words words = {.word = {0}};
    struct message message = {.send_buffer = (uint64_t)buffer};
    cap_t caps[2] = {made("create", sys_notification_create(own.quota)),
                     made("create", sys_endpoint_create(own.quota))};

    message.send_caps[0] = caps[0];
    message.send_caps[1] = caps[1];
    info |= INFO_CAPS(2) | MESSAGE_ROOM;
    struct result result = ipc_call(server.endpoint, info, &words, &message, TIMEOUT_NONE);

    expect("call", result.value, wanted);
    gone(caps[0]);
    gone(caps[1]);
}

static void messages(void)
{
    struct words words = {.word = {0}};
    cap_t endpoint = made("create", sys_endpoint_create(own.quota));
    cap_t badged = made("badge", sys_cap_copy(endpoint, RIGHT_ALL, 7, 0));

    expect("nobody", ipc_send(badged, 0, &words, NULL, 0).value, E_AGAIN);
    gone(endpoint);
    gone(badged);
    send_to_server(INFO_LABEL(REQUEST_REPLY), 0);
    send_to_server(INFO_LABEL(REQUEST_SAVE), 0);
    send_to_server(INFO_LABEL(REQUEST_LOSE), E_DEAD);
}

static void memory(void)
{
    cap_t memory = made("create", sys_memory_create(own.quota, 3 * PAGE_BYTES, 0));
    cap_t part = made("slice", sys_range_slice(memory, PAGE_BYTES, PAGE_BYTES));
    uint64_t flags = MAP_READ | MAP_WRITE;

    expect("map", sys_map(own.space, memory, SPOT | flags, 3 * PAGE_BYTES, 0).value, 0);
    expect("map part",
           sys_map(own.space, part, (SPOT + (1UL << 40)) | MAP_READ, PAGE_BYTES, 0).value, 0);
    *(volatile uint64_t *)(SPOT + PAGE_BYTES) = 9;
    expect("shared", (int64_t) * (volatile uint64_t *)(SPOT + (1UL << 40)), 9);
    expect("protect", sys_protect(own.space, SPOT, PAGE_BYTES, MAP_READ).value, 0);
    expect("unmap", sys_unmap(own.space, SPOT + PAGE_BYTES, PAGE_BYTES).value, 0);
    gone(memory); /* mapped still */
    gone(part);
}

static void paging(void)
{
    server.paged = made("create", sys_memory_create(own.quota, 1UL << 30, server.endpoint));
    expect("map", sys_map(own.space, server.paged, SPOT | MAP_READ, 1UL << 30, 0).value, 0);
    for (uint64_t page = 0; page < 1UL << 30; page += 300UL << 20) {
        expect("content", *(volatile uint8_t *)(SPOT + page), 0x0f);
    }
    cap_t target = made("create", sys_memory_create(own.quota, PAGE_BYTES, 0));

    expect("reclaim", sys_memory_reclaim(server.paged, 300UL << 20, target, 0).value, 0);
    expect("reclaim", sys_memory_reclaim(server.paged, 600UL << 20, 0, 0).value, 0);
    expect("gone already", sys_memory_reclaim(server.paged, 600UL << 20, 0, 0).value, E_INVAL);
    expect("content", *(volatile uint8_t *)(SPOT + (300UL << 20)), 0x0f);
    gone(target);
    gone(server.paged);
}

/* The server cannot bring the page of a message that it is just receiving: time ends it. */
static void message_without_end(void)
{
    struct words words = {.word = {0}};
    struct message message = {.send_buffer = SPOT};
    uint64_t info = INFO_LABEL(REQUEST_REPLY) | MESSAGE_ROOM;

    server.paged = made("create", sys_memory_create(own.quota, PAGE_BYTES, server.endpoint));
    expect("map", sys_map(own.space, server.paged, SPOT | MAP_READ, PAGE_BYTES, 0).value, 0);
    expect("call", ipc_call(server.endpoint, info, &words, &message, 1000).value, E_TIMEOUT);
    gone(server.paged);
}

static void accounts(void)
{
    cap_t child = made("split", sys_quota_split(own.quota, 16 * PAGE_BYTES));
    cap_t grandchild = made("split", sys_quota_split(child, 4 * PAGE_BYTES));
    cap_t endpoint = made("create", sys_endpoint_create(grandchild));

    expect("too much", sys_memory_create(child, 16 * PAGE_BYTES, 0).value, E_NOMEM);
    gone(child);
    gone(grandchild); /* both live on in the endpoint */
    gone(endpoint);
}

static void use_fpu(void *done)
{
    __asm__ volatile("fldpi\n\tfstp %st(0)");
    sys_signal((cap_t)done, 1);
}

static void threads(void)
{
    cap_t done = made("create", sys_notification_create(own.quota));
    cap_t idle = made("create", sys_thread_create(own.quota, own.space, LOW));
    struct user_thread thread;

    expect("spawn", thread_spawn(&thread, use_fpu, (void *)done, LOW), 0);
    expect("wait", sys_wait(done, TIMEOUT_NONE).value, 0);
    thread_reap(&thread);
    expect("spawn", thread_spawn(&thread, use_fpu, (void *)done, LOW), 0);
    thread_reap(&thread); /* before it has run */
    gone(idle);
    gone(done);
}

/* A space with one thread, which faults: the server ends it, and the space goes with it. */
static void spaces(void)
{
    cap_t account = made("split", sys_quota_split(own.quota, 64 * PAGE_BYTES));
    cap_t ended = made("create", sys_notification_create(own.quota));
    cap_t space = made("create", sys_space_create(own.quota, account));
    cap_t thread = made("create", sys_thread_create(own.quota, space, ABOVE));

    made("give", sys_cap_copy(server.endpoint, RIGHT_ALL, 3, space));
    made("give", sys_cap_copy(space, RIGHT_ALL, 0, space));
    made("give", sys_cap_copy(code.memory, RIGHT_ALL, 0, space));
    uint64_t flags = MAP_READ | MAP_EXECUTE;
    expect("map", sys_map(space, code.memory, CODE | flags, PAGE_BYTES, 0).value, 0);
    expect("fault", sys_space_set_fault(space, server.endpoint, 1).value, 0);
    expect("watch", sys_space_watch(space, ended, 1).value, 0);
    expect("start", sys_thread_start(thread, CODE, 0, 0).value, 0);
    expect("ended", sys_wait(ended, TIMEOUT_NONE).value, 0);
    expect("dead", sys_thread_resume(thread).value, E_DEAD);
    gone(thread);
    gone(space);
    gone(ended);
    gone(account);
}

/* On another core it would run, and fault, at once. */
static void keep_here(cap_t thread)
{
    uint64_t core = sys_kernel_info(KINFO_CORE_HERE, 0).second;

    expect("affinity", sys_thread_set_affinity(thread, core).value, 0);
}

/* One that ends while it is in use: threads that wait, memory that is mapped, capabilities. */
static void spaces_cut_short(void)
{
    cap_t space = made("create", sys_space_create(own.quota, 0));

    for (int i = 0; i < 3; i++) {
        cap_t thread = made("create", sys_thread_create(own.quota, space, LOW));

        keep_here(thread);
        expect("start", sys_thread_start(thread, CODE, 0, 0).value, 0);
        made("move", sys_cap_move(thread, space));
    }
    cap_t memory = made("create", sys_memory_create(own.quota, PAGE_BYTES, 0));

    expect("map", sys_map(space, memory, CODE | MAP_READ, PAGE_BYTES, 0).value, 0);
    made("move", sys_cap_move(memory, space));
    expect("end", sys_space_end(space).value, 0);
    gone(space);
}

static void hardware(void)
{
    if (!own.grants[GRANT_IRQS] || !own.grants[GRANT_IOPORTS]) {
        return;
    }
    cap_t notification = made("create", sys_notification_create(own.quota));
    cap_t line = made("slice", sys_range_slice(own.grants[GRANT_IRQS], 8, 1));
    cap_t port = made("slice", sys_range_slice(own.grants[GRANT_IOPORTS], 0x71, 1));

    expect("bind", sys_irq_bind(line, notification, 1).value, 0);
    expect("read", sys_ioports_read(port, 0x71, 1).value, 0);
    gone(notification); /* bound still */
    gone(line);
    gone(port);
}

static void play(void)
{
    notifications();
    messages();
    memory();
    paging();
    message_without_end();
    accounts();
    threads();
    spaces();
    spaces_cut_short();
    hardware();
    round_number++;
}

struct figures {
    uint64_t account, machine;
};

static struct figures figures(void)
{
    return (struct figures){sys_quota_info(own.quota).second,
                            sys_kernel_info(KINFO_FREE_BYTES, 0).second};
}

static void start_server(void)
{
    static struct user_thread thread;
    cap_t endpoint = made("create", sys_endpoint_create(own.quota));

    if (region_create(&code, PAGE_BYTES) < 0) {
        die("no memory");
    }
    *(uint16_t *)code.address = FAULTING;
    server = (struct server){.endpoint = endpoint, .page = code.memory};
    if (thread_spawn(&thread, serve, &server, PRIORITY(150, 150)) < 0) {
        die("no server");
    }
}

int main(int argc, char **argv)
{
    uint64_t rounds = ROUNDS;

    if (argc > 1 && !parse_number(argv[1], &rounds)) {
        die("ROUNDS");
    }
    keep_here(own.thread);
    start_server();
    for (int i = 0; i < WARM_UP; i++) {
        play();
    }
    struct figures before = figures();

    for (uint64_t i = 0; i < rounds; i++) {
        play();
    }
    struct figures after = figures();

    printf("leak: %lu rounds, %ld bytes of the account, %ld of the machine, %u wrong\n", rounds,
           (int64_t)(before.account - after.account), (int64_t)(before.machine - after.machine),
           wrong);
    return wrong != 0 || before.account != after.account || before.machine != after.machine;
}
