/* SPDX-License-Identifier: MIT */
/*
 * A TCG plugin: how many of the kernel's instructions each vCPU executes for one operation at a time.
 * Arguments: out=FILE, marks=FILE.
 *
 * Marks are lines "begin ADDRESS CODE" or "end ADDRESS CODE": a user instruction's address and its
 * bytes, both hexadecimal. The bytes are there because programs share addresses. The reader arms the
 * plugin; then the next `begin` opens the span, or the next at a given address. It closes when that
 * vCPU has left the kernel, to user mode or by hlt; or at the next `end`, on whichever vCPU. Marks are
 * seen before their instruction is executed, so one that faults can be a beginning. For one host
 * thread for all vCPUs: -icount, or -accel tcg,thread=single.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "qemu.h"
#include "shared.h"

#define MAX_CPUS  256
#define MAX_MARKS 256
#define MAX_CODE  15
#define HLT       0xf4

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

enum state { IDLE, ARMED_TO_LEAVE, ARMED_TO_END, LEAVING, ENDING, CLOSED };

/* The file; spans.py reads it, and arms it by `begin` (0: any) and `state`. */
static struct {
    uint64_t state;
    uint64_t begin;     /* the address where it began, */
    uint64_t begin_cpu; /* and on which vCPU */
    uint64_t executed[MAX_CPUS];
} * span;

static struct mark {
    bool begins;
    uint64_t address;
    char code[2 * MAX_CODE + 1];
} marks[MAX_MARKS];
static unsigned mark_count;
static bool is_inside; /* the vCPU of a span that is LEAVING has come to the kernel */

static void leave(unsigned cpu)
{
    if (span->state == LEAVING && cpu == span->begin_cpu && is_inside) {
        span->state = CLOSED;
    }
}

static void on_kernel(unsigned cpu, void *data)
{
    (void)data;
    if (span->state == LEAVING || span->state == ENDING) {
        span->executed[cpu % MAX_CPUS]++;
        is_inside |= cpu == span->begin_cpu;
    }
}

static void on_halt(unsigned cpu, void *data)
{
    on_kernel(cpu, data);
    leave(cpu);
}

static void on_user(unsigned cpu, void *data)
{
    (void)data;
    leave(cpu);
}

static void on_begin(unsigned cpu, void *data)
{
    const struct mark *mark = data;
    bool armed = span->state == ARMED_TO_LEAVE || span->state == ARMED_TO_END;

    if (armed && (span->begin == 0 || span->begin == mark->address)) {
        memset(span->executed, 0, sizeof(span->executed));
        span->begin = mark->address;
        span->begin_cpu = cpu;
        span->state = span->state == ARMED_TO_LEAVE ? LEAVING : ENDING;
        is_inside = false;
    }
}

static void on_end(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    if (span->state == ENDING) {
        span->state = CLOSED;
    }
}

/* Does the mark name this very instruction, and not another program's at the same address? */
static bool is_at(const struct mark *mark, const struct qemu_plugin_insn *insn)
{
    const unsigned char *bytes = qemu_plugin_insn_data(insn);
    size_t size = qemu_plugin_insn_size(insn);
    char code[2 * MAX_CODE + 1] = "";

    if (mark->address != qemu_plugin_insn_vaddr(insn)) {
        return false;
    }
    for (size_t i = 0; i < size && i < MAX_CODE; i++) {
        snprintf(code + 2 * i, 3, "%02x", bytes[i]);
    }
    return strcmp(code, mark->code) == 0;
}

static void on(struct qemu_plugin_insn *insn, execute_fn function, void *data)
{
    qemu_plugin_register_vcpu_insn_exec_cb(insn, function, QEMU_PLUGIN_CB_NO_REGS, data);
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

        if (qemu_plugin_insn_vaddr(insn) & KERNEL_HALF) {
            bool halts = *(const unsigned char *)qemu_plugin_insn_data(insn) == HLT;

            on(insn, halts ? on_halt : on_kernel, NULL);
            continue;
        }
        on(insn, on_user, NULL);
        for (unsigned m = 0; m < mark_count; m++) {
            if (is_at(&marks[m], insn)) {
                on(insn, marks[m].begins ? on_begin : on_end, &marks[m]);
            }
        }
    }
}

static bool read_marks(const char *name)
{
    FILE *file = fopen(name, "r");
    char kind[8];

    while (file && mark_count < MAX_MARKS &&
           fscanf(file, "%7s %lx %30s", kind, &marks[mark_count].address, marks[mark_count].code) ==
               3) {
        marks[mark_count++].begins = strcmp(kind, "begin") == 0;
    }
    return file && fclose(file) == 0 && mark_count > 0;
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
    bool good = false;

    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            span = shared_file(argv[i] + 4, sizeof(*span));
        } else if (strncmp(argv[i], "marks=", 6) == 0) {
            good = read_marks(argv[i] + 6);
        }
    }
    if (!span || !good) {
        fprintf(stderr, "spans: needs out=FILE,marks=FILE\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    return 0;
}
