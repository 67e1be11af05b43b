/* SPDX-License-Identifier: MIT */
/* The processes: started from the programs that init carries, ended, waited for. */
#ifndef ONESTACK_INIT_TABLE_H
#define ONESTACK_INIT_TABLE_H

#include <stdbool.h>

#include "user/libos/init.h"
#include "user/libos/process.h"

#define PROCESSES    32 /* one bit of a notification each, at most 63: power.h has one */
#define WAITERS      4  /* for each process */
#define INIT_PROCESS 1  /* init's own number; the others count on from there */

struct entry {
    uint32_t number; /* 0: never used */
    uint32_t parent; /* who had it started; only that one and it itself may end it */
    bool alive;
    int status; /* once it has ended */
    uint32_t priority;
    char name[PROCESS_NAME + 1];
    struct process process;
    cap_t waiters[WAITERS]; /* reply capabilities */
};

/* NULL if there is none of that number, or it has ended and its row was used again. */
struct entry *table_find(uint32_t number);
/* In the order they are kept, living ones only; NULL past the last. */
struct entry *table_at(uint32_t index);
/*
 * Start a program: `strings` are `bytes` long, each with its NUL. `serve` is the receiving end of
 * an endpoint for a server, or 0. Its number, or an error.
 */
int64_t table_spawn(uint32_t parent, cap_t init_endpoint, cap_t console, const char *strings,
                    size_t bytes, cap_t serve);
/* The name of the index-th program that init carries; NULL past the last. */
const char *table_program(uint64_t index);
/* End it, tell who waits for it. */
void table_end(struct entry *entry, int status);
/* Have `notification` say, by a bit for each row, whose space has ended by itself. */
int64_t table_watch(cap_t notification);
/* The next process that ended so, its bit taken out of `bits`; NULL when there are no more. */
struct entry *table_ended(uint64_t *bits);

#endif
