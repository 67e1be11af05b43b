# SPDX-License-Identifier: MIT
"""The harness as a package of its own: built, installed elsewhere, used without this repository."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from conftest import TOP, TOY

TOOLS = TOP / "tools"


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist, built without network from what the environment has."""
    folder = tmp_path_factory.mktemp("dist")
    for kind in ("build_wheel", "build_sdist"):
        code = f"import hatchling.build as b; b.{kind}({str(folder)!r})"
        done = run(sys.executable, "-c", code, cwd=TOOLS)
        assert done.returncode == 0, done.stderr
    return folder


def test_wheel_has_the_package_and_nothing_of_the_kernel(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    wanted = {"cli.py", "commands/boot.py", "gdbside.py", "report.html", "py.typed"}
    assert {f"onestack/{name}" for name in wanted} <= set(names)
    top = {name.split("/")[0] for name in names}
    assert len(top) == 2  # onestack and its .dist-info
    entry_points = next(name for name in names if name.endswith("entry_points.txt"))
    text = zipfile.ZipFile(wheel).read(entry_points).decode()
    assert "onestack = onestack.cli:main" in text
    assert "pytest11" in text


def test_sdist_builds_the_same_package(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "onestack/cli.py", "onestack/py.typed"} <= names


def test_no_module_imports_the_kernel() -> None:
    for file in (TOOLS / "onestack").rglob("*.py"):
        imports = re.findall(r"(?m)^(?:from|import) (\S+)", file.read_text())
        assert not {name for name in imports if name.startswith(("kernel", "tests", "conftest"))}


@pytest.fixture(scope="module")
def stranger(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment outside the repository that has the wheel; PyPI brings the rest."""
    folder = tmp_path_factory.mktemp("stranger")
    run(sys.executable, "-m", "venv", "env", cwd=folder)
    [wheel] = built.glob("*.whl")
    done = run("env/bin/pip", "install", "-q", wheel, "pytest", "pytest-xdist", cwd=folder)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip(f"pip reaches no package index: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_stranger_sweeps_a_kernel(stranger: Path) -> None:
    kernel = stranger / "toy.elf"
    kernel.write_bytes(TOY.read_bytes())
    onestack = "env/bin/onestack"
    done = run(onestack, "init", kernel, "--memory", "32", "--defaults", cwd=stranger)
    assert done.returncode == 0, done.stderr
    words = ("sweep", "toy.toml", "--path", "user_null", "-j", "1", "-o", "sweep.json")
    done = run(onestack, *words, "--html", "sweep.html", cwd=stranger)
    assert done.returncode == 1
    assert "user_null/nmi: 22 boundaries: 17 survived, 5 corrupted" in done.stdout
    done = run(onestack, "step", "toy.toml", cwd=stranger)
    assert "pip install textual" in done.stderr


TESTS = """
import pytest

@pytest.mark.machine(memory=32)
@pytest.mark.parametrize("number", range(4))
def test_ready(machine, number):
    machine.console.expect("toy: ready")

@pytest.mark.machine(memory=32)
def test_fails(machine):
    machine.console.expect("toy: ready")
    assert False
"""


def test_pytest_plugin_with_junit_and_xdist(stranger: Path) -> None:
    (stranger / "toy.elf").write_bytes(TOY.read_bytes())
    (stranger / "test_toy.py").write_text(TESTS)
    words = ("-q", "-n", "2", "--onestack-kernel", "toy.elf", "--junitxml", "junit.xml")
    done = run("env/bin/pytest", *words, "test_toy.py", cwd=stranger)
    assert "4 passed" in done.stdout
    assert "1 failed" in done.stdout
    assert "console, QMP, registers, backtrace:" in done.stdout
    [kept] = (stranger / "build/results").iterdir()
    assert "toy: ready" in (kept / "console.log").read_text()
    xml = (stranger / "junit.xml").read_text()
    assert 'tests="5"' in xml
    assert 'failures="1"' in xml
    assert f'name="onestack" value="{kept}"' in xml
