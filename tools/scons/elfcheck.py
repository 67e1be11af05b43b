# SPDX-License-Identifier: MIT
"""Site tool: the build fails if `onestack check` finds something wrong with the kernel.

`env.CheckImage(image, objects)` adds that to what makes the image, so no image counts as built that
has not passed; and that no source asks for its entry model.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from model_names import named_models
from SCons.Script import Action

RULES = "kernel/stack.toml"
LAYOUT = "kernel/arch/layout.h"


def stack_size() -> str:
    """The size of a kernel stack, from the header that fixes it."""
    found = re.search(r"^#define\s+STACK_SIZE\s+(\w+)", Path(LAYOUT).read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{LAYOUT} does not define STACK_SIZE")
    return found[1]


def check_models(target: list[Any], source: list[Any], env: Any) -> int:  # noqa: ARG001
    """Builder action: the sources leave the entry model to its own folder."""
    found = named_models(Path(), env["ENTRY_MODELS"])
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


def check_image(env: Any, image: Any, objects: Any) -> None:
    """Add the checks to the actions of IMAGE, linked from OBJECTS."""
    command = ["onestack", "check", "$TARGET", "--stack-size", stack_size(), "--stack-rules", RULES]
    command += ["--objects", *env.Flatten(objects)]
    env.AddPostAction(image, [Action([command], "  CHECK $TARGET"), Action(check_models, None)])
    env.Depends(image, [RULES, LAYOUT, env.Glob("#tools/onestack/elfcheck/*.py")])


def generate(env: Any) -> None:
    """Called by SCons."""
    env.AddMethod(check_image, "CheckImage")


def exists(_env: Any) -> bool:
    """Called by SCons."""
    return True
