/* SPDX-License-Identifier: MIT */
#include "user/init/table.h"

#include "kernel/lib/string.h"
#include "user/init/policy.h"
#include "user/libos/ipc.h"
#include "user/libos/print.h"
#include "user/libos/thread.h"

/* tools/scons/bundle.py */
struct program {
    const char *name;
    const uint8_t *start, *end;
};

extern const struct program user_programs[];
extern const uint64_t user_program_count;

static struct entry table[PROCESSES];
static uint32_t last_number = INIT_PROCESS;
static cap_t watch;

static const struct program *program_find(const char *name)
{
    for (uint64_t i = 0; i < user_program_count; i++) {
        if (strcmp(user_programs[i].name, name) == 0) {
            return &user_programs[i];
        }
    }
    return NULL;
}

const char *table_program(uint64_t index)
{
    return index < user_program_count ? user_programs[index].name : NULL;
}

struct entry *table_find(uint32_t number)
{
    for (size_t i = 0; i < PROCESSES; i++) {
        if (number != 0 && table[i].number == number) {
            return &table[i];
        }
    }
    return NULL;
}

struct entry *table_at(uint32_t index)
{
    for (size_t i = 0; i < PROCESSES; i++) {
        if (table[i].alive && index-- == 0) {
            return &table[i];
        }
    }
    return NULL;
}

/* A row never used, or the one whose process ended longest ago. */
static struct entry *free_row(void)
{
    struct entry *found = NULL;

    for (size_t i = 0; i < PROCESSES; i++) {
        if (!table[i].alive && (found == NULL || table[i].number < found->number)) {
            found = &table[i];
        }
    }
    return found;
}

static uint64_t quota_for(const struct policy *policy)
{
    return policy->quota != MOST_OF_IT ? policy->quota : sys_quota_info(own.quota).second / 8 * 7;
}

static int64_t grant_range(struct process *process, enum grant grant, uint32_t first,
                           uint32_t count)
{
    struct result slice = sys_range_slice(own.grants[grant], first, count);

    if (slice.value < 0) {
        return slice.value;
    }
    struct result moved = sys_cap_move(slice.second, process->space);
    process->page->grants[grant] = moved.second;
    return moved.value;
}

static int64_t grant_hardware(struct process *process, const struct policy *policy)
{
    int64_t status = 0;

    if (policy->grants & GRANT_BIT(GRANT_IRQS)) {
        status = grant_range(process, GRANT_IRQS, policy->line, policy->lines);
    }
    if (status >= 0 && (policy->grants & GRANT_BIT(GRANT_IOPORTS))) {
        status = grant_range(process, GRANT_IOPORTS, policy->port, policy->ports);
    }
    if (status >= 0 && (policy->grants & GRANT_BIT(GRANT_DEVICE_MEMORY))) {
        status = process_give(process, own.grants[GRANT_DEVICE_MEMORY], RIGHT_ALL, 0,
                              &process->page->grants[GRANT_DEVICE_MEMORY]);
    }
    return status;
}

/* Its ways to init and to the console, badged with its number; its faults come here too. */
static int64_t connect(struct process *process, uint32_t number, cap_t init_endpoint, cap_t console,
                       cap_t serve)
{
    int64_t status = process_give(process, init_endpoint, RIGHT_ENDPOINT_CALL, number,
                                  &process->page->init);

    if (status >= 0) {
        status = sys_space_set_fault(process->space, init_endpoint, number).value;
    }
    if (status >= 0 && serve != 0) {
        return process_give(process, serve, RIGHT_ENDPOINT_RECEIVE, 0,
                            &process->page->grants[GRANT_SERVE]);
    }
    return status < 0 ? status
                      : process_give(process, console, RIGHT_ENDPOINT_CALL | RIGHT_GRANT, number,
                                     &process->page->console);
}

static uint32_t count_strings(const char *strings, size_t bytes)
{
    uint32_t count = 0;

    for (size_t i = 0; i < bytes; i++) {
        count += strings[i] == '\0';
    }
    return count;
}

static int64_t watch_space(const struct entry *entry)
{
    return sys_space_watch(entry->process.space, watch, 1UL << (entry - table)).value;
}

static int64_t build(struct entry *entry, const struct elf_image *image, cap_t init_endpoint,
                     cap_t console, cap_t serve)
{
    const struct policy *policy = policy_of(entry->name);
    struct process *process = &entry->process;
    int64_t status = process_load(process, image);

    if (status >= 0) {
        status = connect(process, entry->number, init_endpoint, console, serve);
    }
    if (status >= 0) {
        status = grant_hardware(process, policy);
    }
    if (status >= 0) {
        status = watch_space(entry);
    }
    return status < 0 ? status : process_start(process);
}

int64_t table_spawn(uint32_t parent, cap_t init_endpoint, cap_t console, const char *strings,
                    size_t bytes, cap_t serve)
{
    static struct start_page page;
    struct elf_image image;
    struct entry *entry = free_row();

    if (bytes == 0 || bytes > sizeof(page.arguments) || strings[bytes - 1] != '\0' ||
        strlen(strings) > PROCESS_NAME) {
        return E_INVAL;
    }
    const struct program *program = program_find(strings);
    if (program == NULL || entry == NULL) {
        return program == NULL ? E_INVAL : E_BUSY;
    }
    const char *reason = elf_parse(&image, program->start, (size_t)(program->end - program->start));
    if (reason != NULL) {
        printf("init: %s refused: %s\n", strings, reason);
        return E_INVAL;
    }
    const struct policy *policy = policy_of(strings);
    *entry = (struct entry){
        .number = ++last_number, .parent = parent, .priority = policy->priority};
    string_copy(entry->name, sizeof(entry->name), strings);
    int64_t status = process_create(&entry->process, &page, quota_for(policy),
                                    PRIORITY(policy->priority, policy->ceiling));
    if (status < 0) {
        return status;
    }
    page.process = entry->number;
    page.argc = count_strings(strings, bytes);
    memcpy(page.arguments, strings, bytes);
    status = build(entry, &image, init_endpoint, console, serve);
    if (status < 0) {
        process_destroy(&entry->process);
        return status;
    }
    entry->alive = true;
    return entry->number;
}

void table_end(struct entry *entry, int status)
{
    process_destroy(&entry->process);
    entry->alive = false;
    entry->status = status;
    for (size_t i = 0; i < WAITERS && entry->waiters[i] != 0; i++) {
        struct words words = {.word = {(uint64_t)(int64_t)status}};

        ipc_reply(entry->waiters[i], 0, &words, NULL, 0);
        sys_cap_delete(entry->waiters[i]);
    }
}

int64_t table_watch(cap_t notification)
{
    watch = notification;
    return sys_thread_bind(own.thread, notification).value;
}

/* A bit may be an earlier process's of the same row. */
struct entry *table_ended(uint64_t *bits)
{
    while (*bits != 0) {
        struct entry *entry = &table[__builtin_ctzl(*bits)];

        *bits &= *bits - 1;
        if (entry->alive && watch_space(entry) == E_DEAD) {
            return entry;
        }
    }
    return NULL;
}
