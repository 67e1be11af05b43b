# SPDX-License-Identifier: MIT
"""Fetch qemu-plugin.h, which Debian has in QEMU's source package only, into a folder.

By apt, from the archives that this system already uses, with their source packages switched on
for this one command.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

APT = Path("/etc/apt")
HEADER = "qemu-plugin.h"


def source_lists(folder: Path) -> None:
    """Write the lists of this system's archives as archives of source packages."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in [APT / "sources.list", *(APT / "sources.list.d").glob("*")]:
        if not file.is_file():
            continue
        text = file.read_text()
        if file.suffix == ".sources":
            text = re.sub(r"(?m)^Types:.*", "Types: deb-src", text)
        elif file.suffix == ".list":
            text = "".join(re.findall(r"(?m)^deb .*\n", text)).replace("deb ", "deb-src ")
        else:
            continue
        (folder / file.name).write_text(text)


def fetch(folder: Path) -> Path:
    """The header, in `folder`. CalledProcessError if apt cannot bring it."""
    target = folder / HEADER
    if target.exists():
        return target
    source_lists(folder / "sources")
    (folder / "lists/partial").mkdir(parents=True, exist_ok=True)
    here = folder.resolve()
    options = [
        f"Dir::Etc::SourceParts={here}/sources",
        "Dir::Etc::SourceList=/dev/null",
        f"Dir::State::Lists={here}/lists",
    ]
    apt = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
    for words in (["update"], ["source", "--download-only", "qemu"]):
        subprocess.run([*apt, *words], cwd=folder, check=True)
    with tarfile.open(next(folder.glob("qemu_*.orig.tar.*"))) as archive:
        member = next(m for m in archive if m.name.endswith(f"include/qemu/{HEADER}"))
        content = archive.extractfile(member)
        assert content is not None
        target.write_bytes(content.read())
    return target


if __name__ == "__main__":
    print(fetch(Path(sys.argv[1])))
