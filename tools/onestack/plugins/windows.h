/* SPDX-License-Identifier: MIT */
/*
 * The two halves of the plugin `windows`: windows.c talks to QEMU and says what each instruction is,
 * windows_follow.c follows what each vCPU executes, and keeps what it finds.
 */
#ifndef ONESTACK_PLUGINS_WINDOWS_H
#define ONESTACK_PLUGINS_WINDOWS_H

#include <stdbool.h>
#include <stdint.h>

enum mark { NO_MARK, IRQ, TRAP, EXCUSED, OUTERMOST, RESTART, RECORD, LOOK, PATH, STOP, MARKS };

/* What an instruction does to IF once it has been executed; a hlt to nobody's IF, but it waits. */
enum effect { NOTHING, CLI, STI, PUSHF, POPF, IRET, LRET, SYSRET, HLT };

/* What is known of an instruction when it is translated. Never freed: its code may come again. */
struct about {
    uint64_t address, next;
    enum mark mark;
    enum effect effect;
};

/* False: the file for what is found cannot be made. */
bool follow_start(const char *name);
/* Before each instruction of the kernel (`data` is its struct about), and of user code. */
void follow_kernel(unsigned number, void *data);
void follow_user(unsigned number, void *data);

#endif
