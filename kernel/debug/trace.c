/* SPDX-License-Identifier: MIT */
#include "kernel/debug/trace.h"

#include "kernel/abi/trace.h"
#include "kernel/arch/clock.h"
#include "kernel/arch/entry.h"
#include "kernel/arch/lapic.h"
#include "kernel/debug/print.h"
#include "kernel/debug/report.h"
#include "kernel/lib/string.h"
#include "kernel/mail.h"
#include "kernel/mm/kmem.h"
#include "kernel/obj/quota.h"
#include "kernel/syscall.h"

#define RING_ORDER   5 /* 128 KiB a core */
#define RING_BYTES   ((uint64_t)PAGE_SIZE << RING_ORDER)
#define RING_RECORDS ((RING_BYTES - sizeof(struct trace_ring)) / sizeof(struct trace_record))

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define CALL_BYTES 5 /* e8, or e9 of a call that comes last, and a distance */
#define CALL       0xe8
#define JUMP       0xe9

extern uint8_t __text_start[], __text_end[], __entry_start[], __entry_end[];
extern const struct restart_window __windows_start[], __windows_end[];
extern void *const syscall_fast[256];
/* trace_hooks.S */
void trace_syscall_hook(void);
void trace_exit_hook(void);

struct trace_ring *trace_rings[MAX_CORES]; /* the harness finds them by this name */
static bool on;

/* For the names: the harness symbolises them. */
static int64_t (*const calls[])(struct core *, struct thread *) = {
#define SYSCALL(number, name, kind, args, text) [number] = sys_##name,
#include "kernel/abi/syscalls.def"
#undef SYSCALL
};

/*
 * In any context, NMI included: one instruction takes the record, and nobody else has it until the
 * ring has come round. `kind` is written last, so a record that was interrupted shows as none.
 */
static void record(struct core *core, enum trace_kind kind, unsigned what, uint64_t value)
{
    struct trace_ring *ring = trace_rings[core->id];
    uint64_t mine = 1;

    if (!ring) {
        return;
    }
    __asm__ volatile("xaddq %0, %1" : "+r"(mine), "+m"(ring->next));
    struct trace_record *r = &ring->record[mine % RING_RECORDS];
    __atomic_store_n(&r->kind, TRACE_NONE, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    r->time = clock_now();
    r->thread = (uint64_t)entry_current(core);
    r->value = value;
    r->what = (uint16_t)what;
    r->nest = core->nest;
    r->state = core->state;
    r->pending = core->pending;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&r->kind, (uint8_t)kind, __ATOMIC_RELAXED);
}

/* ---- what the entry code calls instead of trap.c's functions ---- */

static void traced_kintr_handler(struct core *core, unsigned inum, unsigned nested)
{
    record(core, TRACE_IRQ, inum, 0);
    kintr_handler(core, inum, nested);
    if (nested) {
        record(core, TRACE_RETURN, inum, 0);
    }
}

static void traced_kintr_user(struct core *core, unsigned inum)
{
    record(core, TRACE_IRQ, inum, 0);
    kintr_user(core, inum);
}

static void traced_ktrap_user(struct core *core, unsigned trapno, uint32_t errcode,
                              struct frame *regs, uint64_t cr2)
{
    record(core, TRACE_TRAP, trapno, regs->rip);
    ktrap_user(core, trapno, errcode, regs, cr2);
}

static void traced_ktrap_kernel(struct core *core, unsigned trapno, uint32_t errcode,
                                struct frame *regs, uint64_t cr2, unsigned state)
{
    record(core, TRACE_TRAP, trapno, regs->rip);
    ktrap_kernel(core, trapno, errcode, regs, cr2, state);
    record(core, TRACE_RETURN, trapno, 0);
}

static void traced_kist_kernel(struct core *core, struct frame *regs, unsigned vector, uint64_t dr7,
                               unsigned state)
{
    record(core, TRACE_IST, vector, regs->rip);
    kist_kernel(core, regs, vector, dr7, state);
    record(core, TRACE_RETURN, vector, 0);
}

void trace_call(struct core *core, unsigned number, uint64_t argument)
{
    record(core, TRACE_SYSCALL, number, argument);
}

void trace_leave(struct core *core)
{
    struct thread *thread = entry_current(core);

    if (thread == &core->dummy) {
        record(core, TRACE_IDLE, 0, 0);
    } else {
        record(core, TRACE_EXIT, 0, thread->frame.rip);
    }
}

/* ---- what everybody calls instead of what reaches other cores ---- */

/* Recorded before, so that on any clock that all cores share it comes before its interrupt. */
static void traced_lapic_send(uint8_t to, uint8_t vector)
{
    void (*send)(uint8_t, uint8_t) = lapic_send;
    unsigned id = 0;

    while (id < MAX_CORES && (!trace_rings[id] || core_at(id)->shared.lapic_id != to)) {
        id++;
    }
    record(core_here(), TRACE_IPI, vector, id);
    __asm__("" : "+r"(send)); /* a plain call would be replaced too */
    send(to, vector);
}

static void traced_mail_post(struct thread *thread, uint32_t message)
{
    void (*post)(struct thread *, uint32_t) = mail_post;

    if (message & (MAIL_WAKE | MAIL_FAIL | MAIL_END | MAIL_ARRIVE)) {
        record(core_here(), TRACE_WAKE, 0, (uint64_t)thread);
    }
    __asm__("" : "+r"(post)); /* likewise */
    post(thread, message);
}

/* ---- a panic's last words ---- */

static const char *const kind_names[] = {"none",   "syscall", "irq",  "trap", "ist",
                                         "return", "exit",    "idle", "ipi",  "wake"};

void trace_print(const struct core *core, unsigned most)
{
    const struct trace_ring *ring = trace_rings[core->id];
    uint64_t next = ring ? ring->next : 0, now = clock_now();

    if (!ring) {
        return;
    }
    for (uint64_t i = next > most ? next - most : 0; i < next; i++) {
        const struct trace_record *r = &ring->record[i % RING_RECORDS];
        unsigned kind = r->kind < COUNT(kind_names) ? r->kind : 0;

        kprintf("  trace core %u: %lu ns ago %s %u %p nest %u state %s thread %p\n", core->id,
                clock_to_ns(now - r->time), kind_names[kind], r->what, (void *)r->value, r->nest,
                state_name(r->state), (void *)r->thread);
    }
}

/* ---- putting them in ---- */

struct replaced {
    void *plain, *traced;
};

static const struct replaced entry_calls[] = {
    {(void *)kintr_handler, (void *)traced_kintr_handler},
    {(void *)kintr_user, (void *)traced_kintr_user},
    {(void *)ktrap_user, (void *)traced_ktrap_user},
    {(void *)ktrap_kernel, (void *)traced_ktrap_kernel},
    {(void *)kist_kernel, (void *)traced_kist_kernel},
};
static const struct replaced cross_calls[] = {
    {(void *)lapic_send, (void *)traced_lapic_send},
    {(void *)mail_post, (void *)traced_mail_post},
};

static void put_branch(uint8_t *at, uint8_t opcode, const void *target)
{
    int32_t distance = (int32_t)((const uint8_t *)target - (at + CALL_BYTES));

    at[0] = opcode;
    memcpy(at + 1, &distance, sizeof(distance));
}

/* All calls between two addresses to a function of the list. False: one of them has none. */
static bool replace_calls(uint8_t *from, const uint8_t *to, const struct replaced *list,
                          unsigned length)
{
    unsigned found = 0;

    for (uint8_t *at = from; at + CALL_BYTES <= to; at++) {
        int32_t distance;

        if (at[0] != CALL && at[0] != JUMP) {
            continue;
        }
        memcpy(&distance, at + 1, sizeof(distance));
        for (unsigned i = 0; i < length; i++) {
            if (at + CALL_BYTES + distance == list[i].plain) {
                put_branch(at, at[0], list[i].traced);
                found |= 1U << i;
                break;
            }
        }
    }
    return found == (1U << length) - 1;
}

/* The one `call *syscall_fast(, %rax, 8)`. */
static bool replace_syscall(void)
{
    uint32_t table = (uint32_t)(uint64_t)syscall_fast;

    for (uint8_t *at = __entry_start; at + 7 <= __entry_end; at++) {
        if (at[0] == 0xff && at[1] == 0x14 && at[2] == 0xc5 && memcmp(at + 3, &table, 4) == 0) {
            put_branch(at, CALL, (void *)trace_syscall_hook);
            at[5] = 0x66; /* a nop of two bytes */
            at[6] = 0x90;
            return true;
        }
    }
    return false;
}

/*
 * Each window begins with `mov STACK_CORE(%rsp), %rdi`, or with `cmpb $0, N(%rsp)` of eight bytes. What
 * the hook does comes before the check.
 */
static bool replace_windows(void)
{
    static const uint8_t load[CALL_BYTES] = {0x48, 0x8b, 0x7c, 0x24, 0x08};
    static const uint8_t compare[] = {0x80, 0xbc, 0x24}, nop[] = {0x0f, 0x1f, 0x00};

    for (const struct restart_window *w = __windows_start; w < __windows_end; w++) {
        uint8_t *at = (uint8_t *)w->first;

        if (memcmp(at, compare, sizeof(compare)) == 0) {
            memcpy(at + CALL_BYTES, nop, sizeof(nop));
        } else if (memcmp(at, load, sizeof(load)) != 0) {
            return false;
        }
        put_branch(at, CALL, (void *)trace_exit_hook);
    }
    return true;
}

bool trace_init(bool wanted)
{
    on = wanted;
    return !wanted || (replace_calls(__entry_start, __entry_end, entry_calls, COUNT(entry_calls)) &&
                       replace_calls(__text_start, __text_end, cross_calls, COUNT(cross_calls)) &&
                       replace_syscall() && replace_windows());
}

void trace_core_init(struct core *core)
{
    uint64_t physical = on ? frame_alloc(&root_quota, RING_ORDER) : 0;

    if (physical) {
        struct trace_ring *ring = phys_to_virt(physical);

        ring->magic = TRACE_MAGIC;
        ring->record_bytes = sizeof(struct trace_record);
        ring->records = RING_RECORDS;
        ring->calls = (uint64_t)calls;
        ring->call_count = COUNT(calls);
        ring->idle_thread = (uint64_t)&core->dummy;
        ring->hz = (uint64_t)&machine_clock.tsc_hz;
        trace_rings[core->id] = ring;
    }
}
