/* SPDX-License-Identifier: MIT */
#include "user/libos/init.h"

#include "kernel/lib/string.h"
#include "user/libos/ipc.h"
#include "user/libos/start.h"

static int64_t request(enum init_label label, uint64_t bytes, struct words *words,
                       struct message *message)
{
    struct result result = ipc_call(own.init, INFO_LABEL(label) | bytes, words, message,
                                    TIMEOUT_NONE);

    return result.value < 0 ? result.value : (int64_t)words->word[0];
}

static int64_t simple_request(enum init_label label, uint64_t argument)
{
    struct words words = {.word = {argument}};

    return request(label, 0, &words, NULL);
}

void init_exit(int status)
{
    simple_request(INIT_EXIT, (uint64_t)(int64_t)status);
}

int64_t init_spawn(const char *strings, size_t bytes)
{
    struct words words = {.word = {0}};
    struct message message = {.send_buffer = (uint64_t)strings};

    return request(INIT_SPAWN, bytes, &words, &message);
}

int64_t init_wait(uint32_t process)
{
    return simple_request(INIT_WAIT, process);
}

int64_t init_end(uint32_t process)
{
    return simple_request(INIT_END, process);
}

int64_t init_program(uint32_t index, char *name)
{
    struct words words = {.word = {index}};
    int64_t error = request(INIT_PROGRAM, 0, &words, NULL);

    memcpy(name, &words.word[1], PROCESS_NAME);
    name[PROCESS_NAME] = '\0';
    return error;
}

int64_t init_list(uint32_t index, struct process_row *row)
{
    struct words words = {.word = {index}};
    int64_t process = request(INIT_LIST, 0, &words, NULL);

    if (process >= 0) {
        *row = (struct process_row){.process = (uint32_t)process,
                                    .cpu_time = words.word[1],
                                    .priority = (uint32_t)words.word[2]};
        memcpy(row->name, &words.word[3], PROCESS_NAME);
    }
    return process;
}

int64_t init_power(enum power power)
{
    return simple_request(INIT_POWER, power);
}

int64_t init_nmi_dump(bool on)
{
    return simple_request(INIT_NMI_DUMP, on);
}
