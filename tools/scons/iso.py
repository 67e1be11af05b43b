# SPDX-License-Identifier: MIT
"""Site tool: a CD image that boots under BIOS and under UEFI.

`env.Iso(target, kernel, module)` stages both files with iso/grub.cfg and has grub-mkrescue make the
image. GRUB loads every section of an ELF file that it can, so debug information is left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from SCons.Script import Action

# What grub.cfg needs; each exists for both platforms. Without a list all of them go in: 15 MB more.
MODULES = ["configfile", "iso9660", "multiboot2", "normal", "part_msdos", "search"]
PLATFORMS = ["/usr/lib/grub/i386-pc", "/usr/lib/grub/x86_64-efi"]
PROGRAMS = ["grub-mkrescue", "xorriso", "mformat"]


def make_iso(target: list[Any], source: list[Any], env: Any) -> int:  # noqa: ARG001
    """Builder action: SOURCE is kernel, module and grub.cfg."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    lacking += [folder for folder in PLATFORMS if not Path(folder).is_dir()]
    if lacking:
        print(f"missing tool: {' '.join(lacking)}; tools/env scons iso installs it",
              file=sys.stderr)  # fmt: skip
        return 1
    kernel, module, config = (node.abspath for node in source)
    with tempfile.TemporaryDirectory() as folder:
        boot = Path(folder, "boot")
        (boot / "grub").mkdir(parents=True)
        for program, name in ((kernel, "kernel.elf"), (module, "init.elf")):
            strip = ["objcopy", "--strip-debug", program, boot / name]
            subprocess.run(strip, check=True)
        shutil.copy(config, boot / "grub/grub.cfg")
        options = ["--locales=", "--themes=", "--fonts=", f"--install-modules={' '.join(MODULES)}"]
        command = ["grub-mkrescue", *options, "-o", target[0].abspath, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout + done.stderr, file=sys.stderr)
    return done.returncode


def iso(env: Any, target: str, kernel: Any, module: Any) -> Any:
    """Declare the image TARGET."""
    sources = [kernel, module, env.File("#iso/grub.cfg")]
    return env.Command(target, sources, Action(make_iso, "  ISO   $TARGET"))


def generate(env: Any) -> None:
    """Called by SCons."""
    env.AddMethod(iso, "Iso")


def exists(_env: Any) -> bool:
    """Called by SCons."""
    return True
