/* SPDX-License-Identifier: MIT */
#include "kernel/debug/panic.h"

#include "kernel/arch/cpu.h"
#include "kernel/arch/debug_exit.h"
#include "kernel/arch/entry.h"
#include "kernel/arch/smp.h"
#include "kernel/debug/print.h"
#include "kernel/debug/report.h"
#include "kernel/debug/trace.h"
#include "kernel/events.h"
#include "kernel/lib/cache_line.h"

#define LAST_EVENTS 8 /* of the trace ring, for each core */

static uint32_t panicking SHARED; /* 1 + the core that does */
static uint32_t stop_number;
static uint64_t asked; /* bit n: core n, to stop */

_Noreturn void panic_stop_here(struct core *core, const struct frame *regs, unsigned nest,
                               unsigned state)
{
    /* One that had come to a panic of its own has said where. */
    if (!snapshot_taken(core, stop_number)) {
        snapshot_take(core, regs, nest, state);
    }
    core->online = 0;
    halt_forever();
}

/*
 * All others, wherever they are, whatever their IF says, before the first word: they may be writing too.
 * They leave snapshots.
 */
static void stop_others(const struct core *core)
{
    asked = smp_online() & ~(1ULL << core->id);
    __atomic_store_n(&stop_number, snapshot_request(), __ATOMIC_RELEASE);
    for (uint64_t left = asked; left; left &= left - 1) {
        snapshot_ask(core_at((unsigned)__builtin_ctzll(left)), NMI_REASON_STOP);
    }
    for (uint64_t left = asked; left; left &= left - 1) {
        (void)snapshot_wait(core_at((unsigned)__builtin_ctzll(left)), stop_number);
    }
}

/* One core speaks; whoever comes second, from another core or from this report, stays silent. */
static void claim(struct core *core, const struct frame *regs, unsigned state)
{
    uint32_t nobody = 0;

    cpu_cli();
    if (!__atomic_compare_exchange_n(&panicking, &nobody, core->id + 1u, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED)) {
        if (nobody == core->id + 1u) {
            kprintf("panic: again, while reporting\npanic: end\n");
            debug_exit(EXIT_PANIC);
        }
        /* NMIs may be held back here, so do not wait for the one that says stop. */
        while (!__atomic_load_n(&stop_number, __ATOMIC_ACQUIRE)) {
            __builtin_ia32_pause();
        }
        panic_stop_here(core, regs, core->nest, state);
    }
    stop_others(core);
}

static void report_others(void)
{
    for (uint64_t left = asked; left; left &= left - 1) {
        const struct core *other = core_at((unsigned)__builtin_ctzll(left));

        kprintf("panic: meanwhile on core %u\n", other->id);
        if (snapshot_taken(other, stop_number)) {
            print_snapshot(other);
        } else {
            kprintf("  core %u does not answer an NMI\n", other->id);
        }
        trace_print(other, LAST_EVENTS);
    }
}

static _Noreturn void finish(struct core *core, uint64_t rsp, unsigned state)
{
    kprintf("  core %u nest %u state %s pending 0x%x thread %p\n", core->id, core->nest,
            state_name(state), core->pending, (void *)entry_current(core));
    kprintf("  nmi %lu/%lu irq %lu breakpoints %lu\n", core->nmi_worked, core->nmi_count,
            core->irq_count, core->breakpoints);
    print_backtrace(core, rsp);
    trace_print(core, LAST_EVENTS);
    report_others();
    kprintf("panic: end\n");
    debug_exit(EXIT_PANIC);
    halt_forever();
}

_Noreturn void panic(const char *format, ...)
{
    struct core *core = core_here();
    struct frame here = {
        .rip = (uint64_t)__builtin_return_address(0),
        .rsp = (uint64_t)__builtin_frame_address(0),
        .cs = KERNEL_CS,
    };
    va_list arguments;

    claim(core, &here, core->state);
    kprintf("panic: ");
    va_start(arguments, format);
    kvprintf(format, arguments);
    va_end(arguments);
    kprintf("\n");
    finish(core, here.rsp, core->state);
}

_Noreturn void panic_trap(struct core *core, unsigned trapno, uint32_t errcode,
                          const struct frame *regs, uint64_t cr2, unsigned state)
{
    claim(core, regs, state);
    kprintf("panic: exception %u error 0x%x address %p\n", trapno, errcode, (void *)cr2);
    print_code("  at", regs->rip);
    print_registers(regs, read_cr3());
    finish(core, regs->rsp, state);
}

_Noreturn void panic_double_fault(struct core *core, const struct frame *regs)
{
    uint64_t base = (uint64_t)core + CORE_STACK_BASE(STACK_KERNEL);
    bool overflow = regs->rsp <= base && regs->rsp > base - PAGE_SIZE;

    claim(core, regs, core->state);
    kprintf("panic: %s\n", overflow ? "kernel stack overflow" : "double fault");
    print_code("  at", regs->rip);
    print_registers(regs, read_cr3());
    finish(core, overflow ? base : regs->rsp, core->state);
}
