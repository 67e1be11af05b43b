/* SPDX-License-Identifier: MIT */
/*
 * What init does for the others, and the client side of it. Word 0 of each answer is a value or a
 * negative error; the endpoint's badge tells init who asks.
 *
 *   label       words in            bytes in              words out
 *   INIT_EXIT   0 status                                  (no answer: the asker is gone)
 *   INIT_SPAWN                      strings, name first   0 the new process's number
 *   INIT_WAIT   0 process                                 0 its status, when it has ended
 *   INIT_END    0 process                                 0; E_RIGHTS unless it is one's own child, or oneself
 *   INIT_LIST   0 index                                   0 process (or E_INVAL: no more),
 *                                                         1 CPU time in ns, 2 priority, 3-5 name
 *   INIT_POWER  0 enum power                              (no answer, or an error)
 *   INIT_NMI_DUMP  0 on or off                            0
 *   INIT_PROGRAM   0 index                                0 (or E_INVAL: no more), 1-3 name
 */
#ifndef ONESTACK_LIBOS_INIT_H
#define ONESTACK_LIBOS_INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum init_label {
    INIT_EXIT = 1,
    INIT_SPAWN,
    INIT_WAIT,
    INIT_END,
    INIT_LIST,
    INIT_POWER,
    INIT_NMI_DUMP,
    INIT_PROGRAM
};

enum power { POWER_OFF, POWER_OFF_FAILED, POWER_RESET, POWER_PANIC };

/* A process that a fault ended has this and the exception's vector as its status. */
#define STATUS_FAULT         128
#define STATUS_MACHINE_CHECK (STATUS_FAULT + 18)
#define STATUS_ENDED         255 /* by INIT_END */

#define PROCESS_NAME 24 /* bytes, a NUL at the end only if there is room */

struct process_row {
    uint32_t process;
    uint32_t priority;
    uint64_t cpu_time; /* nanoseconds */
    char name[PROCESS_NAME + 1];
};

void init_exit(int status);
/* Start a program; `strings` are its arguments, each with its NUL, the first its name. */
int64_t init_spawn(const char *strings, size_t bytes);
int64_t init_wait(uint32_t process);
int64_t init_end(uint32_t process);
/* The index-th program that can be started, into `name` of PROCESS_NAME + 1 bytes; E_INVAL past the last. */
int64_t init_program(uint32_t index, char *name);
/* The index-th process; E_INVAL past the last. */
int64_t init_list(uint32_t index, struct process_row *row);
int64_t init_power(enum power power);
/* From now on (or no more) the NMI button has each core's state printed. */
int64_t init_nmi_dump(bool on);

#endif
