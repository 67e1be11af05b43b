/* SPDX-License-Identifier: MIT */
/* GDT, IDT and TSS (Intel SDM vol. 3, 3.4.5, 6.14.1, 7.7). */
#include "kernel/arch/entry.h"

#define DESCRIPTOR_CODE64 0x00209b0000000000 /* present, code, readable, accessed, L */
#define DESCRIPTOR_DATA   0x0000930000000000 /* present, data, writable, accessed */
#define DESCRIPTOR_DPL3   0x0000600000000000
#define DESCRIPTOR_TSS    0x89ULL /* present, available 64-bit TSS */

#define GATE_INTERRUPT 0x8e00 /* present, clears IF */
#define GATE_DPL3      0x6000

struct gate {
    uint16_t offset_low;
    uint16_t selector;
    uint16_t type; /* IST in the low three bits */
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
};
_Static_assert(sizeof(struct gate) == 16, "SDM figure 6-8");

struct table_register {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

static struct gate idt[256] __attribute__((aligned(PAGE_SIZE)));

static unsigned gate_ist(unsigned vector)
{
    switch (vector) {
    case VECTOR_NMI:
        return CONFIG_NMI_IST ? IST_NMI : 0;
    case VECTOR_DF:
        return IST_DF;
    case VECTOR_MC:
        return IST_MC;
    case VECTOR_DB:
        return IST_DB;
    default:
        return ENTRY_VECTOR_IST;
    }
}

void idt_init(void)
{
    for (unsigned vector = 0; vector < 256; vector++) {
        uint64_t stub = (uint64_t)vector_stubs + vector_table[vector];
        /* int3 alone is open to ring 3: the rest of `int n` is a #GP. */
        unsigned dpl = vector == VECTOR_BP ? GATE_DPL3 : 0;

        idt[vector] = (struct gate){
            .offset_low = (uint16_t)stub,
            .selector = KERNEL_CS,
            .type = (uint16_t)(GATE_INTERRUPT | dpl | gate_ist(vector)),
            .offset_middle = (uint16_t)(stub >> 16),
            .offset_high = (uint32_t)(stub >> 32),
        };
    }
}

static void gdt_fill(struct core *core)
{
    uint64_t tss = (uint64_t)&core->tss + TSS_HARDWARE_OFFSET;
    uint64_t limit = sizeof(struct tss) - TSS_HARDWARE_OFFSET - 1;

    core->gdt[KERNEL_CS / 8] = DESCRIPTOR_CODE64;
    core->gdt[KERNEL_DS / 8] = DESCRIPTOR_DATA;
    core->gdt[USER_CS32 / 8] = 0;
    core->gdt[USER_DS / 8] = DESCRIPTOR_DATA | DESCRIPTOR_DPL3;
    core->gdt[USER_CS / 8] = DESCRIPTOR_CODE64 | DESCRIPTOR_DPL3;
    core->gdt[TSS_SELECTOR / 8] = limit | (tss & 0xffffff) << 16 | DESCRIPTOR_TSS << 40 |
                                  (tss >> 24 & 0xff) << 56;
    core->gdt[TSS_SELECTOR / 8 + 1] = tss >> 32;
}

void segments_load(struct core *core)
{
    struct table_register gdtr = {sizeof(core->gdt) - 1, (uint64_t)core->gdt};
    struct table_register idtr = {sizeof(idt) - 1, (uint64_t)idt};

    for (unsigned stack = STACK_NMI; stack < CORE_STACKS; stack++) {
        core->tss.ist[stack - 1] = (uint64_t)core + CORE_STACK_TOP(stack) - 16;
    }
    core->tss.io_bitmap = sizeof(struct tss) - TSS_HARDWARE_OFFSET; /* beyond the limit: none */
    gdt_fill(core);
    __asm__ volatile("lgdt %0\n\t"
                     "pushq %1\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\tmovl %2, %%eax\n\t"
                     "movl %%eax, %%ss\n\t"
                     "xorl %%eax, %%eax\n\t"
                     "movl %%eax, %%ds\n\t"
                     "movl %%eax, %%es\n\t"
                     "movl %%eax, %%fs\n\t"
                     "movl %%eax, %%gs\n\t"
                     "lidt %3\n\t"
                     "lldt %%ax\n\t"
                     "movl %4, %%eax\n\t"
                     "ltr %%ax"
                     :
                     : "m"(gdtr), "i"(KERNEL_CS), "i"(KERNEL_DS), "m"(idtr), "i"(TSS_SELECTOR)
                     : "rax", "memory");
}
