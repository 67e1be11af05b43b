# SPDX-License-Identifier: MIT
"""Our kernel for `onestack step --view tests/step_view.py:make`: its core, its stacks, its TCBs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from onestack.elf import Images
from onestack.machine import Machine
from onestack.stepper import Stack
from onestack.trace import state_names

sys.path.insert(0, str(Path(__file__).resolve().parent))
from kernel_state import STACK_SIZE, STACK_TOPS, KernelState

FRAME = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rdi", "rsi", "rdx"),
    *("rcx", "rax", "error", "rip", "cs", "rflags", "rsp", "ss"),
)
WORD = 8
RESERVED = 16  # bytes at a stack's top: the core's address


class OnestackView:
    """Reads struct core and the current thread by the names in the debug information."""

    def __init__(self, images: Images) -> None:
        self._state = KernelState(images.images[0].path, images)
        self._states = state_names(images)

    def _slot(self, machine: Machine, cpu: int) -> int:
        """The end of the current thread's save area (E2)."""
        member = "current_end" if self._separate(machine, cpu) else "tss.rsp0"
        address = self._state.core_address(cpu) + self._state.structs.offset("core", member)
        return int.from_bytes(machine.gdb.read(address, WORD, cpu), "little")

    def _separate(self, machine: Machine, cpu: int) -> bool:
        """Whether the entry model keeps the current thread elsewhere than in RSP0."""
        address = self._state.core_address(cpu) + self._state.structs.offset("core", "current_end")
        return any(machine.gdb.read(address, WORD, cpu))

    def facts(self, machine: Machine, cpu: int) -> Mapping[str, str]:
        """core_nest, core_state and who runs."""
        core = self._state.core(machine, cpu)
        thread = self._slot(machine, cpu) - self._state.save_area_end
        return {
            "core_nest": str(core.nest),
            "core_state": self._states[core.state],
            "pending": f"{core.pending:#x}",
            "nmis": f"{core.nmis_worked}/{core.nmis}",
            "thread": f"{thread:#x}",
        }

    def stacks(self, machine: Machine, cpu: int) -> Sequence[Stack]:
        """The TCB's save area with its words named, the kernel stack, the IST stacks."""
        end = self._slot(machine, cpu)
        labels = {end - (len(FRAME) - at) * WORD: name for at, name in enumerate(FRAME)}
        base = self._state.core_address(cpu)
        size = STACK_SIZE - RESERVED
        return [
            Stack("TCB save area", end, len(FRAME) * WORD, labels),
            *(Stack(name, base + top - RESERVED, size) for name, top in STACK_TOPS.items()),
        ]


def make(images: Images) -> OnestackView:
    """For the command line."""
    return OnestackView(images)
