# SPDX-License-Identifier: MIT
"""Checks of a linked kernel: what must hold of its bytes before anybody boots it.

`check_image` runs them all and returns the violations; `onestack check` is the same from a command
line. Each check has a planted violation in tests/unit/test_elfcheck.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from onestack.elfcheck.code import check_code
from onestack.elfcheck.image import Image, Violation
from onestack.elfcheck.layout import check_layout, check_object
from onestack.elfcheck.rules import StackRules
from onestack.elfcheck.shared import check_shared
from onestack.elfcheck.stack import check_depth, check_frames

__all__ = ["Image", "StackRules", "Violation", "check_image"]


def check_image(elf: Path, objects: Iterable[Path], rules: StackRules) -> list[Violation]:
    """All violations in ELF and in the OBJECTS it was linked from, empty if it is sound.

    Each object's stack usage is read from the .su file beside it, if there is one.
    """
    image = Image.load(elf)
    objects = list(objects)
    found = check_layout(image) + check_code(image) + check_shared(image)
    for path in objects:
        found += check_object(path, image)
    usage = [path.with_suffix(".su") for path in objects]
    found += check_frames([path for path in usage if path.exists()])
    found += check_depth(image, rules)
    return found
