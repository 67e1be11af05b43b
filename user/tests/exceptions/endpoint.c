/* SPDX-License-Identifier: MIT */
/*
 * A victim in another space faults; here its faults are received and judged. Each case is a process
 * of its own, which tells by a message that it went on, or by its space's end that it did not.
 */
#include "user/tests/exceptions/endpoint.h"

#include <stdbool.h>
#include <stddef.h>

#include "kernel/abi/fault.h"
#include "user/libos/ipc.h"
#include "user/libos/print.h"
#include "user/libos/process.h"
#include "user/libos/signal.h"
#include "user/libos/thread.h"

#define BADGE   77
#define WENT_ON 5 /* label */
#define MARK    0x1234567890abcdefUL
#define SOON    100000000UL  /* ns: long enough to believe that nothing comes */
#define PATIENT (100 * SOON) /* for what has to come: a busy host gives cores their time late */

enum { VICTIM_ENDPOINT }; /* own.extra[] */
enum victim { VICTIM_UD2, VICTIM_INT3, VICTIM_HANDLER_FAULTS, VICTIM_WRITES };
enum judgement { SKIP, RESUME, END, DROP, NOBODY };

struct fault_case {
    const char *name;
    enum victim victim;
    enum judgement judgement;
    uint64_t vector;
    bool goes_on;
};

static cap_t endpoint, ended; /* faults and "went on"; notification of the space's end */
static unsigned wrong;

/* --- the victim's side --- */

static void fault_again(struct fault_info *fault)
{
    (void)fault;
    __asm__ volatile("ud2");
}

static void victim_main(uint64_t kind)
{
    struct words words = {.word = {MARK}};

    switch ((enum victim)kind) {
    case VICTIM_UD2:
        __asm__ volatile("mov %0, %%rbx; ud2" : : "r"(MARK) : "rbx");
        break;
    case VICTIM_INT3:
        __asm__ volatile("mov %0, %%rbx; int3" : : "r"(MARK) : "rbx");
        break;
    case VICTIM_HANDLER_FAULTS:
        signal_set(fault_again, NULL);
        __asm__ volatile("int3");
        break;
    case VICTIM_WRITES:
        *(volatile uint64_t *)0x1000 = MARK;
        break;
    }
    ipc_send(own.extra[VICTIM_ENDPOINT], INFO_LABEL(WENT_ON), &words, NULL, TIMEOUT_NONE);
}

/* --- ours --- */

static void complain(const struct fault_case *fault, const char *what, uint64_t value)
{
    printf("exceptions: %s: %s 0x%lx\n", fault->name, what, value);
    wrong++;
}

static void check_registers(const struct fault_case *fault, const struct process *process,
                            const struct words *words, bool skip)
{
    struct thread_registers registers = {0};
    int64_t status = sys_thread_get_registers(process->thread, (uint64_t)&registers).value;

    if (status < 0) {
        complain(fault, "registers", (uint64_t)status);
        return;
    }
    if (registers.rip != words->word[3] || registers.rsp != words->word[4] ||
        registers.rflags != words->word[5]) {
        complain(fault, "message and registers disagree: rip", registers.rip);
    }
    if (fault->victim <= VICTIM_INT3 && registers.rbx != MARK) {
        complain(fault, "rbx", registers.rbx);
    }
    if (skip) {
        registers.rip += 2;
        status = sys_thread_set_registers(process->thread, (uint64_t)&registers).value;
        if (status < 0) {
            complain(fault, "set registers", (uint64_t)status);
        }
    }
}

/* The fault message, checked, answered. */
static void judge(const struct fault_case *fault, const struct process *process)
{
    struct words words = {.word = {0}};
    struct result result = ipc_receive(endpoint, 0, &words, NULL, PATIENT);

    if (result.value < 0 || !(result.value & (int64_t)INFO_FAULT) ||
        info_label((uint64_t)result.value) != FAULT_EXCEPTION) {
        complain(fault, "no fault message but", (uint64_t)result.value);
        return;
    }
    if (result.second != BADGE || words.word[0] != fault->vector) {
        complain(fault, "badge or vector", words.word[0]);
    }
    check_registers(fault, process, &words, fault->judgement == SKIP);
    if (fault->judgement == DROP) {
        /* Who receives again without an answer gives the faulted thread up. */
        ipc_receive(endpoint, 0, &words, NULL, 0);
        return;
    }
    ipc_reply(0, INFO_LABEL(fault->judgement == END ? FAULT_END : FAULT_RESUME), &words, NULL, 0);
}

static bool went_on(uint64_t timeout)
{
    struct words words = {.word = {0}};
    struct result result = ipc_receive(endpoint, 0, &words, NULL, timeout);

    return result.value >= 0 && info_label((uint64_t)result.value) == WENT_ON &&
           words.word[0] == MARK;
}

static void start(struct process *process, const struct fault_case *fault)
{
    static struct start_page page;

    if (process_create(process, &page, 2UL << 20, PRIORITY(90, 90)) < 0 ||
        process_load_twin(process, victim_main, fault->victim) < 0 ||
        process_give(process, endpoint, RIGHT_ALL, 0, &page.extra[VICTIM_ENDPOINT]) < 0 ||
        sys_space_watch(process->space, ended, 1).value < 0 ||
        (fault->judgement != NOBODY &&
         sys_space_set_fault(process->space, endpoint, BADGE).value < 0) ||
        process_start(process) < 0) {
        die("%s: cannot start the victim", fault->name);
    }
}

static void try(const struct fault_case *fault)
{
    struct process process;

    sys_poll(ended);
    start(&process, fault);
    if (fault->judgement != NOBODY) {
        judge(fault, &process);
    }
    if (went_on(fault->goes_on ? PATIENT : SOON) != fault->goes_on) {
        complain(fault, "went on, should be", fault->goes_on);
    }
    /* Its only thread ends in any case, and its space with it. */
    if (sys_wait(ended, PATIENT).value < 0) {
        complain(fault, "its space lives on", 0);
    }
    process_destroy(&process);
}

unsigned endpoint_faults(unsigned *tried)
{
    static const struct fault_case cases[] = {
        {"ud2, skipped", VICTIM_UD2, SKIP, 6, true},
        {"ud2, ended", VICTIM_UD2, END, 6, false},
        {"int3, resumed", VICTIM_INT3, RESUME, 3, true},
        {"int3, ended", VICTIM_INT3, END, 3, false},
        {"int3, dropped", VICTIM_INT3, DROP, 3, false},
        {"int3, nobody listens", VICTIM_INT3, NOBODY, 3, false},
        {"a fault in the handler", VICTIM_HANDLER_FAULTS, END, 6, false},
        {"a write to nothing", VICTIM_WRITES, END, 14, false},
        {"a write to nothing, nobody listens", VICTIM_WRITES, NOBODY, 14, false},
    };

    endpoint = sys_endpoint_create(own.quota).second;
    ended = sys_notification_create(own.quota).second;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++, ++*tried) {
        try(&cases[i]);
    }
    return wrong;
}
