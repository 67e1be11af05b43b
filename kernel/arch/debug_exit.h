/* SPDX-License-Identifier: MIT */
/*
 * How the machine ends. QEMU's isa-debug-exit turns a value V written to its port into the exit
 * status (V << 1) | 1; a machine without it just halts. Shared with the 32-bit boot assembly.
 */
#ifndef ONESTACK_ARCH_DEBUG_EXIT_H
#define ONESTACK_ARCH_DEBUG_EXIT_H

#define DEBUG_EXIT_PORT 0xf4

#define EXIT_POWEROFF     0x10 /* status 33 */
#define EXIT_PANIC        0x11 /* status 35 */
#define EXIT_BOOT_REFUSED 0x12 /* status 37 */
#define EXIT_TEST_FAILURE 0x13 /* status 39 */

#ifndef __ASSEMBLER__

#include "kernel/arch/cpu.h"

/* Returns where the device is absent, so that the caller may try another way before it halts. */
static inline void debug_exit(uint32_t code)
{
    outl(DEBUG_EXIT_PORT, code);
    /* Bochs stops here when told to (magic_break) and its script quits; elsewhere a nop. */
    __asm__ volatile("xchgw %bx, %bx");
}

/* The end of every road: nothing can wake this core but an NMI, and that only to halt again. */
_Noreturn static inline void halt_forever(void)
{
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

#endif

#endif
