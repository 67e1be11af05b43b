/* SPDX-License-Identifier: MIT */
/*
 * Who uses which vector. A LAPIC takes the higher one first, in classes of 16 (Intel SDM vol. 3,
 * 10.8.3), so what belongs to the kernel itself stands above the devices.
 */
#ifndef ONESTACK_ARCH_VECTORS_H
#define ONESTACK_ARCH_VECTORS_H

#define VECTOR_PIC          0x20 /* 16 of the masked legacy controllers: nothing comes, or spuriously */
#define VECTOR_DEVICE_FIRST 0x30 /* IRQ objects */
#define VECTOR_DEVICE_LAST  0xef
#define VECTOR_TIMER        0xf0
#define VECTOR_RESCHEDULE   0xf1 /* another core left mail */
#define VECTOR_SHOOTDOWN    0xf2 /* another core waits for a TLB flush */
#define VECTOR_LAPIC_ERROR  0xfe
#define VECTOR_SPURIOUS     0xff /* the low four bits set, as old LAPICs want; never acknowledged */

#endif
