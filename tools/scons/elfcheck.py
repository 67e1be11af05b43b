# SPDX-License-Identifier: MIT
"""Site tool: the build fails if onestack.elfcheck finds something wrong with the kernel.

`env.CheckImage(image, objects)` adds the check to what makes the image.
So no image counts as built that has not passed.
"""

from __future__ import annotations

import sys
from typing import Any

from SCons.Script import Action


def check_image(env: Any, image: Any, objects: Any) -> None:
    """Add the check to the actions of IMAGE, linked from OBJECTS; reads kernel/stack.toml."""
    rules = env.File("#kernel/stack.toml")
    command = [
        sys.executable, "-m", "onestack.elfcheck", "$TARGET",
        "--stack-size", "kernel/arch/layout.h:STACK_SIZE", "--stack-rules", rules,
        "--models", *env["ENTRY_MODELS"], "--objects", *env.Flatten(objects),
    ]  # fmt: skip
    env.AddPostAction(image, Action([command], "  CHECK $TARGET"))
    env.Depends(image, [rules, env.Glob("#tools/onestack/elfcheck/*.py")])


def generate(env: Any) -> None:
    """Called by SCons."""
    env.AddMethod(check_image, "CheckImage")


def exists(_env: Any) -> bool:
    """Called by SCons."""
    return True
