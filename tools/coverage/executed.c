/* SPDX-License-Identifier: MIT */
/*
 * A TCG plugin: how often each instruction of an address range was executed, and how many
 * instructions each vCPU has executed in all. Arguments: out=FOLDER, from=0x..., to=0x.... Counts go
 * straight to FOLDER/PID, a shared mapping, so they survive the SIGKILL that ends a test's QEMU:
 * from, to, 256 counts of vCPUs, then one for each address; 64-bit words.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "qemu-plugin.h"

#define MAX_CPUS 256

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

static struct {
    uint64_t from, to;
    uint64_t cpus[MAX_CPUS]; /* each written by its own vCPU's thread only */
    uint64_t executed[];     /* one for each address from `from` */
} * counts;

static void count_instructions(unsigned cpu, void *number)
{
    if (cpu < MAX_CPUS) {
        counts->cpus[cpu] += (uintptr_t)number;
    }
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);

    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, count_instructions, QEMU_PLUGIN_CB_NO_REGS,
                                         (void *)(uintptr_t)n);
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t address = qemu_plugin_insn_vaddr(insn);

        if (address >= counts->from && address < counts->to) {
            qemu_plugin_register_vcpu_insn_exec_inline(
                insn, QEMU_PLUGIN_INLINE_ADD_U64, &counts->executed[address - counts->from], 1);
        }
    }
}

/* The file of this process, mapped. False: it cannot be made. */
static int make_file(const char *folder, uint64_t from, uint64_t to)
{
    size_t size = sizeof(*counts) + (to - from) * sizeof(uint64_t);
    char name[4096];
    int file;

    snprintf(name, sizeof(name), "%s/%d", folder, (int)getpid());
    file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || ftruncate(file, (off_t)size) != 0) {
        return 0;
    }
    counts = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (counts == MAP_FAILED) {
        return 0;
    }
    counts->from = from;
    counts->to = to;
    return 1;
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                           char **argv)
{
    const char *folder = NULL;
    uint64_t from = 0, to = 0;

    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            folder = argv[i] + 4;
        } else if (strncmp(argv[i], "from=", 5) == 0) {
            from = strtoull(argv[i] + 5, NULL, 0);
        } else if (strncmp(argv[i], "to=", 3) == 0) {
            to = strtoull(argv[i] + 3, NULL, 0);
        }
    }
    if (!folder || to <= from || !make_file(folder, from, to)) {
        fprintf(stderr, "executed: needs out=FOLDER,from=ADDRESS,to=ADDRESS\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    return 0;
}
