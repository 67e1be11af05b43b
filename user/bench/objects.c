/* SPDX-License-Identifier: MIT */
/*
 * What one object of each kind takes of its account, by making many on an account of their own. Their
 * capabilities are on ours, so that nothing else is counted.
 */
#include "user/bench/bench.h"
#include "user/libos/memory.h"
#include "user/libos/print.h"
#include "user/libos/thread.h"

#define MANY 1024
#define ROOM (8 * PAGE_BYTES) /* an account with room for the largest that an entry model makes */

static cap_t pager; /* of memory objects: with one they have no pages yet */

static struct result new_thread(cap_t quota)
{
    return sys_thread_create(quota, own.space, PRIORITY(90, 90));
}

static struct result new_memory(cap_t quota)
{
    return sys_memory_create(quota, PAGE_BYTES, pager);
}

static struct result new_space(cap_t quota)
{
    return sys_space_create(quota, 0);
}

static struct result new_quota(cap_t quota)
{
    return sys_quota_split(quota, 0);
}

static const struct {
    const char *name;
    struct result (*create)(cap_t quota);
} kinds[] = {
    {"thread.bytes", new_thread},
    {"space.bytes", new_space},
    {"endpoint.bytes", sys_endpoint_create},
    {"notification.bytes", sys_notification_create},
    {"memory.bytes", new_memory},
    {"quota.bytes", new_quota},
};

static uint64_t quota_free(cap_t quota)
{
    return sys_quota_info(quota).second;
}

static cap_t must(const char *name, struct result created)
{
    if (created.value < 0) {
        die("%s: %s", name, error_name(created.value));
    }
    return created.second;
}

static void measure(const char *name, struct result (*create)(cap_t quota))
{
    static cap_t made[MANY];
    cap_t quota = must(name, sys_quota_split(own.quota, MANY * ROOM));
    uint64_t before = quota_free(quota);

    for (unsigned i = 0; i < MANY; i++) {
        made[i] = must(name, create(quota));
    }
    metric_report_one(name, "bytes", (before - quota_free(quota)) / MANY);
    for (unsigned i = 0; i < MANY; i++) {
        sys_cap_delete(made[i]);
    }
    sys_cap_delete(quota);
}

/* In the table of a space of their own, which is on that space's account. */
static void measure_capability(void)
{
    cap_t quota = must("quota", sys_quota_split(own.quota, MANY * ROOM));
    cap_t space = must("space", sys_space_create(quota, 0));
    uint64_t before = quota_free(quota);

    for (unsigned i = 0; i < MANY; i++) {
        must("capability", sys_cap_copy(pager, RIGHT_ALL, 0, space));
    }
    metric_report_one("capability.bytes", "bytes", (before - quota_free(quota)) / MANY);
    sys_cap_delete(space);
    sys_cap_delete(quota);
}

void bench_objects(void)
{
    pager = make_endpoint();
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        measure(kinds[i].name, kinds[i].create);
    }
    measure_capability();
    sys_cap_delete(pager);
}
