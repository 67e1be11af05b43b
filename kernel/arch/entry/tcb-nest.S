/* SPDX-License-Identifier: MIT */
/* Entry model `tcb` with core_nest as the test, in place of the CPL: tcb-nest.h. */
#define NEST_TEST       1
#define CORE_AREA_SHIFT 17
#include "kernel/arch/entry/tcb.S"

#if CORE_AREA_SIZE != 1 << CORE_AREA_SHIFT
#error "the core's number is shifted to its area"
#endif
