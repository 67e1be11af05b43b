/* SPDX-License-Identifier: MIT */
#include "user/tests/agent/worker.h"

#include "user/libos/signal.h"

/* enum thread_state (kernel/obj/thread.h): those of a thread that goes on by itself */
#define STATE_READY   1
#define STATE_COPYING 7

#define SETTLE_LOOKS 500
#define SETTLE_NS    200000
#define CORES_MOST   64
#define LOWEST       PRIORITY(1, 1)
#define ROOM         64

/* On each core one thread below all others: it runs when nobody else there can. */
static struct lowest {
    struct user_thread thread;
    cap_t asked, answered;
    volatile uint64_t question, answer;
} lowest[CORES_MOST];

struct worker workers[WORKERS];

typedef struct result ipc_fn(cap_t, uint64_t, struct words *, struct message *, uint64_t);

/* Any number, so this is no stub of the list's. */
static struct result raw_syscall(uint64_t number, const uint64_t *arguments)
{
    struct result result = {(int64_t)number, arguments[1]};
    uint64_t a0 = arguments[0];
    register uint64_t r8 __asm__("r8") = arguments[2];
    register uint64_t r9 __asm__("r9") = arguments[3];
    register uint64_t r10 __asm__("r10") = arguments[4];

    __asm__ volatile("syscall"
                     : "+a"(result.value), "+d"(result.second), "+S"(a0), "+r"(r8), "+r"(r9),
                       "+r"(r10)
                     :
                     : "rdi", "rcx", "r11", "memory");
    return result;
}

static ipc_fn *ipc_stub(uint64_t number)
{
    switch (number) {
    case SYS_call:
        return ipc_call;
    case SYS_reply_receive:
        return ipc_reply_receive;
    case SYS_send:
        return ipc_send;
    case SYS_receive:
        return ipc_receive;
    default:
        return ipc_reply;
    }
}

/* memory.S: one access each; what faults in them returns false. */
bool memory_peek(uint64_t address, uint64_t *value);
bool memory_poke(uint64_t address, uint64_t value);
void memory_faulted(void);

static void recover(struct fault_info *fault)
{
    fault->registers.rip = (uint64_t)memory_faulted;
}

static void run_access(struct job *job)
{
    signal_set(recover, NULL);
    job->faulted = job->kind == JOB_PEEK ? !memory_peek(job->arguments[0], &job->result.second)
                                         : !memory_poke(job->arguments[0], job->arguments[1]);
    signal_clear();
    job->result.value = job->faulted ? E_FAULT : 0;
}

void job_run(struct job *job)
{
    switch (job->kind) {
    case JOB_SYSCALL:
        job->result = raw_syscall(job->number, job->arguments);
        break;
    case JOB_IPC:
        job->result = ipc_stub(job->number)(job->arguments[0], job->info, &job->words,
                                            job->extra ? &job->message : NULL, job->timeout);
        break;
    case JOB_PEEK:
    case JOB_POKE:
        run_access(job);
        break;
    case JOB_OWN:
        job->result = (struct result){0, 0};
        job->words = (struct words){.word = {own.space, own.thread, own.quota,
                                             own.grants[GRANT_IRQS], own.grants[GRANT_IOPORTS],
                                             own.grants[GRANT_DEVICE_MEMORY]}};
        break;
    case JOB_NONE:
        break;
    }
    job->kind = JOB_NONE;
}

/* Until somebody outside the machine clears it: harnesses begin two jobs at chosen instructions. */
static void hold(struct job *job)
{
    if (job->held == HOLD_NEXT) {
        job->held = HOLD_HERE;
    }
    while (job->held == HOLD_HERE) {
        __builtin_ia32_pause();
    }
}

__attribute__((noinline)) void job_finished(void)
{
    __asm__ volatile("");
}

/* A cancel may end the wait for a job as well: then there is none. */
static void serve(void *argument)
{
    struct job *job = argument;

    for (;;) {
        sys_wait(job->notification, TIMEOUT_NONE);
        if (job->kind != JOB_NONE) {
            hold(job);
        }
        job_run(job);
        job_finished();
    }
}

static void twin_main(uint64_t job)
{
    serve((void *)job);
}

static int64_t start_twin(struct worker *worker, uint64_t priority)
{
    static struct start_page page;
    int64_t status = process_create(&worker->process, &page, 4UL << 20, priority);

    if (status >= 0) {
        status = process_load_twin(&worker->process, twin_main, (uint64_t)worker->job);
    }
    if (status >= 0) {
        status = process_share(&worker->process, &worker->region, MAP_READ | MAP_WRITE);
    }
    if (status >= 0) {
        status = process_give(&worker->process, worker->notification, RIGHT_ALL, 0,
                              &worker->job->notification);
    }
    return status < 0 ? status : process_start(&worker->process);
}

static struct worker *free_worker(void)
{
    for (size_t i = 1; i < WORKERS; i++) { /* 0 is the agent itself */
        if (!workers[i].used) {
            return &workers[i];
        }
    }
    return NULL;
}

int64_t worker_create(uint64_t priority, bool twin)
{
    struct worker *worker = free_worker();
    struct result created;

    if (worker == NULL) {
        return E_BUSY;
    }
    *worker = (struct worker){.used = true, .twin = twin};
    int64_t status = region_create(&worker->region, sizeof(struct job));
    if (status >= 0) {
        worker->job = worker->region.address;
        created = sys_notification_create(own.quota);
        worker->notification = created.second;
        worker->job->notification = created.second;
        status = created.value;
    }
    if (status >= 0) {
        status = twin ? start_twin(worker, priority)
                      : thread_spawn(&worker->thread, serve, worker->job, priority);
    }
    if (status < 0) {
        worker_drop(worker);
        return status;
    }
    return worker - workers;
}

void worker_hand_over(struct worker *worker)
{
    sys_signal(worker->notification, 1);
    sys_yield();
    worker_settle(worker);
}

cap_t worker_thread(const struct worker *worker)
{
    return worker->twin ? worker->process.thread : worker->thread.cap;
}

static void answer(void *argument)
{
    struct lowest *self = argument;

    for (;;) {
        sys_wait(self->asked, TIMEOUT_NONE);
        self->answer = self->question;
        sys_signal(self->answered, 1);
    }
}

/* A table of capabilities does not shrink: let it not grow in a test that takes as many as before. */
static void make_room(void)
{
    static cap_t made[ROOM];

    for (unsigned i = 0; i < ROOM; i++) {
        made[i] = sys_notification_create(own.quota).second;
    }
    for (unsigned i = 0; i < ROOM; i++) {
        sys_cap_delete(made[i]);
    }
}

void settle_start(void)
{
    uint64_t cores = sys_kernel_info(KINFO_CORES, 0).second;

    for (uint64_t core = 0; cores > 1 && core < cores && core < CORES_MOST; core++) {
        struct lowest *one = &lowest[core];

        one->asked = sys_notification_create(own.quota).second;
        one->answered = sys_notification_create(own.quota).second;
        if (thread_spawn(&one->thread, answer, one, LOWEST) < 0 ||
            sys_thread_set_affinity(one->thread.cap, core).value < 0) {
            die("no thread on core %lu", core);
        }
    }
    if (cores > 1) {
        make_room();
    }
}

/* Whether, before some time has passed, nobody on that core could run but its lowest thread. */
static bool is_at_rest(unsigned core)
{
    struct lowest *one = &lowest[core];

    if (one->asked == 0) {
        sys_sleep(SETTLE_NS);
        return false;
    }
    one->question++;
    sys_signal(one->asked, 1);
    while (one->answer != one->question) { /* an earlier question's answer may come only now */
        if (sys_wait(one->answered, SETTLE_NS).value < 0) {
            return false;
        }
    }
    return true;
}

/* A look at a thread goes by its core's mail, after whatever was sent there before. */
bool thread_settle(cap_t thread, const struct job *job)
{
    struct thread_info info = {0}; /* the analyser does not know that the kernel fills it */
    uint64_t used = 0;
    bool rested = false;

    for (unsigned looks = 0; looks < SETTLE_LOOKS; looks++) {
        if (job != NULL && (job->kind == JOB_NONE || job->held == HOLD_HERE)) {
            return true;
        }
        if (sys_thread_info(thread, (uint64_t)&info).value < 0 ||
            (info.state != STATE_READY && info.state != STATE_COPYING)) {
            return true;
        }
        if (rested && info.cpu_time == used) {
            return true; /* suspended: its core had time for anybody */
        }
        used = info.cpu_time;
        rested = is_at_rest(info.core);
    }
    return false;
}

void worker_settle(const struct worker *worker)
{
    if (worker->away) {
        thread_settle(worker_thread(worker), worker->job);
    }
}

void worker_drop(struct worker *worker)
{
    if (worker->twin) {
        process_destroy(&worker->process);
    } else {
        thread_reap(&worker->thread);
    }
    if (worker->notification != 0) {
        sys_cap_delete(worker->notification);
    }
    if (worker->region.address != NULL) {
        region_release(&worker->region);
    }
    *worker = (struct worker){0};
}
