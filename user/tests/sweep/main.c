/* SPDX-License-Identifier: MIT */
/* sweep: see sweep.h. */
#include "kernel/lib/string.h"
#include "user/libos/number.h"
#include "user/libos/print.h"
#include "user/libos/thread.h"
#include "user/tests/sweep/sweep.h"

#define LINE_NMI 256

/* Above everybody here, in a space of its own, woken by nothing but external NMIs. */
static void start_waiter(void)
{
    struct result created = sys_notification_create(own.quota);
    struct result line = sys_range_slice(own.grants[GRANT_IRQS], LINE_NMI, 1);

    if (created.value < 0 || line.value < 0 ||
        sys_irq_bind(line.second, created.second, 1).value < 0) {
        die("cannot bind the external NMI");
    }
    helper_start(ROLE_WAITER, SWEEP_WAITER, created.second, 0);
}

static const struct path *path_named(const char *name)
{
    for (unsigned i = 0; i < path_count; i++) {
        if (strcmp(paths[i].name, name) == 0) {
            return &paths[i];
        }
    }
    return NULL;
}

static void usage(void)
{
    printf("usage: sweep PATH [ROUNDS]; paths:");
    for (unsigned i = 0; i < path_count; i++) {
        printf(" %s", paths[i].name);
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    const struct path *path = argc > 1 ? path_named(argv[1]) : NULL;
    uint64_t rounds = UINT64_MAX;

    if (path == NULL || (argc > 2 && !parse_number(argv[2], &rounds))) {
        usage();
        return 1;
    }
    start_waiter();
    if (path->prepare != NULL) {
        path->prepare();
    }
    printf("sweep: ready %s\n", path->name);
    for (uint64_t number = 0; number < rounds; number++) {
        sweep_round(number);
        path->round(number);
    }
    printf("sweep: %lu rounds, %lu nmis, %lu bad\n", rounds, shared->nmis, sweep_bads);
    return sweep_bads != 0;
}
