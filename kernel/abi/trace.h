/* SPDX-License-Identifier: MIT */
/*
 * The trace ring of a core, as the harness reads it out of memory: `trace_rings[core]` points to a
 * header that describes itself, with the records behind it. Times are in ticks of the TSC.
 */
#ifndef ONESTACK_ABI_TRACE_H
#define ONESTACK_ABI_TRACE_H

#include <stdint.h>

#define TRACE_MAGIC 0x454341525453454fULL /* "OESTRACE" */

enum trace_kind {
    TRACE_NONE,    /* the record is being written */
    TRACE_SYSCALL, /* what = number, value = first argument */
    TRACE_IRQ,     /* what = vector */
    TRACE_TRAP,    /* what = vector, value = the instruction's address */
    TRACE_IST,     /* the same, of NMI, #MC, #DB from ring 0 */
    TRACE_RETURN,  /* from a nested IRQ, trap or IST entry */
    TRACE_EXIT,    /* to user mode: thread, value = its instruction's address */
    TRACE_IDLE,    /* nobody to run */
    TRACE_IPI,     /* inside an entry: an interrupt to another core. what = vector, value = core */
    TRACE_WAKE     /* inside an entry: a thread of another core is to go on. value = its TCB */
};

struct trace_record {
    uint64_t time;
    uint64_t thread; /* the TCB that is current */
    uint64_t value;
    uint16_t what;
    uint8_t kind; /* enum trace_kind; written last */
    uint8_t nest; /* core_nest and core_state as they are inside the entry */
    uint8_t state;
    uint8_t pending;
    uint16_t spare;
};

struct trace_ring {
    uint64_t magic;
    uint32_t record_bytes;
    uint32_t records; /* how many there is room for */
    uint64_t next;    /* how many were begun: record i lies at i % records */
    uint64_t hz;      /* address of the frequency of `time`, which is measured later */
    uint64_t calls;   /* address of a table of the system calls' functions */
    uint64_t call_count;
    uint64_t idle_thread; /* current while nobody runs */
    uint64_t spare;
    struct trace_record record[];
};

_Static_assert(sizeof(struct trace_record) == 32, "read from outside");
_Static_assert(sizeof(struct trace_ring) == 64, "read from outside");

#endif
