/* SPDX-License-Identifier: MIT */
/* The legacy interrupt controllers (8259A data sheet), only to switch them off. */
#ifndef ONESTACK_ARCH_PIC_H
#define ONESTACK_ARCH_PIC_H

/*
 * Move both to VECTOR_PIC and mask them. Moved first, because a masked controller can still raise
 * its spurious interrupt, and firmware leaves it on the exceptions' vectors.
 */
void pic_disable(void);

#endif
