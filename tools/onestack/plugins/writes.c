/* SPDX-License-Identifier: MIT */
/*
 * A TCG plugin: which words of the kernel's data are written, by how many vCPUs, how often. Arguments:
 * out=FILE, range=0xFROM-0xTO. Counting goes on while the reader says so. One host thread for
 * all vCPUs, or counts are a little low.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu.h"
#include "shared.h"

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

struct word {
    uint64_t vcpus; /* bit n: vCPU n has written it */
    uint64_t count;
};

/* The file; writes.py reads it, and writes `wanted`. */
static struct {
    uint64_t wanted;
    struct word words[];
} * file;

static uint64_t from, to;

static void on_write(unsigned cpu, uint32_t info, uint64_t address, void *data)
{
    (void)data;
    if (file->wanted && qemu_plugin_mem_is_store(info) && address >= from && address < to) {
        struct word *word = &file->words[(address - from) / 8];

        word->vcpus |= 1ULL << cpu % 64;
        word->count++;
    }
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

        if (qemu_plugin_insn_vaddr(insn) & KERNEL_HALF) {
            qemu_plugin_register_vcpu_mem_cb(insn, on_write, QEMU_PLUGIN_CB_NO_REGS,
                                             QEMU_PLUGIN_MEM_W, NULL);
        }
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
    const char *name = NULL;

    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            name = argv[i] + 4;
        } else if (strncmp(argv[i], "range=", 6) == 0) {
            char *end;

            from = strtoull(argv[i] + 6, &end, 0);
            to = *end == '-' ? strtoull(end + 1, NULL, 0) : 0;
        }
    }
    if (name && from < to) {
        file = shared_file(name, sizeof(*file) + (to - from + 7) / 8 * sizeof(struct word));
    }
    if (!file) {
        fprintf(stderr, "writes: needs out=FILE,range=FROM-TO\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    return 0;
}
