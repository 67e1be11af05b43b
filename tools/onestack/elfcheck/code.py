# SPDX-License-Identifier: MIT
"""Instructions that must not be in a kernel: those on the user's vector state, and swapgs."""

from __future__ import annotations

import re
from typing import Any

from onestack.elfcheck.image import Image, Violation

FPU_FUNCTIONS = "fpu_"
"""Functions of this prefix save, restore and switch the FPU; all others must leave it alone."""

FPU_REGISTER = re.compile(r"\b([xyz]?mm\d+|st\(\d\)|st|k[0-7])\b")
FPU_MNEMONIC = re.compile(r"f\w+|emms|v?(ld|st)mxcsr|xsave\w*|xrstor\w*|vzero\w+|wait")
"""All mnemonics with f are x87's or MMX's: they may name no register at all."""


def uses_fpu(insn: Any) -> bool:
    """Does INSN read or write x87, MMX, SSE or AVX state? Fences and prefetches do not."""
    return bool(FPU_MNEMONIC.fullmatch(insn.mnemonic) or FPU_REGISTER.search(insn.op_str))


def check_code(image: Image) -> list[Violation]:
    """FPU use outside fpu_* functions; swapgs anywhere."""
    found = []
    for address, insn in image.instructions.items():
        words = f"{insn.mnemonic} {insn.op_str}".strip()
        if insn.mnemonic == "swapgs":
            found.append(Violation("swapgs", image.name_of(address), "GS belongs to the user"))
        if uses_fpu(insn):
            function = image.function_at(address)
            if function is None or not function.name.startswith(FPU_FUNCTIONS):
                found.append(Violation("fpu", image.name_of(address), words))
    return found
