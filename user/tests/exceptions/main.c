/* SPDX-License-Identifier: MIT */
/*
 * exceptions: every exception that ring 3 can raise reaches the thread's handler with vector, error
 * code, address and registers as they must be; `int n` is refused for all n but 3. Then what a
 * handler may do with the frame that it returns. Prints a line for each thing wrong, and the totals.
 *
 * Not here, for ring 3 cannot raise them: 2 NMI, 4 (`into` is no instruction in 64-bit mode), 5
 * (nor is `bound`), 7 (the kernel's own business: it loads the FPU and goes on), 8 to 11, 18, 20 up.
 * int1 is not modelled by TCG (it is #UD there). Nor are 17, which needs CR0.AM besides, and that stays
 * clear, and 19: `exceptions alignment` and `exceptions simd` raise those alone, for Bochs.
 */
#include <stdbool.h>
#include <stddef.h>

#include "kernel/arch/layout.h"
#include "kernel/lib/string.h"
#include "user/libos/memory.h"
#include "user/libos/print.h"
#include "user/libos/probe.h"
#include "user/libos/signal.h"
#include "user/libos/start.h"
#include "user/tests/exceptions/endpoint.h"
#include "user/tests/exceptions/forged.h"

#define NON_CANONICAL     0x0000800000000000UL
#define KERNEL_TEXT       0xffffffff81000000UL
#define FLAG_TRAP         0x100UL
#define FLAG_ALIGNMENT    0x40000UL
#define MXCSR_UNMASKED    1U /* every exception; the flag of the one that comes is set already */
#define INT_STRIDE        8
#define ERROR_PRESENT     1UL /* of a page fault: Intel SDM vol. 3, 4.7 */
#define ERROR_WRITE       2UL
#define ERROR_USER        4UL
#define ERROR_FETCH       16UL
#define ANY               (~0UL)
#define VECTOR_STACK      12
#define VECTOR_PROTECTION 13

typedef void site_fn(void);
extern const uint8_t site_int[];

/* A list, which the formatter would take for declarations. */
/* clang-format off */
#define SITES(X)                                                                               \
    X(nop) X(into) X(bound) X(ud1) X(cli) X(sti) X(in) X(out) X(read_cr0) X(write_cr3)         \
    X(write_dr7) X(rdmsr) X(wrmsr) X(lgdt) X(lidt) X(lldt) X(ltr) X(sgdt) X(sidt) X(str)       \
    X(smsw) X(clts) X(invd) X(wbinvd) X(invlpg) X(swapgs) X(sysretq) X(stac) X(xsetbv)         \
    X(load_ds) X(load_ss) X(read) X(write) X(stack_read) X(push) X(jump) X(x87) X(simd) X(misaligned)
/* clang-format on */
#define DECLARE(name) site_fn site_##name;
SITES(DECLARE)

struct raise {
    const char *name;
    site_fn *site;
    uint64_t vector, error, address; /* wanted */
    uint64_t rax, rsi, rbp, rsp;     /* before; 0 = a pattern */
    uint64_t flags;                  /* more RFLAGS */
};

static uint8_t handler_stack[8192] __attribute__((aligned(16)));
static const uint64_t read_only = 1;
static uint8_t data_page[8192] __attribute__((aligned(4096)));
static struct fault_info seen;
static unsigned raised, wrong;

static void note(struct fault_info *fault)
{
    seen = *fault;
    fault->registers.rip = (uint64_t)probe_after;
    fault->registers.rflags &= ~(FLAG_TRAP | FLAG_ALIGNMENT);
}

static void complain(const char *name, const char *what, uint64_t is, uint64_t wanted)
{
    if (wanted != ANY && is != wanted) {
        printf("exceptions: %s: %s 0x%lx, not 0x%lx\n", name, what, is, wanted);
        wrong++;
    }
}

static void or_pattern(uint64_t *at, uint64_t value)
{
    if (value != 0) {
        *at = value;
    }
}

static void raise(const struct raise *raise, uint64_t rip)
{
    probe_fill(raised++);
    or_pattern(&probe.in.rax, raise->rax);
    or_pattern(&probe.in.rbp, raise->rbp);
    or_pattern(&probe.in.rsp, raise->rsp);
    probe.in.rsi = raise->rsi ? raise->rsi : (uint64_t)data_page;
    probe.in.rcx = 0;
    probe.in.rflags |= raise->flags;
    if (raise->site == site_simd) {
        probe.in.mxcsr = MXCSR_UNMASKED;
    }
    memset(&seen, 0xff, sizeof(seen));
    probe_run(raise->site);
    if (raise->vector == VECTOR_STACK && seen.vector == VECTOR_PROTECTION) {
        seen.vector = VECTOR_STACK; /* TCG does not tell them apart */
    }
    complain(raise->name, "vector", seen.vector, raise->vector);
    complain(raise->name, "error", seen.error, raise->error);
    complain(raise->name, "address", seen.address, raise->address);
    complain(raise->name, "rip", seen.registers.rip, rip);
    wrong += probe_check(PROBE_ALL, raise->name);
}

static void raise_all(void)
{
    const uint64_t text = (uint64_t)site_read, data = (uint64_t)data_page, none = 0x1000;
    const uint64_t absent = ERROR_USER, present = ERROR_USER | ERROR_PRESENT;
    const struct raise list[] = {
        {"divide", probe_divide, 0, 0, 0, 0, 0, 0, 0, 0},
        {"int3", probe_int3, 3, 0, 0, 0, 0, 0, 0, 0},
        {"ud2", probe_ud2, 6, 0, 0, 0, 0, 0, 0, 0},
        {"ud1", site_ud1, 6, 0, 0, 0, 0, 0, 0, 0},
        {"into", site_into, 6, 0, 0, 0, 0, 0, 0, 0},
        {"bound", site_bound, 6, 0, 0, 0, 0, 0, 0, 0},
        {"stac", site_stac, 6, 0, 0, 0, 0, 0, 0, 0},
        {"hlt", probe_hlt, 13, 0, 0, 0, 0, 0, 0, 0},
        {"cli", site_cli, 13, 0, 0, 0, 0, 0, 0, 0},
        {"sti", site_sti, 13, 0, 0, 0, 0, 0, 0, 0},
        {"in", site_in, 13, 0, 0, 0, 0, 0, 0, 0},
        {"out", site_out, 13, 0, 0, 0, 0, 0, 0, 0},
        {"mov from cr0", site_read_cr0, 13, 0, 0, 0, 0, 0, 0, 0},
        {"mov to cr3", site_write_cr3, 13, 0, 0, 0, 0, 0, 0, 0},
        {"mov to dr7", site_write_dr7, 13, 0, 0, 0, 0, 0, 0, 0},
        {"rdmsr", site_rdmsr, 13, 0, 0, 0, 0, 0, 0, 0},
        {"wrmsr", site_wrmsr, 13, 0, 0, 0, 0, 0, 0, 0},
        {"lgdt", site_lgdt, 13, 0, 0, 0, 0, 0, 0, 0},
        {"lidt", site_lidt, 13, 0, 0, 0, 0, 0, 0, 0},
        {"lldt", site_lldt, 13, 0, 0, 0, 0, 0, 0, 0},
        {"ltr", site_ltr, 13, 0, 0, 0, 0, 0, 0, 0},
        {"sgdt", site_sgdt, 13, 0, 0, 0, 0, 0, 0, 0},
        {"sidt", site_sidt, 13, 0, 0, 0, 0, 0, 0, 0},
        {"str", site_str, 13, 0, 0, 0, 0, 0, 0, 0},
        {"smsw", site_smsw, 13, 0, 0, 0, 0, 0, 0, 0},
        {"clts", site_clts, 13, 0, 0, 0, 0, 0, 0, 0},
        {"invd", site_invd, 13, 0, 0, 0, 0, 0, 0, 0},
        {"wbinvd", site_wbinvd, 13, 0, 0, 0, 0, 0, 0, 0},
        {"invlpg", site_invlpg, 13, 0, 0, 0, 0, 0, 0, 0},
        {"swapgs", site_swapgs, 13, 0, 0, 0, 0, 0, 0, 0},
        {"sysretq", site_sysretq, 13, 0, 0, 0, 0, 0, 0, 0},
        {"xsetbv", site_xsetbv, 13, 0, 0, 0, 0, 0, 0, 0},
        {"ds = kernel data", site_load_ds, 13, 0x10, 0, 0x10, 0, 0, 0, 0},
        {"ds = TSS", site_load_ds, 13, 0x30, 0, 0x30, 0, 0, 0, 0},
        {"ds beyond the GDT", site_load_ds, 13, 0x7ff8, 0, 0x7ff8, 0, 0, 0, 0},
        {"ss = kernel data", site_load_ss, 13, 0x10, 0, 0x10, 0, 0, 0, 0},
        {"read non-canonical", site_read, 13, 0, 0, NON_CANONICAL, 0, 0, 0, 0},
        {"stack read non-canonical", site_stack_read, 12, 0, 0, 0, 0, NON_CANONICAL, 0, 0},
        {"read nothing", site_read, 14, absent, none, none, 0, 0, 0, 0},
        {"write nothing", site_write, 14, absent | ERROR_WRITE, none, none, 0, 0, 0, 0},
        {"write text", site_write, 14, present | ERROR_WRITE, text, text, 0, 0, 0, 0},
        {"write constants", site_write, 14, present | ERROR_WRITE, (uint64_t)&read_only,
         (uint64_t)&read_only, 0, 0, 0, 0},
        {"read the kernel", site_read, 14, ANY, KERNEL_TEXT, KERNEL_TEXT, 0, 0, 0, 0},
        {"write the kernel", site_write, 14, ANY, KERNEL_TEXT, KERNEL_TEXT, 0, 0, 0, 0},
        {"read past the end of user space", site_read, 14, absent, USER_END, USER_END, 0, 0, 0, 0},
        {"push nowhere", site_push, 14, absent | ERROR_WRITE, none - 8, 0, 0, 0, none, 0},
        {"floating point", site_x87, 16, 0, 0, 0, 0, 0, 0, 0},
    };

    for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++) {
        bool trap = list[i].vector == 3; /* it reports the next instruction */
        bool later = list[i].site == site_x87;
        raise(&list[i], trap ? (uint64_t)list[i].site + 1 : later ? ANY : (uint64_t)list[i].site);
    }
    __asm__ volatile("fninit");
    /* The trap comes after the instruction that follows popfq, and so at probe_go. */
    raise(&(struct raise){"single step", site_nop, 1, 0, 0, 0, 0, 0, 0, FLAG_TRAP},
          (uint64_t)probe_go);
    raise(&(struct raise){"execute data", site_jump, 14, present | ERROR_FETCH, data, data, 0, 0, 0,
                          0},
          data);
    raise(&(struct raise){"execute the kernel", site_jump, 14, ANY, KERNEL_TEXT, KERNEL_TEXT, 0, 0,
                          0, 0},
          KERNEL_TEXT);
    raise(&(struct raise){"jump non-canonical", site_jump, 13, 0, 0, NON_CANONICAL, 0, 0, 0, 0},
          ANY);
}

/* Error code of a refused `int n`: the gate's index and "it is in the IDT". TCG counts in bytes. */
static bool is_error_of_int(uint64_t error, unsigned n)
{
    return error == (n << 3 | 2) || error == (n << 4 | 2);
}

static void raise_every_int(void)
{
    char name[16] = "int ???";

    for (unsigned n = 0; n < 256; n++) {
        site_fn *site = (site_fn *)(uint64_t)(site_int + INT_STRIDE * n);
        bool allowed = n == 3;
        struct raise one = {.name = name, .site = site, .vector = allowed ? 3 : 13, .error = ANY};

        name[4] = (char)('0' + n / 100);
        name[5] = (char)('0' + n / 10 % 10);
        name[6] = (char)('0' + n % 10);
        raise(&one, (uint64_t)site + (allowed ? 2 : 0));
        if (allowed ? seen.error != 0 : !is_error_of_int(seen.error, n)) {
            complain(name, "error", seen.error, n << 3 | 2);
        }
    }
}

/* What not every model of the CPU raises. */
static int raise_one(const char *name)
{
    static const struct raise list[] = {
        {"simd", site_simd, 19, 0, 0, 0, 0, 0, 0, 0},
        {"alignment", site_misaligned, 17, 0, 0, 0, 0, 0, 0, FLAG_ALIGNMENT},
    };

    for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++) {
        if (strcmp(list[i].name, name) == 0) {
            raise(&list[i], (uint64_t)list[i].site);
            return wrong != 0;
        }
    }
    die("no exception %s", name);
}

int main(int argc, char **argv)
{
    unsigned missed = probe_self_test();

    data_page[0] = 0xc3;
    if (signal_set(note, handler_stack + sizeof(handler_stack)) < 0) {
        die("no signal handler");
    }
    if (argc > 1) {
        return raise_one(argv[1]);
    }
    raise_all();
    raise_every_int();
    unsigned forgeries = 0, messages = 0;
    wrong += forged_returns(&forgeries);
    wrong += endpoint_faults(&messages);
    printf("exceptions: %u raised, %u forged frames, %u to others, %u wrong, %u planted missed\n",
           raised, forgeries, messages, wrong, missed);
    return wrong != 0 || missed != 0;
}
