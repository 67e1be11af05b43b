# SPDX-License-Identifier: MIT
"""tools/env: what it installs for which command, what it says when it cannot, how quick it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement

TOP = Path(__file__).resolve().parents[2]
ENV = TOP / "tools" / "env"


@pytest.fixture
def env(tmp_path: Path) -> ModuleType:
    """tools/env as a module, for a tree of its own below TMP_PATH."""
    loader = SourceFileLoader("onestack_env", str(ENV))
    spec = spec_from_loader("onestack_env", loader)
    assert spec is not None
    module: Any = module_from_spec(spec)
    loader.exec_module(module)
    module.TOP = tmp_path
    module.TOOLS = tmp_path / "tools"
    module.VENV = tmp_path / ".venv"
    module.TOOLS.mkdir()
    for name in ("requirements.lock", "requirements-run.lock", "pyproject.toml"):
        (module.TOOLS / name).write_text(f"# {name}\n")
    return module  # type: ignore[no-any-return]


class Installer:
    """Stands for apt: keeps the commands."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def __call__(self, command: Sequence[str], what: str) -> None:
        assert what
        self.commands.append(list(command))


@pytest.mark.parametrize(
    ("command", "group"),
    [
        ("scons", "RUN"),
        ("scons run", "RUN"),
        ("scons debug=1 run", "RUN"),
        ("onestack boot kernel.elf", "RUN"),
        ("scons cores=2 gdb", "GDB"),
        ("onestack gdb kernel.toml", "GDB"),
        ("scons test", "TEST"),
        ("scons -k check", "TEST"),
        ("scons iso", "TEST"),
        ("scons toolchain=clang", "TEST"),
        ("pytest tests/unit", "TEST"),
        ("/somewhere/pytest", "TEST"),
    ],
)
def test_group_follows_from_the_command(env: Any, command: str, group: str) -> None:
    assert env.group_for(command.split()) is getattr(env, group)


def test_running_needs_a_part_of_what_testing_needs(env: Any) -> None:
    assert env.RUN.items() < env.GDB.items() < env.TEST.items()
    assert set(env.GDB) - set(env.RUN) == {"gdb"}


@pytest.mark.parametrize(
    ("command", "lock"),
    [
        ("scons run", "run"),
        ("scons gdb", "run"),
        ("/here/.venv/bin/onestack boot kernel.elf", "run"),
        ("onestack step kernel.toml", "full"),  # Textual
        ("scons test", "full"),
        ("python tests/bench/figures.py", "full"),
        ("mypy tools", "full"),
    ],
)
def test_python_packages_follow_from_the_command(env: Any, command: str, lock: str) -> None:
    wanted = env.RUN_LOCK if lock == "run" else env.FULL_LOCK
    assert env.lock_for(command.split()) == wanted


def entries(name: str) -> dict[str, str]:
    """A lock's packages: name and version -> what is said of it."""
    blocks = re.split(r"(?m)^(?=\w)", (TOP / "tools" / name).read_text())
    return {block.splitlines()[0]: block.rstrip() for block in blocks if "==" in block[:80]}


def test_the_lock_for_running_is_what_that_needs(env: Any) -> None:
    """Nothing else, no other version: whoever tests later adds to it."""
    few, all_of_them = entries(env.RUN_LOCK), entries(env.FULL_LOCK)
    assert few.items() < all_of_them.items()
    needed, new = set[str](), {"onestack", "scons", "hatchling", "editables"}
    while new:
        needed |= new
        texts = [text for name in new for text in metadata.requires(name) or ()]
        found = [Requirement(text) for text in texts if "extra ==" not in text]
        names = {one.name.lower().replace(".", "-") for one in found if applies(one)}
        new = names - needed
    assert {line.partition("==")[0] for line in few} == needed - {"onestack"}


def applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate()


def test_a_program_or_a_file_shows_that_a_package_is_there(env: Any, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.touch()
    group = {"a": "sh", "z": "no-such-program", "b": str(here), "c": str(tmp_path / "gone")}
    assert env.missing_packages(group) == ["c", "z"]


def tools(*names: str) -> Any:
    """A shutil.which that finds NAMES only."""
    return lambda name, **_: f"/usr/bin/{name}" if name in names else None


def test_without_apt_it_names_what_is_missing(
    env: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(env.shutil, "which", tools())
    with pytest.raises(SystemExit) as stopped:
        env.install_system_packages(["gcc", "xorriso"])
    assert stopped.value.code == 1
    assert "missing: gcc xorriso" in capsys.readouterr().err


def test_without_root_and_sudo_it_says_what_to_install(
    env: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(env.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(env.shutil, "which", tools("apt-get"))
    with pytest.raises(SystemExit):
        env.install_system_packages(["gcc"])
    assert "As root: apt-get install gcc" in capsys.readouterr().err


@pytest.mark.parametrize(("user", "start"), [(0, ["env"]), (1000, ["/usr/bin/sudo", "env"])])
def test_installs_by_apt(
    env: Any, monkeypatch: pytest.MonkeyPatch, user: int, start: list[str]
) -> None:
    installer = Installer()
    monkeypatch.setattr(env.os, "geteuid", lambda: user)
    monkeypatch.setattr(env.shutil, "which", tools("apt-get", "sudo"))
    monkeypatch.setattr(env, "run_logged", installer)
    env.install_system_packages(["gcc", "xorriso"])
    last = installer.commands[-1]
    assert last[: len(start)] == start
    assert last[-3:] == ["install", "gcc", "xorriso"]
    assert "DEBIAN_FRONTEND=noninteractive" in last


def test_an_installation_that_fails_shows_why(env: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        env.run_logged(["sh", "-c", "echo no such package; exit 100"], "apt-get install")
    said = capsys.readouterr().err
    assert "no such package" in said
    assert "apt-get install failed (status 100)" in said


def make_current(env: Any, lock: str = "requirements.lock") -> None:
    """Put the venv into the state that make_venv leaves."""
    stamps = env.stale_stamps(lock)
    (env.VENV / "bin").mkdir(parents=True)
    (env.VENV / "bin" / "python").symlink_to(sys.executable)
    for stamp, content in stamps.items():
        stamp.write_text(content)


def test_venv_is_made_again_only_for_what_changed(env: Any) -> None:
    lock, project = env.VENV / "lock.sha256", env.VENV / "project.sha256"
    full = env.FULL_LOCK
    assert set(env.stale_stamps(full)) == {lock, project}
    make_current(env)
    assert env.stale_stamps(full) == {}
    (env.TOOLS / "pyproject.toml").write_text("# second\n")
    assert set(env.stale_stamps(full)) == {project}
    (env.TOOLS / full).write_text("# second\n")
    assert set(env.stale_stamps(full)) == {lock, project}


def test_what_is_enough_for_testing_is_enough_for_running(env: Any) -> None:
    make_current(env, env.FULL_LOCK)
    assert env.stale_stamps(env.RUN_LOCK) == {}


def test_what_is_enough_for_running_is_not_for_testing(env: Any) -> None:
    make_current(env, env.RUN_LOCK)
    assert env.stale_stamps(env.RUN_LOCK) == {}
    assert set(env.stale_stamps(env.FULL_LOCK)) == {env.VENV / "lock.sha256"}


def test_venv_whose_python_is_gone_is_made_again(env: Any) -> None:
    make_current(env)
    python = env.VENV / "bin" / "python"
    python.unlink()
    python.symlink_to(env.VENV / "gone")
    assert len(env.stale_stamps(env.FULL_LOCK)) == 2


def test_python_without_venv_asks_for_the_package(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(env, "base_python", lambda: None)
    monkeypatch.setattr(env, "missing_packages", lambda _: [])
    monkeypatch.setattr(env, "install_system_packages", asked.extend)
    with pytest.raises(SystemExit):
        env.ensure(["scons"])  # still none after the installation: it says so
    assert asked == ["python3-venv"]


RACE = """
import sys, time
from importlib import metadata
from importlib.machinery import SourceFileLoader
from pathlib import Path
env = SourceFileLoader("env", sys.argv[1]).load_module()
env.VENV = Path(sys.argv[2])
env.missing_packages = lambda group: []
def make(stale, lock):
    with (env.VENV.parent / "made").open("a") as log:
        log.write("made\\n")
    time.sleep(0.5)
    (env.VENV / "bin").mkdir(parents=True)
    (env.VENV / "bin" / "python").touch()
    for stamp, content in stale.items():
        stamp.write_text(content)
env.make_venv = make
env.ensure(["true"])
assert env.stale_stamps(env.FULL_LOCK) == {}
"""


def test_two_at_once_make_one_venv(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", RACE, str(ENV), str(tmp_path / "venv")]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert (tmp_path / "made").read_text() == "made\n"


def test_the_real_one_is_quick_and_passes_status_and_arguments_on() -> None:
    before = os.times()
    done = subprocess.run([ENV, "sh", "-c", 'echo "$VIRTUAL_ENV $1"; exit 7', "sh", "two words"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    after = os.times()
    # CPU time: how long it takes on an idle machine, whatever else this one does
    used = [now - then for now, then in zip(after[2:4], before[2:4], strict=True)]
    assert sum(used) < 1
    assert done.returncode == 7
    assert done.stdout == f"{TOP / '.venv'} two words\n"


def test_unknown_command() -> None:
    done = subprocess.run([ENV, "no-such-command"], capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert "no such command: no-such-command" in done.stderr


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-run.lock"])
def test_lock_pins_everything_by_hash_and_names_no_address(name: str) -> None:
    lock = (TOP / "tools" / name).read_text()
    assert "://" not in lock
    entries = [line for line in lock.splitlines() if line[:1].isalnum()]
    assert len(entries) > 10
    assert all("==" in entry and entry.endswith("\\") for entry in entries)
    assert lock.count("--hash=sha256:") >= len(entries)
