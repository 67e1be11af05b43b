# SPDX-License-Identifier: MIT
"""Site tool: what `scons check` adds to a build. All of it only looks, and changes no file.

`env.Tidy(objects)` runs clang-tidy on the C sources of OBJECTS, with the options they are compiled
with, and again only on what has changed. `env.Lint()` is one command each for the format of C, and
for format, style and types of Python.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from SCons.Script import Action

FOR_GCC_ONLY = {"-fcf-protection=none", "-fstack-usage"}
PYTHON = ["tools", "tests", "SConstruct"]
C_ROOMS = ["boot", "kernel", "user", "tests"]
CONFIG = "tools/pyproject.toml"


def run_tidy(target: list[Any], source: list[Any], env: Any) -> int:
    """Builder action: clang-tidy; its report is kept only if it has something to say."""
    flags = [flag for flag in env.Flatten(env["CCFLAGS"]) if flag not in FOR_GCC_ONLY]
    words = env.subst("$_CPPDEFFLAGS $_CPPINCFLAGS").split()
    command = ["clang-tidy", "--quiet", source[0].path, "--", "--target=x86_64-elf", *flags, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout + done.stderr, file=sys.stderr)
        return 1
    Path(target[0].abspath).touch()
    return 0


def tidy(env: Any, objects: Any) -> list[Any]:
    """Declare one stamp for each C source of OBJECTS."""
    stamps = []
    for node in env.Flatten(objects):
        source = node.sources[0] if node.sources else None
        if source is not None and source.name.endswith(".c"):
            stamp = env.Command(f"{node.path}.tidy", source, Action(run_tidy, "  TIDY  $SOURCE"))
            env.Depends(stamp, [node, "#.clang-tidy"])  # the object: its headers are made then
            stamps += stamp
    return stamps


def c_files(top: Path) -> list[str]:
    """Every C file of ours, relative to TOP."""
    return sorted(
        str(path.relative_to(top)) for room in C_ROOMS for path in (top / room).rglob("*.[ch]")
    )


def lint(env: Any) -> list[Any]:
    """The commands, as actions for an alias."""
    files = c_files(Path(env.Dir("#").abspath))
    scripts = [str(path) for room in (".", "boot", "kernel", "user", "tests")
               for path in Path(room).glob("SConscript")]  # fmt: skip
    ruff = ["ruff", "check", "--quiet", "--config", CONFIG, *PYTHON, *scripts, "tools/env"]
    form = ["ruff", "format", "--quiet", "--check", "--diff", "--config", CONFIG, "tools", "tests"]
    mypy = ["mypy", "--config-file", CONFIG, "--no-error-summary", "tools/onestack",
            "tools/scons", "tests"]  # fmt: skip
    return [
        Action(
            [["clang-format", "--dry-run", "--Werror", *files]], "  FORMAT boot kernel user tests"
        ),
        Action([ruff], "  RUFF  tools tests"),
        Action([form], "  FORMAT tools tests"),
        Action([mypy], "  MYPY  tools tests"),
    ]


def generate(env: Any) -> None:
    """Called by SCons."""
    env.AddMethod(tidy, "Tidy")
    env.AddMethod(lint, "Lint")


def exists(_env: Any) -> bool:
    """Called by SCons."""
    return True
