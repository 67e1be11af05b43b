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

/* What a check says and where it counts. */
struct verdict {
    unsigned rules;
    const char *what;
    unsigned differences;
};

static void compare(struct verdict *verdict, const char *name, uint64_t was, uint64_t is)
{
    if (was == is) {
        return;
    }
    verdict->differences++;
    if (!(verdict->rules & PROBE_SILENT)) {
        printf("%s: %s: %s was 0x%lx, is 0x%lx\n", own.arguments, verdict->what, name, was, is);
    }
}

static void check_general(struct verdict *verdict)
{
    const uint64_t *was = &probe.in.r15, *is = &probe.out.r15;

    for (unsigned i = 0; i < GENERAL_COUNT; i++) {
        if (!(verdict->rules & PROBE_ALL) && lost_by_syscall(i)) {
            /* rax and rdx are results: an error is negative and no address. */
            bool leaks = is[i] >= KERNEL_HALF && is[i] < -4096UL && is[i] != was[i];
            compare(verdict, "a kernel value in a scratch register", 0, leaks ? is[i] : 0);
        } else if (!((verdict->rules & PROBE_WORDS) && is_word(i))) {
            compare(verdict, names[i], was[i], is[i]);
        }
    }
}

static void check_vectors(struct verdict *verdict)
{
    for (unsigned i = 0; i < 16; i++) {
        compare(verdict, "the low half of an xmm register", probe.in.xmm[i][0],
                probe.out.xmm[i][0]);
        compare(verdict, "the high half of an xmm register", probe.in.xmm[i][1],
                probe.out.xmm[i][1]);
    }
    compare(verdict, "mxcsr", probe.in.mxcsr, probe.out.mxcsr);
}

unsigned probe_check(unsigned rules, const char *what)
{
    struct verdict verdict = {rules, what, 0};

    check_general(&verdict);
    check_vectors(&verdict);
    if (!(rules & PROBE_FLAGS)) {
        compare(&verdict, "rflags", probe.in.rflags & FLAGS_WATCHED,
                probe.out.rflags & FLAGS_WATCHED);
    }
    compare(&verdict, "rsp", probe.in.rsp, probe.out.rsp);
    compare(&verdict, "fs base", probe.in.fs_base, probe.out.fs_base);
    compare(&verdict, "gs base", probe.in.gs_base, probe.out.gs_base);
    return verdict.differences;
}

unsigned probe_self_test(void)
{
    unsigned missed = 0;

    probe_fill(1);
    probe_run(probe_nothing);
    missed += probe_check(PROBE_ALL, "an instruction that changes nothing") != 0;
    uint64_t *words = &probe.out.r15;
    for (unsigned i = 0; i < sizeof(probe.out) / 8; i++) {
        words[i] ^= 1; /* of rflags this is the carry */
        missed += probe_check(PROBE_ALL | PROBE_SILENT, "") != 1;
        words[i] ^= 1;
    }
    probe.out.rcx = KERNEL_HALF | 0x1000;
    missed += probe_check(PROBE_KEPT_BY_SYSCALL | PROBE_SILENT, "") != 1;
    return missed;
}
