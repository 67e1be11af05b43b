/* SPDX-License-Identifier: MIT */
/*
 * The first user program. It starts the console and then the shell, or what `run=NAME ARGUMENTS...`
 * at the end of the command line names (the machine is switched off when that ends), and from then
 * on serves the protocol of libos/init.h. A process's faults come to it too: it tells of them and
 * ends the process.
 */
#include <stdbool.h>

#include "kernel/abi/bootpage.h"
#include "kernel/abi/fault.h"
#include "kernel/lib/string.h"
#include "user/init/power.h"
#include "user/init/table.h"
#include "user/libos/console.h"
#include "user/libos/ipc.h"
#include "user/libos/print.h"

static const struct boot_page *const boot = (const struct boot_page *)BOOT_PAGE;
static char received[4096];
static cap_t endpoint;       /* what init serves */
static cap_t console;        /* the console's, without a badge */
static uint32_t run_process; /* the machine ends with it; 0: with nobody */

/* Returns only if the machine has no way to do it. */
static void end_machine(enum power what)
{
    console_drain();
    power(what);
}

static void end_process(struct entry *entry, int status)
{
    uint32_t number = entry->number;

    table_end(entry, status);
    if (number == run_process) {
        printf("init: %s ended with %d\n", entry->name, status);
        end_machine(status == 0 ? POWER_OFF : POWER_OFF_FAILED);
    }
}

/* Who has used broken memory ends; the others are left to go on while they can. */
static void machine_check(struct entry *entry, const struct words *words)
{
    bool required = words->word[2] != 0;

    printf("fault: %s (process %u): machine check, status 0x%lx, address 0x%lx, rip 0x%lx%s\n",
           entry->name, entry->number, words->word[0], words->word[1], words->word[3],
           required ? "" : ", goes on");
    if (required) {
        end_process(entry, STATUS_MACHINE_CHECK);
    } else {
        ipc_reply(0, INFO_LABEL(FAULT_RESUME), &(struct words){{0}}, NULL, 0);
    }
}

static void end_by_fault(struct entry *entry, const struct words *words)
{
    printf("fault: %s (process %u): vector %lu, error 0x%lx, address 0x%lx, rip 0x%lx, rsp 0x%lx\n",
           entry->name, entry->number, words->word[0], words->word[1], words->word[2],
           words->word[3], words->word[4]);
    end_process(entry, STATUS_FAULT + (int)words->word[0]);
}

static void answer(int64_t value)
{
    struct words words = {.word = {(uint64_t)value}};

    ipc_reply(0, 0, &words, NULL, 0);
}

static void wait_for(struct entry *entry)
{
    if (entry == NULL || !entry->alive) {
        answer(entry == NULL ? E_INVAL : entry->status);
        return;
    }
    for (size_t i = 0; i < WAITERS; i++) {
        if (entry->waiters[i] == 0) {
            struct result saved = sys_reply_save(own.quota);

            if (saved.value < 0) {
                answer(saved.value);
            } else {
                entry->waiters[i] = saved.second;
            }
            return;
        }
    }
    answer(E_BUSY);
}

static void list(uint32_t index)
{
    struct words words = {.word = {(uint64_t)E_INVAL}};
    struct entry *entry = table_at(index);
    struct thread_info info = {0};

    if (entry != NULL) {
        sys_thread_info(entry->process.thread, (uint64_t)&info);
        words.word[0] = entry->number;
        words.word[1] = info.cpu_time;
        words.word[2] = info.priority;
        memcpy(&words.word[3], entry->name, PROCESS_NAME);
    }
    ipc_reply(0, 0, &words, NULL, 0);
}

static void end_named(const struct entry *asker, struct entry *named)
{
    if (named == NULL) {
        answer(E_INVAL);
    } else if (named != asker && named->parent != asker->number) {
        answer(E_RIGHTS);
    } else {
        if (named->alive) {
            end_process(named, STATUS_ENDED);
        }
        answer(0); /* goes nowhere if it was its own end */
    }
}

static void program(uint64_t index)
{
    const char *name = table_program(index);
    struct words words = {.word = {name != NULL ? 0 : (uint64_t)E_INVAL}};

    if (name != NULL) {
        string_copy((char *)&words.word[1], PROCESS_NAME, name);
    }
    ipc_reply(0, 0, &words, NULL, 0);
}

static void end_those_that_ended(uint64_t bits)
{
    struct entry *entry;

    while ((entry = table_ended(&bits)) != NULL) {
        end_process(entry, STATUS_ENDED);
    }
}

static void serve(uint64_t info, uint32_t badge, const struct words *words)
{
    struct entry *asker = table_find(badge);
    struct entry *named = table_find((uint32_t)words->word[0]);

    if (asker == NULL || !asker->alive) {
        return;
    }
    if (info & INFO_FAULT) {
        (info_label(info) == FAULT_MACHINE_CHECK ? machine_check : end_by_fault)(asker, words);
        return;
    }
    switch (info_label(info)) {
    case INIT_EXIT:
        end_process(asker, (int)words->word[0]);
        break;
    case INIT_SPAWN:
        answer(table_spawn(asker->number, endpoint, console, received, info_bytes(info), 0));
        break;
    case INIT_WAIT:
        wait_for(named);
        break;
    case INIT_END:
        end_named(asker, named);
        break;
    case INIT_LIST:
        list((uint32_t)words->word[0]);
        break;
    case INIT_POWER:
        end_machine((enum power)words->word[0]);
        answer(E_DEAD);
        break;
    case INIT_NMI_DUMP:
        answer(sys_nmi_dump(own.grants[GRANT_IOPORTS], words->word[0]).value);
        break;
    case INIT_PROGRAM:
        program(words->word[0]);
        break;
    default:
        answer(E_INVAL);
    }
}

/* The console is a server like any other; init's session of it has init's number as its badge. */
static int64_t start_console(void)
{
    static const char name[] = "console";
    struct result created = sys_endpoint_create(own.quota);

    if (created.value < 0) {
        return created.value;
    }
    console = created.second;
    int64_t process = table_spawn(INIT_PROCESS, endpoint, 0, name, sizeof(name), console);
    if (process < 0) {
        return process;
    }
    created = sys_cap_copy(console, RIGHT_ENDPOINT_CALL, INIT_PROCESS, 0);
    own.console = created.second;
    return created.value;
}

/* The words after `run=`, each with its NUL, or the shell's name. */
static size_t first_program(char *strings, size_t size)
{
    static const char shell[] = "shell";
    const char *at = boot->cmdline;
    size_t used = 0;

    while (*at != '\0' &&
           !(strncmp(at, "run=", 4) == 0 && (at == boot->cmdline || at[-1] == ' '))) {
        at++;
    }
    if (*at == '\0') {
        memcpy(strings, shell, sizeof(shell));
        return sizeof(shell);
    }
    for (at += 4; *at != '\0' && used + 1 < size; at++) {
        if (*at != ' ' || (used > 0 && strings[used - 1] != '\0')) {
            strings[used++] = *at == ' ' ? '\0' : *at;
        }
    }
    if (used == 0 || strings[used - 1] != '\0') {
        strings[used++] = '\0';
    }
    return used;
}

static int64_t start_first_program(void)
{
    char strings[sizeof(boot->cmdline) + 1];
    size_t bytes = first_program(strings, sizeof(strings));
    int64_t process = table_spawn(INIT_PROCESS, endpoint, console, strings, bytes, 0);

    if (process < 0) {
        printf("init: cannot start %s: %s\n", strings, error_name(process));
    }
    if (strcmp(strings, "shell") != 0) {
        run_process = process < 0 ? 0 : (uint32_t)process;
    }
    return process;
}

static void notified(uint64_t bits)
{
    if ((bits & POWER_BIT) != 0 && power_button()) {
        end_machine(POWER_OFF);
    }
    end_those_that_ended(bits & ~POWER_BIT);
}

int main(int argc, char **argv)
{
    struct message message = {.receive_buffer = (uint64_t)received,
                              .receive_size = sizeof(received)};
    struct result created = sys_endpoint_create(own.quota);
    struct result watch = sys_notification_create(own.quota);

    (void)argc;
    (void)argv;
    own.process = INIT_PROCESS;
    endpoint = created.second;
    /* Without a console there is nobody to tell but the harness: the exit status must do. */
    if (created.value < 0 || watch.value < 0 || table_watch(watch.second) < 0 ||
        power_start(watch.second) < 0 || start_console() < 0 || start_first_program() < 0) {
        end_machine(POWER_OFF_FAILED);
    }
    for (;;) {
        struct words words = {.word = {0}};
        struct result result = ipc_receive(endpoint, 0, &words, &message, TIMEOUT_NONE);

        if (result.value >= 0 && (result.value & (int64_t)INFO_NOTIFIED)) {
            notified(words.word[0]);
        } else if (result.value >= 0) {
            serve((uint64_t)result.value, (uint32_t)result.second, &words);
        }
    }
}
