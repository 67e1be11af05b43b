# SPDX-License-Identifier: MIT
"""Site tool: numbers from C for assembly. `env.Offsets("offsets.h", "offsets.c")`.

The source is compiled to assembly with tools/scons/offsets_c.h included first; that header's
OFFSET and DEFINE leave one marked line for each number, which becomes a #define here. So no
assembly file counts bytes by hand, and a changed struct rebuilds whatever uses it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from SCons.Script import Action

MARK = re.compile(r'^\s*\.ascii\s+"->(\w+) \$?(-?\d+)"', re.MULTILINE)


def extract(assembly: str) -> str:
    """The header's text for ASSEMBLY, the compiler's output; ValueError if it defines nothing."""
    numbers = MARK.findall(assembly)
    if not numbers:
        raise ValueError("defines no OFFSET and no DEFINE")
    lines = [
        "/* Generated from kernel/arch/offsets.c. */",
        "#ifndef GEN_OFFSETS_H",
        "#define GEN_OFFSETS_H",
    ]
    for name, text in numbers:
        number = int(text)
        lines.append(
            f"#define {name} {number:#x}" if number >= 0 else f"#define {name} ({number:#x})"
        )
    return "\n".join([*lines, "#endif", ""])


def write_header(target: list[Any], source: list[Any], env: Any) -> int:  # noqa: ARG001
    """Builder action: assembly to header."""
    try:
        header = extract(source[0].get_text_contents())
    except ValueError as error:
        print(f"{source[0]}: {error}")
        return 1
    Path(target[0].abspath).write_text(header)
    return 0


def offsets(env: Any, target: str, source: str) -> Any:
    """Declare the header TARGET made from the C file SOURCE."""
    macros = env.File("#tools/scons/offsets_c.h")
    command = "$CC -S -o $TARGET $CFLAGS $CCFLAGS $_CCCOMCOM -include $MACROS $SOURCE"
    assembly = env.Command(f"{target}.s", source, Action(command, "  CC    $TARGET"), MACROS=macros)
    env.Depends(assembly, macros)
    return env.Command(target, assembly, Action(write_header, "  GEN   $TARGET"))


def generate(env: Any) -> None:
    """Called by SCons."""
    env.AddMethod(offsets, "Offsets")


def exists(_env: Any) -> bool:
    """Called by SCons."""
    return True
