/* SPDX-License-Identifier: MIT */
/*
 * What the CPU must have besides long mode and NX, which start.S has checked. Here and not there,
 * for Intel reports SYSCALL in 64-bit mode only. Intel SDM vol. 2, CPUID.
 */
#include <stddef.h>

#include "boot/boot.h"
#include "kernel/arch/cpu.h"

enum cpuid_register { EAX, EBX, ECX, EDX };

struct feature {
    uint32_t leaf;
    uint8_t reg; /* enum cpuid_register */
    uint8_t bit;
    const char *name;
};

static const struct feature required[] = {
    {0x00000001, EDX, 5, "MSR"},  {0x00000001, EDX, 9, "APIC"},  {0x00000007, EBX, 0, "FSGSBASE"},
    {0x00000007, EBX, 7, "SMEP"}, {0x00000007, EBX, 20, "SMAP"}, {0x80000001, EDX, 11, "SYSCALL"},
};

/* A leaf above the highest of its kind returns another leaf's data, so ask first. */
static bool has(const struct feature *feature)
{
    uint32_t registers[4];

    cpu_cpuid(feature->leaf & 0x80000000, 0, registers);
    if (registers[EAX] < feature->leaf) {
        return false;
    }
    cpu_cpuid(feature->leaf, 0, registers);
    return registers[feature->reg] >> feature->bit & 1;
}

const char *boot_missing_feature(void)
{
    for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
        if (!has(&required[i])) {
            return required[i].name;
        }
    }
    return NULL;
}
