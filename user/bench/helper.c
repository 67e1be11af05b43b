/* SPDX-License-Identifier: MIT */
#include "user/bench/bench.h"
#include "user/libos/print.h"
#include "user/libos/thread.h"

enum { HELPER_OBJECT }; /* own.extra[] */

static char server_buffer[MESSAGE_BYTES_MAX];
static struct message server_message;

/* In a server every call goes through the same code, so that long and short ones differ in data only. */
static _Noreturn void serve(const struct shared *shared)
{
    bool is_long = shared->info & INFO_LONG_MASK;

    server_message = (struct message){.send_buffer = (uint64_t)server_buffer,
                                      .receive_buffer = (uint64_t)server_buffer,
                                      .receive_size = sizeof(server_buffer)};
    timed_set(SYS_receive, own.extra[HELPER_OBJECT], is_long ? shared->info | INFO_EXTRA : 0,
              (uint64_t)&server_message, TIMEOUT_NONE);
    timed_server();
}

/* The timer's interrupts, each with its stamp. */
static _Noreturn void log_interrupts(struct shared *shared)
{
    cap_t line = own.extra[HELPER_OBJECT], notification = make_notification();

    if (sys_irq_bind(line, notification, 1).value < 0) {
        die("cannot bind the line");
    }
    for (;;) {
        sys_wait(notification, TIMEOUT_NONE);
        uint64_t now = timed_now();
        sys_irq_ack(line);
        if (shared->logged < LOG_MAX) {
            shared->log[shared->logged] = now;
            shared->logged++;
        }
    }
}

static void helper_main(uint64_t address)
{
    struct shared *shared = (struct shared *)address;

    if (shared->fpu) {
        __asm__ volatile("movd %%eax, %%xmm0" : : "a"(1));
    }
    switch (shared->role) {
    case ROLE_SERVER:
        serve(shared);
    case ROLE_WAITER:
        timed_other = (struct timed_loop){.number = SYS_wait,
                                          .a0 = own.extra[HELPER_OBJECT],
                                          .a1 = TIMEOUT_NONE,
                                          .stamp = &shared->stamp,
                                          .next = SYS_wait,
                                          .next_a1 = TIMEOUT_NONE};
        timed_loop();
    case ROLE_LOGGER:
        log_interrupts(shared);
    case ROLE_YIELDER:
        timed_other = (struct timed_loop){
            .number = SYS_yield, .stamp = &shared->stamp, .next = SYS_yield};
        timed_loop();
    }
}

void helper_start(struct helper *helper, enum role role, uint64_t priority, cap_t object,
                  const struct shared *wanted)
{
    static struct start_page page;
    int64_t status = region_create(&helper->region, PAGE_BYTES);

    if (status >= 0) {
        helper->shared = helper->region.address;
        *helper->shared = *wanted;
        helper->shared->role = role;
        status = process_create(&helper->process, &page, 4UL << 20, PRIORITY(priority, priority));
    }
    if (status >= 0) {
        status = process_load_twin(&helper->process, helper_main, (uint64_t)helper->shared);
    }
    if (status >= 0) {
        status = process_share(&helper->process, &helper->region, MAP_READ | MAP_WRITE);
    }
    if (status >= 0 && object != 0) {
        status = process_give(&helper->process, object, RIGHT_ALL, 0, &page.extra[HELPER_OBJECT]);
    }
    if (status >= 0) {
        status = process_start(&helper->process);
    }
    if (status < 0) {
        die("cannot start a helper: %s", error_name(status));
    }
    sys_sleep(1000000); /* it comes to its first wait */
}

void helper_stop(struct helper *helper)
{
    process_destroy(&helper->process);
    region_release(&helper->region);
}
