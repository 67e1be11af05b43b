# SPDX-License-Identifier: MIT
"""Site tool: what `scons check` adds to a build. All of it only looks, and changes no file.

`env.Tidy(objects)` runs clang-tidy on the C sources of OBJECTS, with the options they are compiled
with, and again only on what has changed. `env.Lint()` are the commands for the format of C and for
format, style and types of Python; each runs whenever it is asked for.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from SCons.Script import Action

FOR_GCC_ONLY = ("-fcf-protection=none", "-fstack-usage", "-mpreferred-stack", "-falign-")
ROOMS = ["boot", "kernel", "user", "tests", "tools/onestack"]
CONFIG = "tools/pyproject.toml"


def run_tidy(target: list[Any], source: list[Any], env: Any) -> int:
    """Builder action: clang-tidy, silent unless it has found something."""
    flags = [flag for flag in env.Flatten(env["CCFLAGS"]) if not flag.startswith(FOR_GCC_ONLY)]
    defines = env.subst("$_CPPDEFFLAGS $_CPPINCFLAGS", target=target, source=source).split()
    options = ["--target=x86_64-elf", *flags, *defines]
    command = ["clang-tidy", "--quiet", source[0].path, "--", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout + done.stderr, file=sys.stderr)
        return 1
    Path(target[0].abspath).touch()
    return 0


def tidy(env: Any, objects: Any) -> list[Any]:
    """Declare a stamp for each C source of OBJECTS."""
    stamps = []
    for node in env.Flatten(objects):
        source = node.sources[0]
        if source.name.endswith(".c"):
            look = Action(run_tidy, "  TIDY  $SOURCE")
            stamp = node.env.Command(f"{node.path}.tidy", source, look)
            env.Depends(stamp, [node, "#.clang-tidy"])  # after the object its headers are there
            stamps += stamp
    return stamps


def sources(top: Path, pattern: str) -> list[str]:
    """The files of ours that match PATTERN, relative to TOP."""
    found = (path for room in ROOMS for path in (top / room).rglob(pattern))
    return sorted(str(path.relative_to(top)) for path in found)


def lint(env: Any) -> list[Any]:
    """Declare the commands, each apart from the others, so that `scons -k check` runs them all."""
    top = Path(env.Dir("#").abspath)
    # Headers of kernel/arch/entry have assembler macros in them, which are not C.
    c_files = [name for name in sources(top, "*.[ch]") if "arch/entry/" not in name]
    scripts = ["SConstruct", "tools/env", *sources(top, "SConscript")]
    commands = {
        "C format": ["clang-format", "--dry-run", "--Werror", *c_files],
        "Python": ["ruff", "check", "--config", CONFIG, "tools", "tests", *scripts],
        "Python format": ["ruff", "format", "--diff", "--config", CONFIG, "tools", "tests"],
        "Python types": ["mypy", "--config-file", CONFIG, "tools/onestack", "tools/scons", "tests"],
    }
    nodes = [
        env.Alias(f"check {name}", [], Action([command], f"  CHECK {name}"))
        for name, command in commands.items()
    ]
    env.AlwaysBuild(nodes)
    return nodes


def generate(env: Any) -> None:
    """Called by SCons."""
    env.AddMethod(tidy, "Tidy")
    env.AddMethod(lint, "Lint")


def exists(_env: Any) -> bool:
    """Called by SCons."""
    return True
