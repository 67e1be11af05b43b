# SPDX-License-Identifier: MIT
"""Kernel C on the host: a few of its files and a shim, compiled for ctypes or as a program.

The shim stands for what the files need of the rest. `PHYSICAL` makes the direct map a block of
memory of the host's: physical address p is byte p of it.
"""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CFLAGS = [
    *("-std=gnu17", "-O1", "-g", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"),
    "-Wl,-Bsymbolic",  # the kernel's memcpy for the kernel's files, not the host's
    *("-fsanitize=undefined", "-fno-sanitize-recover=undefined", "-fno-strict-aliasing"),
    *("-ffreestanding", "-DCONFIG_DEBUG=1", "-DLOCK_CHECK=0", "-DCONFIG_NMI_IST=1", f"-I{TOP}"),
]
PHYSICAL = """
#include <stdint.h>
#include "kernel/arch/layout.h"
#undef DIRECT_MAP_BASE
extern uint64_t host_memory;
#define DIRECT_MAP_BASE host_memory
"""


def build(folder: Path, sources: list[str], shim: str, prelude: str = PHYSICAL) -> ctypes.CDLL:
    """Compile kernel SOURCES (paths from the top) and SHIM (C text); PRELUDE goes before each.

    Headers that the build generates may be put into FOLDER.
    """
    first, last = folder / "prelude.h", folder / "shim.c"
    first.write_text(prelude)
    last.write_text(shim)
    library = folder / "kernel.so"
    files = [str(TOP / name) for name in sources]
    command = ["gcc", *CFLAGS, f"-I{folder}", "-include", str(first)]
    command += [*files, str(last), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


PROGRAM_FLAGS = [
    *("-std=gnu17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fno-builtin"),
    *("-fno-strict-aliasing", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
]


def program(output: Path, sources: list[Path]) -> Path:
    """Compile SOURCES into a program that ends at the first bad access or undefined operation.

    The address sanitizer needs a process of its own, and the host's memcpy, which it watches.
    """
    command = ["gcc", *PROGRAM_FLAGS, f"-I{TOP}", "-o", str(output), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output
