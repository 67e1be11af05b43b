# SPDX-License-Identifier: MIT
"""QEMU's exit status when a guest writes to the isa-debug-exit device.

The device turns a written value V into the status (V << 1) | 1, so a status from a guest is always
odd; an even one is QEMU's own, a negative one a signal's number.
"""

from __future__ import annotations

import signal

# A convention, not a law: a kernel that writes these values gets its endings named.
POWEROFF = 0x10 << 1 | 1
PANIC = 0x11 << 1 | 1
REFUSED = 0x12 << 1 | 1
TEST_FAILED = 0x13 << 1 | 1

NAMES = {
    0: "QEMU ended normally",
    1: "QEMU failed to start",
    POWEROFF: "power off",
    PANIC: "panic",
    REFUSED: "boot refused",
    TEST_FAILED: "test failed",
}


def describe(status: int) -> str:
    """Say what a status of QEMU's means, for instance `35 (panic)`."""
    if status < 0:
        return f"{status} (killed by {signal.Signals(-status).name})"
    if status in NAMES:
        return f"{status} ({NAMES[status]})"
    if status & 1:
        return f"{status} (isa-debug-exit value {status >> 1:#x})"
    return str(status)
