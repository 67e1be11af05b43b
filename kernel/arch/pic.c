/* SPDX-License-Identifier: MIT */
#include "kernel/arch/pic.h"

#include "kernel/arch/cpu.h"
#include "kernel/arch/vectors.h"

#define PIC1_COMMAND 0x20
#define PIC1_DATA    0x21
#define PIC2_COMMAND 0xa0
#define PIC2_DATA    0xa1

#define ICW1_INIT_ICW4    0x11
#define ICW3_CASCADE_ON_2 0x04
#define ICW3_IDENTITY_2   0x02
#define ICW4_8086         0x01
#define MASK_ALL          0xff

void pic_disable(void)
{
    outb(PIC1_COMMAND, ICW1_INIT_ICW4);
    outb(PIC2_COMMAND, ICW1_INIT_ICW4);
    outb(PIC1_DATA, VECTOR_PIC);
    outb(PIC2_DATA, VECTOR_PIC + 8);
    outb(PIC1_DATA, ICW3_CASCADE_ON_2);
    outb(PIC2_DATA, ICW3_IDENTITY_2);
    outb(PIC1_DATA, ICW4_8086);
    outb(PIC2_DATA, ICW4_8086);
    outb(PIC1_DATA, MASK_ALL);
    outb(PIC2_DATA, MASK_ALL);
}
