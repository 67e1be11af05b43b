/* SPDX-License-Identifier: MIT */
#include "kernel/debug/panic.h"

#include "kernel/arch/cpu.h"
#include "kernel/arch/debug_exit.h"
#include "kernel/arch/entry.h"
#include "kernel/debug/ksyms.h"
#include "kernel/debug/print.h"
#include "kernel/events.h"

#define BACKTRACE_MAX 24

extern const char __text_start[], __text_end[];

static const char *const state_names[] = {"user",   "parmchk", "syscall", "ipc",
                                          "contin", "intr",    "idle"};
static uint32_t panicking; /* 1 + the core that does */

static const char *state_name(unsigned state)
{
    return state < sizeof(state_names) / sizeof(state_names[0]) ? state_names[state] : "?";
}

static bool in_text(uint64_t address)
{
    return address >= (uint64_t)__text_start && address < (uint64_t)__text_end;
}

static void print_code(const char *label, uint64_t address)
{
    uint64_t offset = 0;
    const char *name = ksym_lookup(address, &offset);

    kprintf("%s %p %s+0x%lx\n", label, (void *)address, name ? name : "?", offset);
}

/* Does a call end just before `address`? Only then is a word on the stack a return address. */
static bool after_call(uint64_t address)
{
    const uint8_t *code = (const uint8_t *)address;

    if (!in_text(address - 7) || !in_text(address)) {
        return false;
    }
    return code[-5] == 0xe8 || code[-2] == 0xff || code[-3] == 0xff || code[-7] == 0xff;
}

/*
 * The kernel has no frame pointers in release builds, so this shows every word of the stack that
 * follows a call: complete, at times with a stale one. The harness unwinds by DWARF.
 */
static void backtrace(uint64_t rsp)
{
    uint64_t top = rsp | (STACK_SIZE - 1);
    unsigned shown = 0;

    if (rsp < CORE_AREA_BASE || rsp % 8 != 0) {
        kprintf("  stack pointer %p is on no stack of a core\n", (void *)rsp);
        return;
    }
    for (; rsp < top && shown < BACKTRACE_MAX; rsp += 8) {
        uint64_t word = *(const uint64_t *)rsp;

        if (after_call(word)) {
            print_code("  from", word);
            shown++;
        }
    }
}

static void print_registers(const struct frame *r)
{
    kprintf("  rax %p rbx %p rcx %p rdx %p\n", (void *)r->rax, (void *)r->rbx, (void *)r->rcx,
            (void *)r->rdx);
    kprintf("  rsi %p rdi %p rbp %p rsp %p\n", (void *)r->rsi, (void *)r->rdi, (void *)r->rbp,
            (void *)r->rsp);
    kprintf("  r8  %p r9  %p r10 %p r11 %p\n", (void *)r->r8, (void *)r->r9, (void *)r->r10,
            (void *)r->r11);
    kprintf("  r12 %p r13 %p r14 %p r15 %p\n", (void *)r->r12, (void *)r->r13, (void *)r->r14,
            (void *)r->r15);
    kprintf("  rflags %lx cs %lx cr3 %lx\n", r->rflags, r->cs, read_cr3());
}

/* One core speaks; whoever comes second, from another core or from this report, stays silent. */
static void claim(struct core *core)
{
    uint32_t nobody = 0;

    cpu_cli();
    if (!__atomic_compare_exchange_n(&panicking, &nobody, core->id + 1u, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED)) {
        if (nobody == core->id + 1u) {
            kprintf("panic: again, while reporting\npanic: end\n");
            debug_exit(EXIT_PANIC);
        }
        halt_forever();
    }
}

static _Noreturn void finish(struct core *core, uint64_t rsp, unsigned state)
{
    kprintf("  core %u nest %u state %s pending 0x%x thread %p\n", core->id, core->nest,
            state_name(state), core->pending, (void *)entry_current(core));
    kprintf("  nmi %lu/%lu irq %lu breakpoints %lu\n", core->nmi_worked, core->nmi_count,
            core->irq_count, core->breakpoints);
    backtrace(rsp);
    kprintf("panic: end\n");
    debug_exit(EXIT_PANIC);
    halt_forever();
}

_Noreturn void panic(const char *format, ...)
{
    struct core *core = core_here();
    va_list arguments;

    claim(core);
    kprintf("panic: ");
    va_start(arguments, format);
    kvprintf(format, arguments);
    va_end(arguments);
    kprintf("\n");
    finish(core, (uint64_t)__builtin_frame_address(0), core->state);
}

_Noreturn void panic_trap(struct core *core, unsigned trapno, uint32_t errcode,
                          const struct frame *regs, uint64_t cr2, unsigned state)
{
    claim(core);
    kprintf("panic: exception %u error 0x%x address %p\n", trapno, errcode, (void *)cr2);
    print_code("  at", regs->rip);
    print_registers(regs);
    finish(core, regs->rsp, state);
}

_Noreturn void panic_double_fault(struct core *core, const struct frame *regs)
{
    uint64_t base = (uint64_t)core + CORE_STACK_BASE(STACK_KERNEL);
    bool overflow = regs->rsp <= base && regs->rsp > base - PAGE_SIZE;

    claim(core);
    kprintf("panic: %s\n", overflow ? "kernel stack overflow" : "double fault");
    print_code("  at", regs->rip);
    print_registers(regs);
    finish(core, overflow ? base : regs->rsp, core->state);
}

_Noreturn void panic_stop_here(struct core *core)
{
    core->online = 0;
    halt_forever();
}
