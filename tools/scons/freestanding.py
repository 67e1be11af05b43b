# SPDX-License-Identifier: MIT
"""Site tool: freestanding C and assembly for x86-64, by GCC with GNU ld or by Clang with ld.lld.

`env.Freestanding(kernel=True)` sets an environment up for the kernel, `kernel=False` for user
programs; `env.Executable(target, sources, script=LINKER_SCRIPT)` links.
"""

from __future__ import annotations

import shutil
import sys
from typing import Any

from SCons.Script import Action

PROGRAMS = {
    "gcc": {"CC": "gcc", "LINK": "ld", "AR": "ar"},
    "clang": {"CC": "clang", "LINK": "ld.lld", "AR": "ar"},
}
WARNINGS = [
    "-Wall", "-Wextra", "-Werror", "-Wmissing-prototypes", "-Wstrict-prototypes", "-Wvla",
    "-Wshadow",
]  # fmt: skip
COMMON = [
    "-std=gnu17", "-O2", "-g", "-ffreestanding", "-fno-pic", "-fno-stack-protector", "-fno-common",
    "-fno-asynchronous-unwind-tables", "-fno-strict-aliasing", "-mno-red-zone",
]  # fmt: skip
KERNEL = ["-mcmodel=kernel", "-mgeneral-regs-only", "-fstack-usage", "-fcf-protection=none"]
# Without SSE no stack needs 16 bytes; padding before jumps' targets is run, as nops, and fetched.
KERNEL_GCC = [
    "-mpreferred-stack-boundary=3", "-falign-functions=1", "-falign-jumps=1", "-falign-loops=1",
]  # fmt: skip
LINK = [
    "-nostdlib", "-static", "--build-id=none", "--fatal-warnings", "--orphan-handling=error",
    "-z", "noexecstack", "-z", "max-page-size=4096", "-z", "separate-code",
]  # fmt: skip


def require(*programs: str) -> None:
    """Stop, naming the program, unless every one is there."""
    for program in programs:
        if shutil.which(program) is None:
            print(f"missing tool: {program}; tools/env scons ... installs it", file=sys.stderr)
            sys.exit(2)


def freestanding(env: Any, *, kernel: bool) -> None:
    """Give ENV the flags for kernel or user code; reads `toolchain` and `debug` from it."""
    clang = env["toolchain"] == "clang"
    programs = PROGRAMS[env["toolchain"]]
    require(*programs.values())
    env.Replace(**programs)
    target = ["--target=x86_64-elf"] if clang else []
    # No path of the building machine goes into the image: the same tree gives the same bytes.
    paths = f"-ffile-prefix-map={env.Dir('#').abspath}=."
    env.Append(CCFLAGS=[*target, *COMMON, *WARNINGS, paths], CPPPATH=["#"])
    env.Replace(ASPPFLAGS=[*target, "-g", paths, "-Wa,--fatal-warnings"])
    if kernel:
        env.Append(
            CCFLAGS=[*KERNEL, *([] if clang else KERNEL_GCC)],
            CPPPATH=[env.Dir("$VARIANT/gen")],
            CPPDEFINES={
                "CONFIG_DEBUG": int(env["debug"]),
                "CONFIG_NMI_IST": int(env["nmi"] != "rsp0"),
                "CONFIG_NMI_MOVE": int(env["nmi"] == "move"),
            },
        )
    if env["debug"]:
        env.Append(CCFLAGS=["-fno-omit-frame-pointer"])
    env.Replace(
        LINKFLAGS=LINK,
        CCCOMSTR="  CC    $TARGET",
        ASPPCOMSTR="  AS    $TARGET",
        ARCOMSTR="  AR    $TARGET",
        RANLIBCOMSTR="  INDEX $TARGET",
    )


def executable(env: Any, target: str, sources: Any, script: str, **variables: Any) -> Any:
    """Link SOURCES by linker script SCRIPT."""
    command = Action("$LINK $LINKFLAGS -T $SCRIPT -o $TARGET $SOURCES", "  LINK  $TARGET")
    nodes = env.Command(target, sources, command, SCRIPT=env.File(script), **variables)
    env.Depends(nodes, script)
    return nodes


def generate(env: Any) -> None:
    """Called by SCons."""
    env.AddMethod(freestanding, "Freestanding")
    env.AddMethod(executable, "Executable")


def exists(_env: Any) -> bool:
    """Called by SCons."""
    return True
