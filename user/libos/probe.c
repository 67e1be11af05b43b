/* SPDX-License-Identifier: MIT */
#include "user/libos/probe.h"

#include <stdbool.h>
#include <stddef.h>

#include "user/libos/print.h"
#include "user/libos/start.h"

#define GENERAL_COUNT 15
#define FLAGS_WATCHED 0xcd5u /* CF PF AF ZF SF DF OF */
#define FLAGS_FIXED   0x202u /* IF and bit 1, as popfq finds them anyway */
#define MXCSR_DEFAULT 0x1f80u
#define KERNEL_HALF   0xffff800000000000UL

/* probe_run.S */
_Static_assert(offsetof(struct probe, out) == 416, "OUT");
_Static_assert(offsetof(struct probe, site) == 832, "SITE");
_Static_assert(offsetof(struct probe, stack) == 840, "STACK");
_Static_assert(offsetof(struct probe, old_fs) == 848, "OLD_FS");
_Static_assert(offsetof(struct probe, old_gs) == 856, "OLD_GS");
_Static_assert(offsetof(struct probe, spins) == 864, "SPINS");
_Static_assert(offsetof(struct probe, address) == 872, "ADDRESS");
_Static_assert(offsetof(struct probe_registers, rsp) == 8 * GENERAL_COUNT, "RSP_AT");
_Static_assert(offsetof(struct probe_registers, xmm) == 160, "XMM_AT");

void probe_load_and_go(void);

struct probe probe;
static uint64_t probe_stack[1024] __attribute__((aligned(16)));

static const char *const names[GENERAL_COUNT] = {
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10",
    "r9",  "r8",  "rdi", "rsi", "rdx", "rcx", "rax",
};

/* A system call may change these. */
static bool lost_by_syscall(unsigned index)
{
    return index >= 6;
}

static bool is_word(unsigned index)
{
    return index < 6;
}

/* Spread a small number over 64 bits (the finaliser of splitmix64). */
static uint64_t mix(uint64_t x)
{
    x = (x + 1) * 0x9e3779b97f4a7c15UL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9UL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebUL;
    return x ^ (x >> 31);
}

void probe_fill(uint64_t seed)
{
    uint64_t *general = &probe.in.r15;

    for (unsigned i = 0; i < GENERAL_COUNT; i++) {
        general[i] = mix(seed + i) & ~KERNEL_HALF;
    }
    for (unsigned i = 0; i < 32; i++) {
        probe.in.xmm[i / 2][i % 2] = mix(seed + 100 + i);
    }
    probe.in.rsp = (uint64_t)(probe_stack + 1024) - 64;
    probe.in.rflags = (mix(seed + 50) & FLAGS_WATCHED) | FLAGS_FIXED;
    probe.in.fs_base = mix(seed + 51) & ~KERNEL_HALF;
    probe.in.gs_base = mix(seed + 52) & ~KERNEL_HALF;
    /* Rounding and flush bits; the exceptions stay masked. */
    probe.in.mxcsr = MXCSR_DEFAULT | (mix(seed + 53) & 0xe000u);
}

void probe_run(void (*site)(void))
{
    probe.site = (uint64_t)site;
    probe_load_and_go();
}

static unsigned differ(const char *what, const char *name, uint64_t was, uint64_t is)
{
    if (was == is) {
        return 0;
    }
    printf("%s: %s: %s was 0x%lx, is 0x%lx\n", own.arguments, what, name, was, is);
    return 1;
}

static unsigned check_general(unsigned rules, const char *what)
{
    const uint64_t *was = &probe.in.r15, *is = &probe.out.r15;
    unsigned count = 0;

    for (unsigned i = 0; i < GENERAL_COUNT; i++) {
        if (!(rules & PROBE_ALL) && lost_by_syscall(i)) {
            /* rax and rdx are results: an error is negative and no address. */
            bool leaks = is[i] >= KERNEL_HALF && is[i] < -4096UL && is[i] != was[i];
            count += leaks ? differ(what, "a kernel value in a scratch register", 0, is[i]) : 0;
        } else if (!((rules & PROBE_WORDS) && is_word(i))) {
            count += differ(what, names[i], was[i], is[i]);
        }
    }
    return count;
}

static unsigned check_vectors(const char *what)
{
    unsigned count = 0;

    for (unsigned i = 0; i < 16; i++) {
        count += differ(what, "a low half of an xmm register", probe.in.xmm[i][0],
                        probe.out.xmm[i][0]);
        count += differ(what, "a high half of an xmm register", probe.in.xmm[i][1],
                        probe.out.xmm[i][1]);
    }
    return count + differ(what, "mxcsr", probe.in.mxcsr, probe.out.mxcsr);
}

unsigned probe_check(unsigned rules, const char *what)
{
    unsigned count = check_general(rules, what) + check_vectors(what);

    if (!(rules & PROBE_FLAGS)) {
        count += differ(what, "rflags", probe.in.rflags & FLAGS_WATCHED,
                        probe.out.rflags & FLAGS_WATCHED);
    }
    count += differ(what, "rsp", probe.in.rsp, probe.out.rsp);
    count += differ(what, "fs base", probe.in.fs_base, probe.out.fs_base);
    return count + differ(what, "gs base", probe.in.gs_base, probe.out.gs_base);
}
