# SPDX-License-Identifier: MIT
"""Debian's cloud kernel, fetched by apt, with an initramfs of ours: what linux.toml boots.

Run as a program it makes build/foreign/linux/ and says what is there.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent.parent / "build/foreign/linux"
PACKAGE = "linux-image-cloud-amd64"  # depends on the current one
REGULAR, DIRECTORY, DEVICE = 0o100755, 0o040755, 0o020600


class NotFetchedError(Exception):
    """The package cannot be had here."""


def _run(*command: str, cwd: Path | None = None) -> bytes:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise NotFetchedError(str(error)) from error
    if done.returncode:
        last = done.stderr.decode().strip().splitlines()[-1:]
        raise NotFetchedError(f"{' '.join(command)}: {' '.join(last)}")
    return done.stdout


def _newest() -> str:
    """The package that the current cloud kernel is in."""
    for line in _run("apt-cache", "depends", PACKAGE).decode().splitlines():
        word, _, package = line.strip().partition(" ")
        if word == "Depends:" and package.startswith("linux-image-"):
            return package
    raise NotFetchedError(f"apt knows no {PACKAGE}")


def _kernel(folder: Path) -> None:
    """Take the kernel out of the package, both by apt's own tools; check that it is one."""
    name = _newest()
    if not list(folder.glob(f"{name}_*.deb")):
        _run("apt-get", "-qq", "download", name, cwd=folder)
    package = next(iter(folder.glob(f"{name}_*.deb")))
    with tarfile.open(fileobj=BytesIO(_run("dpkg-deb", "--fsys-tarfile", str(package)))) as files:
        member = next(m for m in files if m.name.startswith("./boot/vmlinuz-"))
        content = files.extractfile(member)
        assert content is not None
        (folder / "vmlinuz").write_bytes(content.read())


def cpio(name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One file of an initramfs, in the `newc` format."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return b"".join(part + b"\0" * (-len(part) % 4) for part in (head, content))


def _initramfs(folder: Path) -> None:
    """The one program, and the console that the kernel opens for it."""
    program = folder / "init"
    source = HERE / "linux/init.S"
    link = ("-g", "-static", "-nostdlib", "-no-pie", "-Wl,-z,noexecstack", "-Wl,--build-id=none")
    subprocess.run(["gcc", *link, "-o", program, source], check=True)
    parts = [
        cpio("dev", DIRECTORY),
        cpio("dev/console", DEVICE, device=(5, 1)),
        cpio("init", REGULAR, program.read_bytes()),
        cpio("TRAILER!!!", 0),
    ]
    (folder / "initramfs.cpio").write_bytes(b"".join(parts))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Tests run side by side, and each calls make()."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make() -> Path:
    """Make what linux.toml names; its folder. NotFetchedError if apt cannot bring the package."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with _alone(FOLDER):
        if not (FOLDER / "vmlinuz").exists():
            _kernel(FOLDER)
        _initramfs(FOLDER)
    return FOLDER


if __name__ == "__main__":
    try:
        print(f"{make()}: {', '.join(sorted(file.name for file in FOLDER.iterdir()))}")
    except NotFetchedError as problem:
        sys.exit(f"no {PACKAGE} here: {problem}")
