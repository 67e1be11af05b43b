/* SPDX-License-Identifier: MIT */
#include "kernel/arch/fpu.h"

#include "kernel/arch/cpu.h"
#include "kernel/arch/entry.h"
#include "kernel/mm/kmem.h"

#define CPUID1_ECX_XSAVE    (1u << 26)
#define CPUIDD_EAX_XSAVEOPT (1u << 0)

/* XCR0: state components that are switched; what else a CPU has stays off. */
#define XSTATE_X87    0x01u
#define XSTATE_SSE    0x02u
#define XSTATE_AVX    0x04u
#define XSTATE_AVX512 0xe0u /* all of them or none */

#define MXCSR_INITIAL 0x1f80u
#define LEGACY_SIZE   512 /* what FXSAVE writes */

/* The start of a save area: SDM vol. 1, tables 10-2 and 13-1. Zero but for MXCSR: the initial state. */
struct fpu_state {
    uint8_t x87[24];
    uint32_t mxcsr;
    uint8_t legacy[LEGACY_SIZE - 28];
    uint64_t present; /* XSTATE_BV: components that are not in their initial state */
    uint64_t header[7];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct fpu_state) == 576, "legacy region and header");

/* fpu_kept.S */
void fpu_kept_xsaveopt(void);
void fpu_kept_other(void);

extern const struct fpu_state fpu_clean;

/* FXSAVE's form needs x87 control words that say "initial"; XRSTOR does not read them. */
const struct fpu_state fpu_clean = {.x87 = {0x7f, 0x03}, .mxcsr = MXCSR_INITIAL};

static enum { FORM_FXSAVE, FORM_XSAVE, FORM_XSAVEOPT } form;
static uint32_t components; /* XCR0; its upper half is 0 */
static uint32_t area_size = LEGACY_SIZE;
void (*fpu_kept)(void) = fpu_kept_other;

static void fpu_save(struct fpu_state *area)
{
    if (form == FORM_XSAVEOPT) {
        __asm__ volatile("xsaveopt64 %0" : "+m"(*area) : "a"(components), "d"(0) : "memory");
    } else if (form == FORM_XSAVE) {
        __asm__ volatile("xsave64 %0" : "+m"(*area) : "a"(components), "d"(0) : "memory");
    } else {
        __asm__ volatile("fxsave64 %0" : "=m"(*area) : : "memory");
    }
}

static void fpu_restore(const struct fpu_state *area)
{
    if (form == FORM_FXSAVE) {
        __asm__ volatile("fxrstor64 %0" : : "m"(*area));
    } else {
        __asm__ volatile("xrstor64 %0" : : "m"(*area), "a"(components), "d"(0));
    }
}

static void fpu_open(void)
{
    __asm__ volatile("clts");
}

static void fpu_close(void)
{
    write_cr0(read_cr0() | CR0_TS);
}

/* The first core finds out; the others are like it. */
static void fpu_choose(void)
{
    uint32_t out[4];

    cpu_cpuid(0xd, 0, out);
    components = XSTATE_X87 | XSTATE_SSE | (out[0] & XSTATE_AVX);
    if (components & XSTATE_AVX && (out[0] & XSTATE_AVX512) == XSTATE_AVX512) {
        components |= XSTATE_AVX512;
    }
    cpu_cpuid(0xd, 1, out);
    form = out[0] & CPUIDD_EAX_XSAVEOPT ? FORM_XSAVEOPT : FORM_XSAVE;
    if (form == FORM_XSAVEOPT) {
        fpu_kept = fpu_kept_xsaveopt;
    }
}

void fpu_init(void)
{
    uint32_t out[4];

    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    cpu_cpuid(1, 0, out);
    if (out[2] & CPUID1_ECX_XSAVE) {
        write_cr4(read_cr4() | CR4_OSXSAVE);
        fpu_choose();
        __asm__ volatile("xsetbv" : : "c"(0), "a"(components), "d"(0));
        cpu_cpuid(0xd, 0, out);
        area_size = out[1]; /* for what XCR0 says now */
    }
    fpu_open();
    fpu_restore(&fpu_clean);
    fpu_close();
}

bool fpu_first_use(struct thread *thread)
{
    if (thread->fpu == NULL) {
        struct fpu_state *area = kmem_alloc(thread->object.quota, area_size);

        if (area == NULL) {
            return false;
        }
        *(uint16_t *)area->x87 = *(const uint16_t *)fpu_clean.x87;
        area->mxcsr = MXCSR_INITIAL;
        thread->fpu = area;
        thread->flags |= THREAD_FLAG_FPU;
    }
    fpu_open(); /* what is loaded is the initial state */
    return true;
}

void fpu_switch_state(const struct thread *from, const struct thread *to)
{
    if (from->flags & THREAD_FLAG_FPU) {
        fpu_save(from->fpu);
    } else {
        fpu_open();
    }
    if (to->flags & THREAD_FLAG_FPU) {
        fpu_restore(to->fpu);
    } else {
        /* Not even a speculative read past CR0.TS may find the old content. */
        fpu_restore(&fpu_clean);
        fpu_close();
    }
}

void fpu_thread_end(struct core *core, struct thread *thread)
{
    struct fpu_state *area = thread->fpu;

    if (area == NULL) {
        return;
    }
    thread->fpu = NULL;
    thread->flags &= (uint16_t)~THREAD_FLAG_FPU;
    if (thread == entry_current(core)) {
        fpu_restore(&fpu_clean);
        fpu_close();
    }
    kmem_free(thread->object.quota, area, area_size);
}
