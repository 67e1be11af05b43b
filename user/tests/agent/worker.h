/* SPDX-License-Identifier: MIT */
/* The agent's workers: threads, here or in a space of their own, that do one job at a time. */
#ifndef ONESTACK_AGENT_WORKER_H
#define ONESTACK_AGENT_WORKER_H

#include <stdbool.h>

#include "user/libos/ipc.h"
#include "user/libos/process.h"
#include "user/libos/thread.h"

#define WORKERS       24
#define BUFFER_BYTES  MESSAGE_BYTES_MAX
#define JOB_ARGUMENTS 5

enum job_kind { JOB_NONE, JOB_SYSCALL, JOB_IPC, JOB_PEEK, JOB_POKE, JOB_OWN };

/* Whose HOLD_HERE is cleared from outside goes on. */
enum hold { HOLD_NOT, HOLD_NEXT, HOLD_HERE };

/* One for each worker, mapped in its space and in the agent's at the same address. */
struct job {
    volatile enum job_kind kind; /* JOB_NONE: done, or never asked */
    volatile uint32_t held;      /* enum hold: the next job waits before it begins */
    cap_t notification;          /* wakes the worker; a handle of its space */
    uint64_t number;             /* of the system call */
    uint64_t arguments[JOB_ARGUMENTS];
    uint64_t info, timeout; /* of a message; endpoint in arguments[0] */
    bool extra;             /* pass the struct message */
    bool has_words;         /* the report shows them */
    struct words words;
    struct message message;
    struct result result;
    bool faulted;
    uint8_t send_buffer[BUFFER_BYTES] __attribute__((aligned(64)));
    uint8_t receive_buffer[BUFFER_BYTES];
};

struct worker {
    bool used, twin;
    bool away; /* it lives on a core that is not ours: it runs beside us */
    struct region region;
    struct job *job;
    cap_t notification; /* ours */
    struct user_thread thread;
    struct process process;
};

extern struct worker workers[WORKERS];

/* Index of a new worker, or an error. */
int64_t worker_create(uint64_t priority, bool twin);
/* What it is busy with runs on until it blocks or is done; a worker is above the agent. */
void worker_hand_over(struct worker *worker);
/* Once, before the others. */
void settle_start(void);
/* For one that is away: wait until it blocks, is done, or gets no time at all. */
void worker_settle(const struct worker *worker);
/* The same for any thread, which may have a job; false: it runs on and on. */
bool thread_settle(cap_t thread, const struct job *job);
cap_t worker_thread(const struct worker *worker);
/* End it, drop what it had. */
void worker_drop(struct worker *worker);
/* Do the job, here and now. */
void job_run(struct job *job);
/* Workers come by here when their job is done: a place for harnesses to stop at. */
void job_finished(void);

#endif
