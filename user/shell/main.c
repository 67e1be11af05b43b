/* SPDX-License-Identifier: MIT */
/* The shell: reads a line, does what its first word says. */
#include "kernel/arch/state.h"
#include "kernel/lib/string.h"
#include "user/libos/console.h"
#include "user/libos/init.h"
#include "user/libos/ipc.h"
#include "user/libos/number.h"
#include "user/libos/print.h"
#include "user/libos/start.h"

struct command {
    const char *name, *arguments, *text;
    void (*run)(int argc, char **argv);
};

static uint64_t info(enum kernel_info_kind kind, uint64_t index)
{
    return sys_kernel_info(kind, index).second;
}

static void print_counts(const char *what, enum kernel_info_kind kind)
{
    for (uint64_t core = 0; core < info(KINFO_CORES, 0); core++) {
        printf("core %lu: %lu %s\n", core, info(kind, core), what);
    }
}

static void print_core(uint64_t core)
{
    static const char *const names[] = {
        [CORE_ST_USER] = "user", [CORE_ST_PARMCHK] = "parmchk", [CORE_ST_SYSCALL] = "syscall",
        [CORE_ST_IPC] = "ipc",   [CORE_ST_CONTIN] = "contin",   [CORE_ST_INTR] = "intr",
        [CORE_ST_IDLE] = "idle",
    };
    uint64_t word = info(KINFO_CORE_STATE, core), state = word & 0xff;

    printf("%4lu %4lu %-8s %8lu %8lu %8lu %8lu", core, word >> 32,
           state < sizeof(names) / sizeof(*names) ? names[state] : "?", info(KINFO_IRQ_COUNT, core),
           info(KINFO_IRQ_NESTED, core), info(KINFO_NMI_COUNT, core), info(KINFO_NMI_WORKED, core));
    printf(" %8lu %8lu %8lu %9lu\n", info(KINFO_MAIL_COUNT, core), info(KINFO_ARRIVED, core),
           info(KINFO_FLUSH_COUNT, core), info(KINFO_IDLE_NS, core) / 1000000);
}

static void do_cores(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("core nest state        irqs   nested     nmis   worked     mail  arrived  flushes"
           " idle (ms)\n");
    for (uint64_t core = 0; core < info(KINFO_CORES, 0); core++) {
        print_core(core);
    }
}

static void do_ps(int argc, char **argv)
{
    struct process_row row;

    (void)argc;
    (void)argv;
    printf("process priority  cpu time (us)  name\n");
    for (uint32_t i = 0; init_list(i, &row) >= 0; i++) {
        printf("%7u %8u %14lu  %s\n", row.process, row.priority, row.cpu_time / 1000, row.name);
    }
}

static void do_free(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("%lu KiB free, %lu KiB left of the shell's quota\n", info(KINFO_FREE_BYTES, 0) / 1024,
           sys_quota_info(own.quota).second / 1024);
}

static void do_nmi(int argc, char **argv)
{
    if (argc > 1) {
        bool on = strcmp(argv[1], "dump") == 0;

        if (!on && strcmp(argv[1], "quiet") != 0) {
            printf("usage: nmi [dump|quiet]\n");
        } else {
            printf("nmi %s: %s\n", argv[1], error_name(init_nmi_dump(on)));
        }
        return;
    }
    for (uint64_t core = 0; core < info(KINFO_CORES, 0); core++) {
        printf("core %lu: %lu nmis, %lu worked on\n", core, info(KINFO_NMI_COUNT, core),
               info(KINFO_NMI_WORKED, core));
    }
}

static void do_mce(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    for (uint64_t core = 0; core < info(KINFO_CORES, 0); core++) {
        uint64_t count = info(KINFO_MCHECK_COUNT, core);

        printf("core %lu: %lu machine checks", core, count);
        if (count) {
            printf(", the last: status 0x%lx, physical address 0x%lx",
                   info(KINFO_MCHECK_STATUS, core), info(KINFO_MCHECK_ADDRESS, core));
        }
        printf("\n");
    }
}

static void do_irq(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    print_counts("interrupts", KINFO_IRQ_COUNT);
}

static void do_uptime(int argc, char **argv)
{
    uint64_t ns = sys_clock().second;

    (void)argc;
    (void)argv;
    printf("%lu.%03lu s\n", ns / 1000000000, ns / 1000000 % 1000);
}

static void do_echo(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        printf("%s%s", argv[i], i + 1 < argc ? " " : "");
    }
    printf("\n");
}

static bool program_exists(const char *wanted)
{
    char name[PROCESS_NAME + 1];

    for (uint32_t i = 0; init_program(i, name) >= 0; i++) {
        if (strcmp(name, wanted) == 0) {
            return true;
        }
    }
    return false;
}

/* A program as a child of this one's; its number, or 0 when that has been said to be impossible. */
static uint32_t spawn(int count, char **words)
{
    char strings[CONSOLE_LINE + 1];
    size_t used = 0;

    for (int i = 0; i < count; i++) {
        size_t size = strlen(words[i]) + 1;
        memcpy(&strings[used], words[i], size);
        used += size;
    }
    int64_t process = init_spawn(strings, used);
    if (process >= 0) {
        return (uint32_t)process;
    }
    if (!program_exists(words[0])) {
        printf("%s: no such program; `run` lists them\n", words[0]);
    } else {
        printf("cannot run %s: %s\n", words[0], error_name(process));
    }
    return 0;
}

static void spawn_and_wait(int count, char **words)
{
    uint32_t process = spawn(count, words);

    if (process != 0) {
        printf("%s ended with %ld\n", words[0], init_wait(process));
    }
}

static void list_programs(void)
{
    char name[PROCESS_NAME + 1];

    for (uint32_t i = 0; init_program(i, name) >= 0; i++) {
        printf("%s%s", i ? " " : "", name);
    }
    printf("\n");
}

static void do_run(int argc, char **argv)
{
    bool behind = argc > 2 && strcmp(argv[argc - 1], "&") == 0;

    if (argc < 2) {
        list_programs();
    } else if (!behind) {
        spawn_and_wait(argc - 1, argv + 1);
    } else {
        uint32_t process = spawn(argc - 2, argv + 1);

        if (process != 0) {
            printf("%s is process %u\n", argv[1], process);
        }
    }
}

static void do_kill(int argc, char **argv)
{
    uint64_t process = 0;

    if (argc != 2 || !parse_number(argv[1], &process)) {
        printf("usage: kill PROCESS\n");
        return;
    }
    int64_t error = init_end((uint32_t)process);

    if (error != E_OK) {
        printf("kill %lu: %s\n", process,
               error == E_RIGHTS  ? "not started from here"
               : error == E_INVAL ? "no such process"
                                  : error_name(error));
    }
}

/* The program of the same name does it: a crash of this process would take the prompt along. */
static void do_crash(int argc, char **argv)
{
    spawn_and_wait(argc, argv);
}

static void do_poweroff(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("poweroff: %s\n", error_name(init_power(POWER_OFF)));
}

static void do_panic(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("panic: %s\n", error_name(init_power(POWER_PANIC)));
}

static void do_reboot(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("reboot: %s\n", error_name(init_power(POWER_RESET)));
}

static void do_help(int argc, char **argv);

static const struct command commands[] = {
    {"cores", "", "each core: its nest, state, interrupts, NMIs, mail, flushes, idle time",
     do_cores},
    {"crash", "[KIND]", "a program that faults; without KIND: which kinds", do_crash},
    {"echo", "[WORD...]", "print the words", do_echo},
    {"free", "", "free memory", do_free},
    {"help", "", "this list", do_help},
    {"irq", "", "interrupts taken", do_irq},
    {"kill", "PROCESS", "end a process that was started here", do_kill},
    {"mce", "", "machine checks taken, and the last one of each core", do_mce},
    {"mem", "", "the same as free", do_free},
    {"nmi", "[dump|quiet]",
     "NMIs taken and worked on; an external one prints each core's state, or not", do_nmi},
    {"panic", "", "stop the kernel, with its report", do_panic},
    {"poweroff", "", "switch the machine off", do_poweroff},
    {"ps", "", "the processes", do_ps},
    {"reboot", "", "reset the machine", do_reboot},
    {"run", "[NAME [WORD...] [&]]",
     "run a program and wait for it (& does not); alone: which there are", do_run},
    {"threads", "", "the same as ps", do_ps},
    {"uptime", "", "time since boot", do_uptime},
};

static void do_help(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
        printf("%-8s %-20s %s\n", commands[i].name, commands[i].arguments, commands[i].text);
    }
}

static int split(char *line, char **words, int most)
{
    int count = 0;

    while (*line != '\0') {
        if (*line == ' ') {
            *line++ = '\0';
            continue;
        }
        if (count < most) {
            words[count++] = line;
        }
        while (*line != '\0' && *line != ' ') {
            line++;
        }
    }
    return count;
}

static void obey(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
        if (strcmp(argv[0], commands[i].name) == 0) {
            commands[i].run(argc, argv);
            return;
        }
    }
    printf("%s: no such command; `help` lists them\n", argv[0]);
}

int main(int argc, char **argv)
{
    static char line[CONSOLE_LINE + 1];
    char *words[ARGUMENTS_MAX];

    (void)argc;
    (void)argv;
    for (;;) {
        printf("onestack> ");
        int64_t length = console_read_line(line, sizeof(line));
        if (length < 0) {
            return 1;
        }
        int count = split(line, words, ARGUMENTS_MAX);
        if (count > 0) {
            obey(count, words);
        }
    }
}
