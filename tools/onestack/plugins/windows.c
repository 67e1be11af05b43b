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
 *
 * This file says what an instruction is; windows_follow.c follows the vCPUs through them.
 */
#include "windows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu.h"

#define MAX_MARKS 4096

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

static const char *const mark_names[MARKS] = {
    "", "irq", "trap", "excused", "outermost", "restart", "record", "look", "path", "stop",
};

static struct about marks[MAX_MARKS];
static unsigned mark_count;

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

        if (qemu_plugin_insn_vaddr(insn) & KERNEL_HALF) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, follow_kernel, QEMU_PLUGIN_CB_NO_REGS,
                                                   describe(insn));
        } else if (i == 0) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, follow_user, QEMU_PLUGIN_CB_NO_REGS, NULL);
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
    bool good = false, started = false;

    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            started = follow_start(argv[i] + 4);
        } else if (strncmp(argv[i], "marks=", 6) == 0) {
            good = read_marks(argv[i] + 6);
        }
    }
    if (!started || !good) {
        fprintf(stderr, "windows: needs out=FILE,marks=FILE\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    return 0;
}
