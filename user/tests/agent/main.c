/* SPDX-License-Identifier: MIT */
/*
 * agent: does single object operations as lines on the console tell it, and answers each line with one
 * that begins with "= ". For tests that are driven from outside (hypothesis).
 *
 *   worker PRIORITY CEILING       a thread in this space     = K THREAD
 *   twin PRIORITY CEILING         a thread in its own space  = K THREAD SPACE QUOTA
 *   drop K                        its end                    = 0
 *   sys K NAME ARGUMENT...        a system call by worker K; 0 is the agent's own thread
 *   ipc K NAME ENDPOINT [label=N] [w=N,N...] [bytes=N] [fill=N] [size=N] [caps=N,N...] [timeout=N]
 *                                 [from=ADDRESS] [to=ADDRESS] [info=N]
 *                                 one of call, reply_receive, send, receive, reply. `bytes` of the
 *                                 pattern fill, fill + 1 ... beyond the words; `size`: room to receive;
 *                                 `from`, `to` (after `size`): buffers other than the worker's own;
 *                                 `info`: more bits of the descriptor
 *   peek K ADDRESS, poke K ADDRESS VALUE
 *   own K                         words: its space, thread, quota, and what it has of interrupt
 *                                 lines, I/O ports and device memory, as it names them
 *   poll K                        has it come back?
 *   place K CORE                  it lives there from its next job on         = 0
 *   hold K                        its next job waits until the word at the answered address is
 *                                 cleared, by somebody outside                = ADDRESS
 *   pace NANOSECONDS              from now on each job begins so long after its line: what the line
 *                                 itself has brought about is over then          = 0
 *   settle THREAD                 wait until a thread blocks or gets no time  = 1, or 0: it runs on
 *   quit STATUS
 *
 * Numbers are decimal or 0x. Handles are those of the worker's own space. sys, ipc, peek, poke, own
 * and poll answer
 *   = blocked                                     (until a later poll; workers are above the agent)
 *   = done VALUE SECOND [w=N,N,N,N,N,N caps=N,N,N,N sum=N]
 * with words where there are any; sum is the FNV-1a hash of the bytes received beyond them, 0 if
 * there were none. A line that makes no sense: = error REASON.
 */
#include "kernel/lib/string.h"
#include "user/libos/console.h"
#include "user/libos/number.h"
#include "user/libos/print.h"
#include "user/tests/agent/worker.h"

#define WORDS_MAX 24

static const char *const call_names[SYS_COUNT] = {
#define SYSCALL(number, name, kind, args, text) [number] = #name,
#include "kernel/abi/syscalls.def"
#undef SYSCALL
};

static struct job own_job; /* worker 0's */
static uint64_t pace;      /* nanoseconds before a job begins */

static void complain(const char *reason)
{
    printf("= error %s\n", reason);
}

static struct job *job_of(uint64_t k)
{
    if (k == 0) {
        return &own_job;
    }
    return k < WORKERS && workers[k].used ? workers[k].job : NULL;
}

static uint64_t hash(const uint8_t *bytes, size_t count)
{
    uint32_t value = 2166136261u;

    for (size_t i = 0; i < count; i++) {
        value = (value ^ bytes[i]) * 16777619u;
    }
    return value;
}

static bool received_bytes(const struct job *job)
{
    return job->number == SYS_call || job->number == SYS_receive ||
           job->number == SYS_reply_receive;
}

static void report(const struct job *job)
{
    const uint64_t *w = job->words.word, *c = job->message.received_caps;
    uint64_t sum = 0;

    if (job->kind != JOB_NONE) {
        printf("= blocked\n");
        return;
    }
    if (!job->has_words) {
        printf("= done %ld 0x%lx\n", job->result.value, job->result.second);
        return;
    }
    if (job->result.value > 0 && info_bytes((uint64_t)job->result.value) > 0 && job->extra &&
        received_bytes(job)) {
        sum = hash(job->receive_buffer, info_bytes((uint64_t)job->result.value));
    }
    printf("= done %ld 0x%lx w=0x%lx,0x%lx,0x%lx,0x%lx,0x%lx,0x%lx caps=0x%lx,0x%lx,0x%lx,0x%lx "
           "sum=0x%lx\n",
           job->result.value, job->result.second, w[0], w[1], w[2], w[3], w[4], w[5], c[0], c[1],
           c[2], c[3], sum);
}

static void do_job(uint64_t k, struct job *job, enum job_kind kind)
{
    sys_sleep(pace);
    job->has_words = kind == JOB_IPC || kind == JOB_OWN;
    job->kind = kind;
    if (k == 0) {
        job_run(job);
    } else {
        worker_hand_over(&workers[k]);
    }
    report(job);
}

static void reset_message(struct job *job)
{
    job->extra = false;
    job->words = (struct words){0};
    job->message = (struct message){0};
}

static bool call_number(const char *name, uint64_t *number)
{
    for (uint64_t i = 0; i < SYS_COUNT; i++) {
        if (call_names[i] != NULL && strcmp(name, call_names[i]) == 0) {
            *number = i;
            return true;
        }
    }
    return parse_number(name, number);
}

static bool is_ipc(uint64_t number)
{
    return number == SYS_call || number == SYS_reply_receive || number == SYS_send ||
           number == SYS_receive || number == SYS_reply;
}

static void do_sys(uint64_t k, struct job *job, char **words, int count)
{
    if (count < 1 || !call_number(words[0], &job->number) || is_ipc(job->number)) {
        complain("no such call");
        return;
    }
    reset_message(job);
    for (int i = 0; i < JOB_ARGUMENTS; i++) {
        job->arguments[i] = 0;
        if (i + 1 < count && !parse_number(words[i + 1], &job->arguments[i])) {
            complain("not a number");
            return;
        }
    }
    do_job(k, job, JOB_SYSCALL);
}

/* "1,0x2,3" into at most `most` numbers; how many, or -1. */
static int parse_list(char *text, uint64_t *numbers, int most)
{
    int count = 0;

    while (*text != '\0') {
        char *end = text;

        while (*end != '\0' && *end != ',') {
            end++;
        }
        bool last = *end == '\0';
        *end = '\0';
        if (count == most || !parse_number(text, &numbers[count++])) {
            return -1;
        }
        text = last ? end : end + 1;
    }
    return count;
}

static bool set_bytes(struct job *job, uint64_t bytes, uint64_t fill)
{
    if (bytes > BUFFER_BYTES) {
        return false;
    }
    for (uint64_t i = 0; i < bytes; i++) {
        job->send_buffer[i] = (uint8_t)(fill + i);
    }
    job->info |= bytes;
    if (job->message.send_buffer == 0) {
        job->message.send_buffer = (uint64_t)job->send_buffer;
    }
    job->extra |= bytes > 0;
    return true;
}

static bool set_caps(struct job *job, char *list)
{
    int count = parse_list(list, job->message.send_caps, MESSAGE_CAPS_MAX);

    job->info |= INFO_CAPS(count < 0 ? 0 : count);
    job->extra = true;
    return count >= 0;
}

/* What follows `name=` in `text`, or NULL. */
static char *value_of(char *text, const char *name)
{
    size_t length = strlen(name);

    return strncmp(text, name, length) == 0 && text[length] == '=' ? text + length + 1 : NULL;
}

static bool parse_option(struct job *job, char *text, uint64_t *fill, uint64_t *bytes)
{
    uint64_t number = 0;
    char *value;

    if ((value = value_of(text, "w")) != NULL) {
        return parse_list(value, job->words.word, MESSAGE_WORDS) >= 0;
    }
    if ((value = value_of(text, "caps")) != NULL) {
        return set_caps(job, value);
    }
    if ((value = value_of(text, "fill")) != NULL) {
        return parse_number(value, fill);
    }
    if ((value = value_of(text, "bytes")) != NULL) {
        return parse_number(value, bytes);
    }
    if ((value = value_of(text, "timeout")) != NULL) {
        return parse_number(value, &job->timeout);
    }
    if ((value = value_of(text, "label")) != NULL && parse_number(value, &number)) {
        job->info |= INFO_LABEL(number);
        return true;
    }
    if ((value = value_of(text, "info")) != NULL && parse_number(value, &number)) {
        job->info |= number;
        return true;
    }
    if ((value = value_of(text, "from")) != NULL) {
        return parse_number(value, &job->message.send_buffer);
    }
    if ((value = value_of(text, "to")) != NULL) {
        return parse_number(value, &job->message.receive_buffer);
    }
    if ((value = value_of(text, "size")) != NULL && parse_number(value, &number)) {
        job->message.receive_size = number;
        job->message.receive_buffer = (uint64_t)job->receive_buffer;
        job->extra = true;
        return number <= BUFFER_BYTES;
    }
    return false;
}

static void do_ipc(uint64_t k, struct job *job, char **words, int count)
{
    uint64_t fill = 0, bytes = 0;

    if (count < 2 || !call_number(words[0], &job->number) || !is_ipc(job->number)) {
        complain("not a call with a message");
        return;
    }
    reset_message(job);
    job->info = 0;
    job->timeout = TIMEOUT_NONE;
    if (!parse_number(words[1], &job->arguments[0])) {
        complain("not a number");
        return;
    }
    for (int i = 2; i < count; i++) {
        if (!parse_option(job, words[i], &fill, &bytes)) {
            complain("an option");
            return;
        }
    }
    if (!set_bytes(job, bytes, fill)) {
        complain("too long");
        return;
    }
    do_job(k, job, JOB_IPC);
}

static void do_access(uint64_t k, struct job *job, enum job_kind kind, char **words, int count)
{
    reset_message(job);
    job->number = 0;
    if (count < 1 || !parse_number(words[0], &job->arguments[0]) ||
        (kind == JOB_POKE && (count < 2 || !parse_number(words[1], &job->arguments[1])))) {
        complain("not a number");
        return;
    }
    do_job(k, job, kind);
}

static void do_create(bool twin, char **words, int count)
{
    uint64_t priority, ceiling;

    if (count < 3 || !parse_number(words[1], &priority) || !parse_number(words[2], &ceiling)) {
        complain("PRIORITY CEILING");
        return;
    }
    int64_t k = worker_create(PRIORITY(priority, ceiling), twin);
    if (k < 0) {
        printf("= error %s\n", error_name(k));
    } else if (twin) {
        const struct process *process = &workers[k].process;
        printf("= %ld 0x%lx 0x%lx 0x%lx\n", k, process->thread, process->space, process->quota);
    } else {
        printf("= %ld 0x%lx\n", k, workers[k].thread.cap);
    }
}

static void do_place(struct worker *worker, char **words, int count)
{
    uint64_t core;

    if (count < 1 || !parse_number(words[0], &core)) {
        complain("not a number");
        return;
    }
    worker->away = true; /* whatever core is ours */
    printf("= %ld\n", sys_thread_set_affinity(worker_thread(worker), core).value);
}

/* A call that another one has ended may still be on its way to that, on another core. */
static bool is_blocked(uint64_t k, const struct job *job)
{
    if (k != 0 && job->kind != JOB_NONE) {
        worker_settle(&workers[k]);
    }
    return job->kind != JOB_NONE;
}

static void do_with_worker(char **words, int count)
{
    uint64_t k;
    struct job *job = count > 1 && parse_number(words[1], &k) ? job_of(k) : NULL;

    if (job == NULL) {
        complain("no such worker or command");
    } else if (strcmp(words[0], "poll") == 0) {
        if (k != 0) {
            worker_settle(&workers[k]);
        }
        report(job);
    } else if (strcmp(words[0], "drop") == 0 && k != 0) {
        worker_drop(&workers[k]);
        printf("= 0\n");
    } else if (is_blocked(k, job)) {
        complain("it is blocked");
    } else if (strcmp(words[0], "place") == 0 && k != 0) {
        do_place(&workers[k], words + 2, count - 2);
    } else if (strcmp(words[0], "hold") == 0 && k != 0) {
        job->held = HOLD_NEXT;
        printf("= 0x%lx\n", (uint64_t)&job->held);
    } else if (strcmp(words[0], "sys") == 0) {
        do_sys(k, job, words + 2, count - 2);
    } else if (strcmp(words[0], "ipc") == 0) {
        do_ipc(k, job, words + 2, count - 2);
    } else if (strcmp(words[0], "peek") == 0) {
        do_access(k, job, JOB_PEEK, words + 2, count - 2);
    } else if (strcmp(words[0], "poke") == 0) {
        do_access(k, job, JOB_POKE, words + 2, count - 2);
    } else if (strcmp(words[0], "own") == 0) {
        reset_message(job);
        job->number = 0;
        do_job(k, job, JOB_OWN);
    } else {
        complain("no such command");
    }
}

static int split(char *line, char **words)
{
    int count = 0;

    for (char *at = line; *at != '\0' && count < WORDS_MAX; count++) {
        while (*at == ' ') {
            *at++ = '\0';
        }
        if (*at == '\0') {
            break;
        }
        words[count] = at;
        while (*at != '\0' && *at != ' ') {
            at++;
        }
    }
    return count;
}

/* True: go on. */
static bool obey(char **words, int count, int *status)
{
    uint64_t number = 0;

    if (count == 0) {
        complain("nothing");
    } else if (strcmp(words[0], "quit") == 0) {
        *status = count > 1 && parse_number(words[1], &number) ? (int)number : 0;
        printf("= %d\n", *status);
        return false;
    } else if (strcmp(words[0], "worker") == 0) {
        do_create(false, words, count);
    } else if (strcmp(words[0], "twin") == 0) {
        do_create(true, words, count);
    } else if (strcmp(words[0], "pace") == 0 && count > 1 && parse_number(words[1], &pace)) {
        printf("= 0\n");
    } else if (strcmp(words[0], "settle") == 0 && count > 1 && parse_number(words[1], &number)) {
        printf("= %d\n", thread_settle(number, NULL));
    } else {
        do_with_worker(words, count);
    }
    return true;
}

int main(int argc, char **argv)
{
    static char line[CONSOLE_LINE + 1];
    char *words[WORDS_MAX];
    int status = 0;

    (void)argc;
    (void)argv;
    console_echo(0);
    settle_start();
    printf("agent: ready\n");
    while (console_read_line(line, sizeof(line)) >= 0 && obey(words, split(line, words), &status)) {
    }
    console_echo(1);
    return status;
}
