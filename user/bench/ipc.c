/* SPDX-License-Identifier: MIT */
/* call and reply_receive between two spaces. */
#include "user/bench/bench.h"
#include "user/libos/format.h"
#include "user/libos/print.h"

static char buffer[MESSAGE_BYTES_MAX];

/* Both ways and their sum; `call` and `reply` may be NULL. */
static void measure(const char *call, const char *reply, const char *trip, uint64_t bytes,
                    bool server_fpu)
{
    struct metric calls = {.name = call}, replies = {.name = reply}, trips = {.name = trip};
    struct message message = {.send_buffer = (uint64_t)buffer,
                              .receive_buffer = (uint64_t)buffer,
                              .receive_size = sizeof(buffer)};
    struct helper server;
    cap_t endpoint = make_endpoint();

    helper_start(&server, ROLE_SERVER, BENCH_PRIORITY, endpoint,
                 &(struct shared){.fpu = server_fpu, .info = bytes});
    timed_set(SYS_call, endpoint, bytes ? bytes | INFO_EXTRA : 0, (uint64_t)&message, TIMEOUT_NONE);
    uint64_t overhead = timed_overhead();
    for (unsigned i = 0; i < WARM_UP + ROUNDS; i++) {
        timed_syscall();
        if (timed.result < 0) {
            die("%s: %s", trip, error_name(timed.result));
        }
        if (i >= WARM_UP) {
            metric_add(&calls, timed.partner - overhead);
            metric_add(&replies, timed.elapsed - overhead);
            metric_add(&trips, timed.partner + timed.elapsed - 2 * overhead);
        }
    }
    if (call != NULL) {
        metric_report(&calls);
        metric_report(&replies);
    }
    metric_report(&trips);
    helper_stop(&server);
    sys_cap_delete(endpoint);
}

void bench_ipc(void)
{
    measure("ipc.call", "ipc.reply_receive", "ipc.round_trip", 0, false);
    measure(NULL, NULL, "ipc.round_trip.fpu", 0, true);
    /* Ten words: six in registers, four beyond them. */
    measure(NULL, NULL, "ipc.round_trip.80B", 32, false);
    measure(NULL, NULL, "ipc.round_trip.4KiB", 4096, false);
    measure(NULL, NULL, "ipc.round_trip.64KiB", MESSAGE_BYTES_MAX, false);
}
