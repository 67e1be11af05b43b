# SPDX-License-Identifier: MIT
"""What the boot tests share."""

from __future__ import annotations

import pytest
from boot_kernel import KERNEL

from onestack.elf import Image


@pytest.fixture(scope="session")
def image() -> Image:
    """The kernel's ELF file."""
    assert KERNEL.is_file(), f"{KERNEL} is missing: run `tools/env scons` first"
    return Image(KERNEL)
