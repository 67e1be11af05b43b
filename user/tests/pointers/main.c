/* SPDX-License-Identifier: MIT */
/*
 * pointers: every system call that takes an address gets every kind of bad one. It must say so with
 * an error, change nothing of ours, and leave the kernel alive. Prints a line for each that does not.
 */
#include <stdbool.h>
#include <stddef.h>

#include "kernel/arch/layout.h"
#include "kernel/lib/string.h"
#include "user/libos/ipc.h"
#include "user/libos/memory.h"
#include "user/libos/print.h"
#include "user/libos/start.h"
#include "user/libos/thread.h"

#define CONSTANT 0x400000UL /* an address that a thread may be sent to, for thread_set_registers */

static const uint64_t constants[512] = {[0 ... 511] = CONSTANT};
static struct region two_pages; /* the second one is not mapped */
static cap_t endpoint, stopped; /* a thread that was never started */
static unsigned tried, wrong;

struct address {
    const char *name;
    uint64_t address;
    bool readable; /* no error for who only reads it */
};

#define ADDRESS_MAX 16
static struct address addresses[ADDRESS_MAX];
static size_t address_count;

static void add(const char *name, uint64_t address, bool readable)
{
    addresses[address_count++] = (struct address){name, address, readable};
}

static void make_addresses(void)
{
    uint64_t end_of_page;

    if (region_create(&two_pages, 2 * PAGE_BYTES) < 0 ||
        sys_unmap(own.space, (uint64_t)two_pages.address + PAGE_BYTES, PAGE_BYTES).value < 0) {
        die("no memory");
    }
    end_of_page = (uint64_t)two_pages.address + PAGE_BYTES;
    add("null page", 8, false);
    add("below user space", USER_BASE - 8, false);
    add("unmapped", end_of_page, false);
    add("half unmapped", end_of_page - 8, false);
    add("constants", (uint64_t)constants, true);
    add("end of user space", USER_END, false);
    add("across the end of user space", USER_END - 8, false);
    add("last canonical", 0x00007ffffffffff8, false);
    add("first non-canonical", 0x0000800000000000, false);
    add("last non-canonical", 0xffff7ffffffffff8, false);
    add("direct map", DIRECT_MAP_BASE, false);
    add("capability window", CAP_WINDOW_BASE, false);
    add("kernel text", KERNEL_BASE + 0x1000000, false);
    add("core area", CORE_AREA_BASE, false);
    add("LAPIC", LAPIC_BASE, false);
    add("wraps", -8UL, false);
}

/* E_FAULT is what a bad address gets; E_INVAL is as good for one that no space can ever have. */
static bool refused(int64_t value)
{
    return value == E_FAULT || value == E_INVAL || value == E_IPCFAULT;
}

static void expect(const char *call, const struct address *address, int64_t value, bool good)
{
    tried++;
    if (good ? value < 0 : !refused(value)) {
        printf("pointers: %s, %s: %s\n", call, address->name,
               value >= 0 ? "no error" : error_name(value));
        wrong++;
    }
}

static void try_direct(const struct address *at)
{
    uint64_t p = at->address;

    expect("thread_info", at, sys_thread_info(0, p).value, false);
    expect("thread_get_registers", at, sys_thread_get_registers(stopped, p).value, false);
    expect("thread_set_registers", at, sys_thread_set_registers(stopped, p).value, at->readable);
    if (!at->readable) {
        expect("handler_return", at, sys_handler_return(p).value, false);
    }
}

static void receiver(void *argument)
{
    static char buffer[PAGE_BYTES];
    struct message message = {.receive_buffer = (uint64_t)buffer, .receive_size = sizeof(buffer)};
    struct words words = {.word = {0}};

    (void)argument;
    for (;;) {
        ipc_receive(endpoint, 0, &words, &message, TIMEOUT_NONE);
    }
}

/* With somebody to send to: the struct message itself, then the buffer that one names. */
static void try_send(const struct address *at)
{
    struct words words = {.word = {0}};
    struct message message = {.send_buffer = at->address};
    struct message *bad = (struct message *)at->address;

    if (!at->readable) {
        expect("send", at, ipc_send(endpoint, 16, &words, bad, TIMEOUT_NONE).value, false);
        expect("call", at, ipc_call(endpoint, INFO_CAPS(1), &words, bad, TIMEOUT_NONE).value,
               false);
    }
    expect("send of a buffer", at, ipc_send(endpoint, 16, &words, &message, TIMEOUT_NONE).value,
           at->readable);
}

static void sender(void *argument)
{
    static char buffer[64];
    struct message message = {.send_buffer = (uint64_t)buffer};
    struct words words = {.word = {0}};

    (void)argument;
    for (;;) {
        ipc_send(endpoint, 16, &words, &message, TIMEOUT_NONE);
    }
}

static void try_receive(const struct address *at)
{
    struct words words = {.word = {0}};
    struct message message = {.receive_buffer = at->address, .receive_size = 64};
    struct message *bad = (struct message *)at->address;

    if (!at->readable) {
        expect("receive", at, ipc_receive(endpoint, 0, &words, bad, TIMEOUT_NONE).value, false);
    }
    expect("receive into a buffer", at,
           ipc_receive(endpoint, 0, &words, &message, TIMEOUT_NONE).value, false);
}

static volatile int64_t caller_result;

static void caller(void *argument)
{
    struct words words = {.word = {0}};
    static char buffer[64];
    struct message message = {.receive_buffer = (uint64_t)buffer, .receive_size = sizeof(buffer)};

    (void)argument;
    for (;;) {
        caller_result = ipc_call(endpoint, 0, &words, &message, TIMEOUT_NONE).value;
    }
}

static void try_reply(const struct address *at)
{
    struct words words = {.word = {0}};
    struct message message = {.send_buffer = at->address};
    struct message *bad = (struct message *)at->address;

    if (!at->readable) {
        ipc_receive(endpoint, 0, &words, NULL, TIMEOUT_NONE);
        expect("reply", at, ipc_reply(0, 16, &words, bad, 0).value, false);
        ipc_receive(endpoint, 0, &words, NULL, TIMEOUT_NONE);
        /* A failed reply does not keep a server from its next client: the caller learns of it. */
        ipc_reply_receive(endpoint, 16, &words, bad, 0);
        ipc_receive(endpoint, 0, &words, NULL, TIMEOUT_NONE);
        tried++;
        if (caller_result >= 0) {
            printf("pointers: reply_receive, %s: the caller got an answer\n", at->name);
            wrong++;
        }
        ipc_reply(0, 0, &words, NULL, 0);
    }
    ipc_receive(endpoint, 0, &words, NULL, TIMEOUT_NONE);
    expect("reply from a buffer", at, ipc_reply(0, 16, &words, &message, 0).value, at->readable);
}

/* Addresses that are only noted now must be ones that a thread can be sent to (E9). */
static void try_entries(const struct address *at)
{
    if (at->address < USER_END) {
        return;
    }
    expect("thread_start", at, sys_thread_start(stopped, at->address, 0x10000, 0).value, false);
    expect("thread_set_handler", at, sys_thread_set_handler(at->address, 0).value, false);
    expect("map", at,
           sys_map(own.space, two_pages.memory, (at->address & ~0xfffUL) | MAP_READ, PAGE_BYTES, 0)
               .value,
           false);
    expect("unmap", at, sys_unmap(own.space, at->address & ~0xfffUL, PAGE_BYTES).value, false);
}

static void for_each(void (*try)(const struct address *))
{
    for (size_t i = 0; i < address_count; i++) {
        try(&addresses[i]);
    }
}

static void with_thread(thread_fn *function, void (*try)(const struct address *))
{
    struct user_thread thread;

    if (thread_spawn(&thread, function, NULL, PRIORITY(90, 90)) < 0) {
        die("no thread");
    }
    for_each(try);
    thread_reap(&thread);
}

int main(int argc, char **argv)
{
    struct result created = sys_endpoint_create(own.quota);

    (void)argc;
    (void)argv;
    endpoint = created.second;
    created = sys_thread_create(own.quota, own.space, PRIORITY(90, 90));
    stopped = created.second;
    if (created.value < 0) {
        die("no objects");
    }
    make_addresses();
    for_each(try_direct);
    for_each(try_entries);
    with_thread(receiver, try_send);
    with_thread(sender, try_receive);
    with_thread(caller, try_reply);
    bool intact = constants[0] == CONSTANT && constants[511] == CONSTANT;
    printf("pointers: %u tried, %u wrong, constants %s\n", tried, wrong,
           intact ? "intact" : "CHANGED");
    return wrong != 0 || !intact;
}
