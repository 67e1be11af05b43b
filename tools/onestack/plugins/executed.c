/* SPDX-License-Identifier: MIT */
/*
 * A TCG plugin: how often each instruction of some address ranges was executed, and how many
 * instructions each vCPU has executed in all. Arguments: out=FOLDER, range=0xFROM-0xTO (up to
 * four). The file FOLDER/PID has 64-bit words: four ranges (from, to; 0, 0 = none), 256 counts of
 * vCPUs, then one for each address of each range.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu.h"
#include "shared.h"

#define MAX_CPUS   256
#define MAX_RANGES 4

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

struct range {
    uint64_t from, to;
};

static struct range ranges[MAX_RANGES];
static unsigned range_count;
static struct {
    struct range ranges[MAX_RANGES];
    uint64_t cpus[MAX_CPUS]; /* each written by its own vCPU's thread only */
    uint64_t executed[];
} * counts;

static void count_instructions(unsigned cpu, void *number)
{
    if (cpu < MAX_CPUS) {
        counts->cpus[cpu] += (uintptr_t)number;
    }
}

/* The count of the instruction at `address`, NULL if it is in no range. */
static uint64_t *count_of(uint64_t address)
{
    uint64_t *first = counts->executed;

    for (unsigned i = 0; i < range_count; i++) {
        if (address >= ranges[i].from && address < ranges[i].to) {
            return first + (address - ranges[i].from);
        }
        first += ranges[i].to - ranges[i].from;
    }
    return NULL;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);

    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, count_instructions, QEMU_PLUGIN_CB_NO_REGS,
                                         (void *)(uintptr_t)n);
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t *count = count_of(qemu_plugin_insn_vaddr(insn));

        if (count != NULL) {
            qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64, count, 1);
        }
    }
}

/* The file of this process. False: it cannot be made. */
static int make_file(const char *folder)
{
    size_t size = sizeof(*counts);
    char name[4096];

    for (unsigned i = 0; i < range_count; i++) {
        size += (ranges[i].to - ranges[i].from) * sizeof(uint64_t);
    }
    snprintf(name, sizeof(name), "%s/%d", folder, (int)getpid());
    counts = shared_file(name, size);
    if (counts != NULL) {
        memcpy(counts->ranges, ranges, sizeof(ranges));
    }
    return counts != NULL;
}

static int add_range(const char *text)
{
    char *end;
    struct range range = {.from = strtoull(text, &end, 0)};

    if (range_count == MAX_RANGES || *end != '-') {
        return 0;
    }
    range.to = strtoull(end + 1, NULL, 0);
    ranges[range_count++] = range;
    return range.from < range.to;
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
    const char *folder = NULL;
    int good = 1;

    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            folder = argv[i] + 4;
        } else if (strncmp(argv[i], "range=", 6) == 0) {
            good &= add_range(argv[i] + 6);
        }
    }
    if (!folder || !range_count || !good || !make_file(folder)) {
        fprintf(stderr, "executed: needs out=FOLDER,range=FROM-TO\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    return 0;
}
