/* SPDX-License-Identifier: MIT */
/* Faults in the way that its argument names, for tests and for the curious. */
#include <stdint.h>

#include "kernel/lib/string.h"
#include "user/libos/print.h"
#include "user/libos/start.h"

static void crash_null(void)
{
    *(volatile uint32_t *)0 = 1;
}

static void crash_kernel(void)
{
    (void)*(volatile uint64_t *)0xffffffff81000000;
}

static void crash_text(void)
{
    *(volatile uint8_t *)(uint64_t)crash_text = 0xc3;
}

static void crash_execute(void)
{
    static uint8_t data[16] = {0xc3}; /* ret */

    ((void (*)(void))(uint64_t)data)();
}

static void crash_stack(void)
{
    __asm__ volatile("1: push %%rax; jmp 1b" : : : "memory");
}

static void crash_divide(void)
{
    __asm__ volatile("xor %%eax, %%eax; cltd; idivl %%eax" : : : "eax", "edx", "cc");
}

static void crash_opcode(void)
{
    __asm__ volatile("ud2");
}

static void crash_halt(void)
{
    __asm__ volatile("hlt");
}

static void crash_port(void)
{
    __asm__ volatile("outb %%al, $0x80" : : "a"(0));
}

static void crash_noncanonical(void)
{
    (void)*(volatile uint64_t *)0x0000800000000000;
}

static void crash_jump(void)
{
    __asm__ volatile("jmp *%0" : : "r"(0x0000800000000000UL));
}

static void crash_int3(void)
{
    __asm__ volatile("int3");
}

static const struct {
    const char *kind;
    void (*run)(void);
    const char *text;
} kinds[] = {
    {"user-null", crash_null, "writes to address 0"},
    {"kernel-read", crash_kernel, "reads the kernel's text"},
    {"write-text", crash_text, "writes to its own text"},
    {"execute-data", crash_execute, "jumps to its own data"},
    {"stack", crash_stack, "runs over the end of its stack"},
    {"divide", crash_divide, "divides by zero"},
    {"opcode", crash_opcode, "executes ud2"},
    {"halt", crash_halt, "executes hlt"},
    {"port", crash_port, "writes to an I/O port"},
    {"noncanonical", crash_noncanonical, "reads a non-canonical address"},
    {"jump", crash_jump, "jumps to a non-canonical address"},
    {"int3", crash_int3, "executes int3"},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        if (argc < 2) {
            printf("%-12s %s\n", kinds[i].kind, kinds[i].text);
        } else if (strcmp(argv[1], kinds[i].kind) == 0) {
            kinds[i].run();
            printf("crash: %s went on\n", argv[1]);
            return 1;
        }
    }
    return argc >= 2;
}
