/* SPDX-License-Identifier: MIT */
/*
 * Entry model `tcb`, but the entries ask core_nest whether they came from user mode, as gerryg400's
 * did, and not the CPL in the frame (Brendan). For the figure only: where the core's data is has to
 * be known before the stack is, so the LAPIC is asked, and its id must be the core's number, as it
 * is in QEMU; and an exception inside an NMI's first instructions, where core_nest is still the
 * interrupted code's, is taken for the user's: the sweep finds it (tests/sweep/test_nest.py).
 */
#include "kernel/arch/entry/tcb.h"
