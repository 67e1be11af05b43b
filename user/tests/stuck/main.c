/* SPDX-License-Identifier: MIT */
/*
 * stuck CORE OWN [panic|dump]: a thread on core CORE does system calls that do nothing, and the harness
 * makes one of them endless. This one, on core OWN, says when that thread gets stuck and when it goes
 * on; with `panic` it stops the machine then. With `dump` an external NMI is answered by a report.
 */
#include "kernel/lib/string.h"
#include "user/libos/number.h"
#include "user/libos/print.h"
#include "user/libos/start.h"
#include "user/libos/syscall.h"
#include "user/libos/thread.h"

#define LOOK_NS 20000000UL
#define LOOKS   5 /* without a call between them, and it is stuck */

static volatile uint64_t calls;

static void call_for_ever(void *unused)
{
    (void)unused;
    for (;;) {
        sys_null();
        calls++;
    }
}

static uint64_t calls_after_a_look(void)
{
    sys_sleep(LOOK_NS);
    return calls;
}

static void wait_until_it_runs(uint64_t from)
{
    while (calls_after_a_look() == from) {
    }
}

static void wait_until_it_is_stuck(void)
{
    uint64_t seen = calls;

    for (int looks = 0; looks < LOOKS; looks++) {
        uint64_t now = calls_after_a_look();

        if (now != seen) {
            looks = 0;
        }
        seen = now;
    }
}

static void pin(cap_t thread, const char *text)
{
    uint64_t core;

    if (!parse_number(text, &core) || sys_thread_set_affinity(thread, core).value != 0) {
        die("core %s", text);
    }
}

int main(int argc, char **argv)
{
    static struct user_thread thread;
    const char *what = argc > 3 ? argv[3] : "";

    if (argc < 3 || thread_spawn(&thread, call_for_ever, NULL, PRIORITY(100, 100)) < 0) {
        die("stuck CORE OWN [panic|dump]");
    }
    pin(thread.cap, argv[1]);
    pin(own.thread, argv[2]);
    wait_until_it_runs(calls);
    if (strcmp(what, "dump") == 0) {
        sys_nmi_dump(own.grants[GRANT_IOPORTS], 1);
    }
    printf("stuck: ready\n");
    for (;;) {
        wait_until_it_is_stuck();
        if (strcmp(what, "panic") == 0) {
            sys_panic(
                own.grants
                    [GRANT_IOPORTS]); /* without a word: the console's server may be stuck too */
        }
        printf("stuck: it is\n");
        wait_until_it_runs(calls);
        printf("stuck: no more\n");
    }
}
