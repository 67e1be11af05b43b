# SPDX-License-Identifier: MIT
"""TCG plugins: small C programs that QEMU loads and that see every instruction of the guest.

QEMU's header for them is not needed: qemu.h declares what they use.
"""

from __future__ import annotations

import os
import subprocess
from importlib import resources
from pathlib import Path

from onestack.errors import OnestackError

FLAGS = ("-std=gnu17", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC")


class PluginError(OnestackError):
    """A plugin cannot be compiled."""


def build(name: str, folder: Path) -> Path:
    """Compile the plugin NAME into FOLDER, unless its newest compilation is there already.

    Its sources are NAME.c and, if it has more, NAME_*.c.
    """
    with resources.as_file(resources.files("onestack.plugins")) as sources:
        made = folder / f"{name}.so"
        newest = max(file.stat().st_mtime for file in sources.glob("*.[ch]"))
        if made.exists() and made.stat().st_mtime > newest:
            return made
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f"{name}.{os.getpid()}.so"
        parts = [sources / f"{name}.c", *sorted(sources.glob(f"{name}_*.c"))]
        command = ["gcc", *FLAGS, "-o", str(fresh), *map(str, parts)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise PluginError("no gcc to compile a plugin of QEMU's", "Install gcc") from None
        if done.returncode:
            raise PluginError(f"the plugin {name} does not compile: {done.stderr.strip()}")
        fresh.replace(made)  # others may be using the old one
    return made
