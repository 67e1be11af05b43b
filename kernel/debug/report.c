/* SPDX-License-Identifier: MIT */
#include "kernel/debug/report.h"

#include "kernel/arch/clock.h"
#include "kernel/arch/entry.h"
#include "kernel/arch/lapic.h"
#include "kernel/debug/ksyms.h"
#include "kernel/debug/print.h"
#include "kernel/lib/cache_line.h"

#define BACKTRACE_MAX 24
#define ANSWER_NS     50000000ULL
#define ANSWER_POLLS  1000 /* at least: a clock that jumps must not end the wait */

extern const char __text_start[], __text_end[];

static const char *const state_names[] = {"user",   "parmchk", "syscall", "ipc",
                                          "contin", "intr",    "idle"};

const char *state_name(unsigned state)
{
    return state < sizeof(state_names) / sizeof(state_names[0]) ? state_names[state] : "?";
}

static bool in_text(uint64_t address)
{
    return address >= (uint64_t)__text_start && address < (uint64_t)__text_end;
}

void print_code(const char *label, uint64_t address)
{
    struct ksym symbol;

    ksym_lookup(address, &symbol);
    kprintf("%s %p %s+0x%lx\n", label, (void *)address, symbol.name, symbol.offset);
}

void print_registers(const struct frame *r, uint64_t cr3)
{
    kprintf("  rax %p rbx %p rcx %p rdx %p\n", (void *)r->rax, (void *)r->rbx, (void *)r->rcx,
            (void *)r->rdx);
    kprintf("  rsi %p rdi %p rbp %p rsp %p\n", (void *)r->rsi, (void *)r->rdi, (void *)r->rbp,
            (void *)r->rsp);
    kprintf("  r8  %p r9  %p r10 %p r11 %p\n", (void *)r->r8, (void *)r->r9, (void *)r->r10,
            (void *)r->r11);
    kprintf("  r12 %p r13 %p r14 %p r15 %p\n", (void *)r->r12, (void *)r->r13, (void *)r->r14,
            (void *)r->r15);
    kprintf("  rflags %lx cs %lx cr3 %lx\n", r->rflags, r->cs, cr3);
}

/* ---- the stack ---- */

/* Does a call end just before `address`? Only then is a word on the stack a return address. */
static bool after_call(uint64_t address)
{
    const uint8_t *code = (const uint8_t *)address;

    if (!in_text(address - 7) || !in_text(address)) {
        return false;
    }
    return code[-5] == 0xe8 || code[-2] == 0xff || code[-3] == 0xff || code[-7] == 0xff;
}

/* The end of the core's stack that `rsp` lies in, 0 = in none: nothing else may be read. */
static uint64_t stack_end(const struct core *core, uint64_t rsp)
{
    uint64_t offset = rsp - (uint64_t)core;

    for (unsigned stack = 0; stack < CORE_STACKS && rsp % 8 == 0; stack++) {
        if (offset >= CORE_STACK_BASE(stack) && offset < CORE_STACK_TOP(stack)) {
            return (uint64_t)core + CORE_STACK_TOP(stack) - 8;
        }
    }
    return 0;
}

/*
 * The kernel has no frame pointers in release builds, so this takes every word of the stack that
 * follows a call: complete, at times with a stale one. The harness unwinds by DWARF.
 */
static unsigned find_calls(const struct core *core, uint64_t rsp, uint64_t *calls, unsigned most)
{
    uint64_t end = stack_end(core, rsp);
    unsigned count = 0;

    for (; rsp < end && count < most; rsp += 8) {
        uint64_t word = *(const uint64_t *)rsp;

        if (after_call(word)) {
            calls[count++] = word;
        }
    }
    return count;
}

static void print_calls(const uint64_t *calls, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        print_code("  from", calls[i]);
    }
}

void print_backtrace(const struct core *core, uint64_t rsp)
{
    uint64_t calls[BACKTRACE_MAX];

    if (!stack_end(core, rsp)) {
        kprintf("  stack pointer %p is on no stack of the core\n", (void *)rsp);
    }
    print_calls(calls, find_calls(core, rsp, calls, BACKTRACE_MAX));
}

/* ---- snapshots ---- */

static uint32_t requests SHARED; /* how many there have been */

uint32_t snapshot_request(void)
{
    return __atomic_add_fetch(&requests, 1, __ATOMIC_ACQ_REL);
}

void snapshot_ask(struct core *other, uint32_t why)
{
    __atomic_fetch_or(&other->shared.nmi_reasons, why, __ATOMIC_ACQ_REL);
    lapic_send_nmi((uint8_t)other->shared.lapic_id);
}

/* One that struck user mode may be interrupted here by the next, whose answer is the better one. */
void snapshot_take(struct core *core, const struct frame *registers, unsigned nest, unsigned state)
{
    uint32_t number = __atomic_load_n(&requests, __ATOMIC_ACQUIRE);
    struct snapshot *snapshot = &core->snapshot;

    snapshot->nest = (uint8_t)nest;
    snapshot->state = (uint8_t)state;
    snapshot->pending = core->pending;
    snapshot->thread = entry_current(core);
    snapshot->cr3 = read_cr3();
    snapshot->registers = *registers;
    snapshot->call_count = 0;
    if ((registers->cs & 3) == 0) {
        snapshot->call_count = (uint8_t)find_calls(core, registers->rsp, snapshot->calls,
                                                   SNAPSHOT_CALLS);
    }
    if (!snapshot_taken(core, number)) {
        __atomic_store_n(&snapshot->number, number, __ATOMIC_RELEASE);
    }
}

bool snapshot_taken(const struct core *core, uint32_t number)
{
    return (int32_t)(__atomic_load_n(&core->snapshot.number, __ATOMIC_ACQUIRE) - number) >= 0;
}

bool snapshot_wait(const struct core *core, uint32_t number)
{
    uint64_t start = clock_now(), limit = clock_from_ns(ANSWER_NS);

    for (unsigned polls = 0; !snapshot_taken(core, number); polls++) {
        if (polls > ANSWER_POLLS && clock_now() - start > limit) {
            return false;
        }
        __builtin_ia32_pause();
    }
    return true;
}

void print_snapshot(const struct core *core)
{
    const struct snapshot *snapshot = &core->snapshot;

    kprintf("  core %u nest %u state %s pending 0x%x thread %p\n", core->id, snapshot->nest,
            state_name(snapshot->state), snapshot->pending, (void *)snapshot->thread);
    print_code("  at", snapshot->registers.rip);
    print_registers(&snapshot->registers, snapshot->cr3);
    print_calls(snapshot->calls, snapshot->call_count);
}
