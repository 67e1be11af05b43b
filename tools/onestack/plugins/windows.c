/* SPDX-License-Identifier: MIT */
/*
 * A TCG plugin: how long each vCPU runs with interrupts off (IF=0), in instructions, and where; how
 * long from an interrupt's entry to its acknowledgement; and how long the kernel runs on without a
 * look at what is pending. Arguments: out=FILE, marks=FILE.
 *
 * A plugin cannot read registers, so IF is inferred: off by cli, syscall and entry; on by sti (after
 * one more instruction), sysretq, iretq to user mode. pushfq and popfq are taken for save and restore;
 * iretq to the kernel brings back what was when its entry came. An interrupt that comes while IF is
 * thought to be 0 is counted as a contradiction: there must be none.
 *
 * A window is what an interrupt would have to wait for: from the first instruction before which it
 * cannot come to the last such. Its table entry is named by the first one's address. Marks are lines
 * "KIND ADDRESS", ADDRESS hexadecimal:
 *
 *   irq, trap   a vector's first instruction; excused: likewise, of one that is not counted
 *   outermost   only reached with no entry interrupted; the first time, counting begins
 *   restart     where an interrupted exit is sent back to, with IF=0
 *   record      acknowledges an interrupt
 *   look        asks whether anything is pending
 *   path        names the way through the kernel from here on, until the next or user mode
 *   stop        a panic: nothing counts from here on
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu.h"
#include "shared.h"

#define MAX_CPUS   256
#define MAX_DEPTH  32
#define MAX_PLACES 4096 /* a power of two */
#define MAX_MARKS  4096
#define KERNEL     (1ULL << 63) /* the kernel's half of the addresses */

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

enum mark { NO_MARK, IRQ, TRAP, EXCUSED, OUTERMOST, RESTART, RECORD, LOOK, PATH, STOP, MARKS };

static const char *const mark_names[MARKS] = {
    "", "irq", "trap", "excused", "outermost", "restart", "record", "look", "path", "stop",
};

/* What an instruction does to IF once it has been executed; a hlt to nobody's IF, but it waits. */
enum effect { NOTHING, CLI, STI, PUSHF, POPF, IRET, LRET, SYSRET, HLT };

/* What is known of an instruction when it is translated. Never freed: its code may come again. */
struct about {
    uint64_t address, next;
    enum mark mark;
    enum effect effect;
};

enum kind { FREE, WINDOW, STRETCH, RECORDED };

struct place {
    uint64_t kind, first, path;
    uint64_t last; /* of the longest */
    uint64_t longest, count;
};

/* The file; windows.py reads it. */
static struct {
    uint64_t instructions;   /* of the kernel's, since counting began */
    uint64_t interrupts;     /* that came in */
    uint64_t contradictions; /* of those, with IF thought to be 0 */
    uint64_t lost;           /* places, for lack of room */
    struct place places[MAX_PLACES];
} * found;

/* What an entry interrupted. */
struct saved {
    uint64_t first, length;
    unsigned flag_count;
    bool off, excused;
    unsigned char shadow;
};

static struct vcpu {
    bool counts;                     /* it is up, and nothing has panicked */
    bool in_kernel;                  /* its last instruction was */
    bool off, excused;               /* IF=0: a window is open; it is not to be counted */
    unsigned char shadow;            /* 1: sti was executed, 2: and the instruction after it */
    const struct about *last;        /* instruction executed */
    uint64_t first, length;          /* of the window */
    uint64_t stretch_first, stretch; /* since the last look */
    uint64_t entry, entered;         /* an interrupt's, and instructions since; 0 = recorded */
    uint64_t path;
    unsigned depth, flag_count;
    struct saved saved[MAX_DEPTH];
    bool flags[MAX_DEPTH]; /* was IF 0 when pushfq kept it? */
} vcpus[MAX_CPUS];

static bool stopped;
static const struct about nothing;
static struct about marks[MAX_MARKS];
static unsigned mark_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The entry of a place in the table; NULL if that is full. */
static struct place *place_of(enum kind kind, uint64_t first, uint64_t path)
{
    uint64_t hash = (first + (path << 20) + (uint64_t)kind) * 0x9e3779b97f4a7c15ULL >> 40;

    for (unsigned i = 0; i < MAX_PLACES; i++) {
        struct place *place = &found->places[(hash + i) % MAX_PLACES];

        if (place->kind == FREE) {
            *place = (struct place){.kind = kind, .first = first, .path = path};
        }
        if (place->kind == kind && place->first == first && place->path == path) {
            return place;
        }
    }
    found->lost++;
    return NULL;
}

static void keep(const struct vcpu *cpu, enum kind kind, uint64_t first, uint64_t length)
{
    struct place *place;

    if (length == 0 || !cpu->counts) {
        return;
    }
    pthread_mutex_lock(&lock);
    place = place_of(kind, first, cpu->path);
    if (place) {
        place->count++;
        if (length > place->longest) {
            place->longest = length;
            place->last = cpu->last->address;
        }
    }
    pthread_mutex_unlock(&lock);
}

static void open_window(struct vcpu *cpu, uint64_t first)
{
    cpu->off = true;
    cpu->shadow = 0;
    cpu->first = first;
    cpu->length = 0;
}

static void close_window(struct vcpu *cpu)
{
    if (cpu->off && !cpu->excused) {
        keep(cpu, WINDOW, cpu->first, cpu->length);
    }
    cpu->off = cpu->excused = false;
    cpu->shadow = 0;
}

static void end_stretch(struct vcpu *cpu, uint64_t next)
{
    keep(cpu, STRETCH, cpu->stretch_first, cpu->stretch);
    cpu->stretch_first = next;
    cpu->stretch = 0;
}

/* It is back in user mode. */
static void leave(struct vcpu *cpu)
{
    close_window(cpu);
    end_stretch(cpu, 0);
    cpu->in_kernel = false;
    cpu->depth = cpu->flag_count = 0;
    cpu->entered = cpu->path = 0;
}

static void save(struct vcpu *cpu)
{
    if (cpu->depth == MAX_DEPTH) { /* of many that were given up only the last counts */
        cpu->depth--;
        memmove(&cpu->saved[0], &cpu->saved[1], cpu->depth * sizeof(cpu->saved[0]));
    }
    cpu->saved[cpu->depth++] = (struct saved){.first = cpu->first,
                                              .length = cpu->length,
                                              .flag_count = cpu->flag_count,
                                              .off = cpu->off,
                                              .excused = cpu->excused,
                                              .shadow = cpu->shadow};
}

/* Back to what an entry interrupted. */
static void restore(struct vcpu *cpu)
{
    struct saved saved = {0};

    if (cpu->depth > 0) {
        saved = cpu->saved[--cpu->depth];
    }
    cpu->flag_count = saved.flag_count;
    if (!saved.off) {
        close_window(cpu);
        return;
    }
    /* The window that it found open goes on, and what counts of it was a part of that. */
    if (cpu->excused) {
        cpu->length = saved.length;
    }
    cpu->first = saved.first;
    cpu->excused = saved.excused;
    cpu->shadow = saved.shadow;
    cpu->off = true;
}

static bool is_entry(const struct about *about)
{
    return about->mark == IRQ || about->mark == TRAP || about->mark == EXCUSED;
}

/* iretq went to `about`, or an interrupt came right after it. */
static void after_iret(struct vcpu *cpu, const struct about *about)
{
    if (is_entry(about) && cpu->depth == 0) {
        leave(cpu);
    } else if (about->address != cpu->last->next) { /* to there it goes to open NMIs, as it is */
        restore(cpu);
    }
    if (about->mark == RESTART && !cpu->off) {
        open_window(cpu, about->address);
    }
}

static void after_popf(struct vcpu *cpu)
{
    unsigned not_mine = cpu->depth > 0 ? cpu->saved[cpu->depth - 1].flag_count : 0;

    if (cpu->flag_count > not_mine && !cpu->flags[--cpu->flag_count]) {
        close_window(cpu);
    }
}

/* What the last instruction did, now that the next one, in the kernel, is known. */
static void settle(struct vcpu *cpu, const struct about *about)
{
    const struct about *last = cpu->last ? cpu->last : &nothing;

    switch (last->effect) {
    case CLI:
        cpu->shadow = 0;
        if (!cpu->off) {
            open_window(cpu, last->next);
        }
        break;
    case STI:
        cpu->shadow = cpu->off && cpu->shadow == 0 ? 1 : cpu->shadow;
        break;
    case PUSHF:
        cpu->flags[cpu->flag_count] = cpu->off;
        cpu->flag_count += cpu->flag_count < MAX_DEPTH - 1;
        break;
    case POPF:
        after_popf(cpu);
        break;
    case IRET:
        after_iret(cpu, about);
        break;
    case LRET:
        restore(cpu);
        break;
    case SYSRET:
        leave(cpu);
        break;
    case HLT:
        end_stretch(cpu, about->address);
        break;
    default:
        break;
    }
    if (cpu->shadow == 2) {
        close_window(cpu);
    }
}

static void enter(struct vcpu *cpu, const struct about *about)
{
    if (cpu->in_kernel) {
        save(cpu);
        cpu->shadow = 0;
    } else {
        cpu->path = cpu->stretch_first = about->address;
    }
    if (about->mark == IRQ) {
        found->interrupts += cpu->counts;
        found->contradictions += cpu->counts && cpu->off;
        cpu->entry = about->address;
        cpu->entered = 1;
    }
    if (!cpu->off) {
        open_window(cpu, about->address);
    }
    cpu->excused |= about->mark == EXCUSED;
}

static void at_mark(struct vcpu *cpu, const struct about *about)
{
    switch (about->mark) {
    case OUTERMOST:
        if (!cpu->counts && !stopped) { /* what was before is the way up */
            cpu->counts = true;
            cpu->stretch = 0;
        }
        cpu->depth = cpu->flag_count = 0;
        break;
    case RECORD:
        if (cpu->entered) {
            keep(cpu, RECORDED, cpu->entry, cpu->entered);
        }
        cpu->entered = 0;
        break;
    case LOOK:
        end_stretch(cpu, about->address);
        break;
    case PATH:
        cpu->path = about->address;
        break;
    default:
        break;
    }
}

static void on_kernel(unsigned number, void *data)
{
    const struct about *about = data;
    struct vcpu *cpu = &vcpus[number % MAX_CPUS];

    settle(cpu, about);
    if (is_entry(about)) {
        enter(cpu, about);
    } else if (!cpu->in_kernel) { /* by syscall */
        cpu->path = cpu->stretch_first = about->address;
        open_window(cpu, about->address);
    }
    cpu->in_kernel = true;
    cpu->last = about;
    cpu->length += cpu->off;
    cpu->shadow += cpu->shadow == 1;
    cpu->stretch += !cpu->excused;
    cpu->entered += cpu->entered != 0;
    found->instructions += cpu->counts;
    if (about->mark == STOP) {
        stopped = true;
        for (unsigned i = 0; i < MAX_CPUS; i++) {
            vcpus[i].counts = false;
        }
    } else if (about->mark != NO_MARK) {
        at_mark(cpu, about);
    }
}

static void on_user(unsigned number, void *data)
{
    struct vcpu *cpu = &vcpus[number % MAX_CPUS];

    (void)data;
    if (cpu->in_kernel) {
        leave(cpu);
    }
    cpu->last = &nothing;
}

static enum effect effect_of(const unsigned char *code, size_t size)
{
    switch (code[0]) {
    case 0xfa:
        return CLI;
    case 0xfb:
        return STI;
    case 0x9c:
        return PUSHF;
    case 0x9d:
        return POPF;
    case 0xf4:
        return HLT;
    default:
        if (size < 2) {
            return NOTHING;
        }
        return code[0] == 0x48 && code[1] == 0xcf                                   ? IRET
               : code[0] == 0x48 && code[1] == 0xcb                                 ? LRET
               : size == 3 && code[0] == 0x48 && code[1] == 0x0f && code[2] == 0x07 ? SYSRET
                                                                                    : NOTHING;
    }
}

static int by_address(const void *a, const void *b)
{
    uint64_t one = ((const struct about *)a)->address, two = ((const struct about *)b)->address;

    return (one > two) - (one < two);
}

static struct about *describe(const struct qemu_plugin_insn *insn)
{
    struct about *about = calloc(1, sizeof(*about)), *mark;

    about->address = qemu_plugin_insn_vaddr(insn);
    about->next = about->address + qemu_plugin_insn_size(insn);
    about->effect = effect_of(qemu_plugin_insn_data(insn), qemu_plugin_insn_size(insn));
    mark = bsearch(about, marks, mark_count, sizeof(*marks), by_address);
    about->mark = mark ? mark->mark : NO_MARK;
    return about;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);

    (void)id;
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

        if (qemu_plugin_insn_vaddr(insn) & KERNEL) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_kernel, QEMU_PLUGIN_CB_NO_REGS,
                                                   describe(insn));
        } else if (i == 0) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_user, QEMU_PLUGIN_CB_NO_REGS, NULL);
        }
    }
}

static bool read_marks(const char *name)
{
    FILE *file = fopen(name, "r");
    char word[16];
    uint64_t address;

    while (file && mark_count < MAX_MARKS && fscanf(file, "%15s %lx", word, &address) == 2) {
        for (unsigned i = 1; i < MARKS; i++) {
            if (strcmp(word, mark_names[i]) == 0) {
                marks[mark_count++] = (struct about){.address = address, .mark = i};
            }
        }
    }
    qsort(marks, mark_count, sizeof(*marks), by_address);
    return file && fclose(file) == 0 && mark_count > 0;
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
    bool good = false;

    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            found = shared_file(argv[i] + 4, sizeof(*found));
        } else if (strncmp(argv[i], "marks=", 6) == 0) {
            good = read_marks(argv[i] + 6);
        }
    }
    if (!found || !good) {
        fprintf(stderr, "windows: needs out=FILE,marks=FILE\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    return 0;
}
