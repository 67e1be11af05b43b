# SPDX-License-Identifier: MIT
"""The build itself: options, generated constants, the same bytes for the same tree."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
SCONS = [sys.executable, "-m", "SCons", "-Q"]


def scons(
    folder: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [*SCONS, *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def copy_tree(target: Path) -> Path:
    """The sources of this tree as they are now, without anything built."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=TOP, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (TOP / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, target / name)
    return target


def products(tree: Path) -> dict[str, str]:
    """Digest of every object and image of ours below build/; the toy kernel is built by hand."""
    return {
        str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((tree / "build").rglob("*"))
        if path.suffix in {".o", ".elf"} and "foreign" not in path.parts
    }


def test_unknown_option_is_refused_with_the_valid_ones() -> None:
    done = scons(TOP, "-n", "entri=tcb")
    assert done.returncode == 2
    assert "no such option: entri" in done.stderr
    for option in ("entry", "nmi", "debug", "toolchain", "tests"):
        assert option in done.stderr


@pytest.mark.parametrize(
    ("option", "valid"),
    [("entry=tbc", "tcb"), ("nmi=rsp1", "rsp0"), ("toolchain=tcc", "clang"), ("debug=2", "1")],
)
def test_unknown_value_is_refused_with_the_valid_ones(option: str, valid: str) -> None:
    done = scons(TOP, "-n", option)
    assert done.returncode == 2
    name, value = option.split("=")
    assert name in done.stderr
    assert value in done.stderr
    assert valid in done.stderr


def test_help_explains_every_option_and_command() -> None:
    text = scons(TOP, "-h").stdout
    for word in ("entry", "nmi", "debug", "cores", "scons run", "scons test", "scons check"):
        assert f"\n{word}" in f"\n{text}"


def test_missing_tool_is_named(tmp_path: Path) -> None:
    for program in ("as", "ld", "ar"):
        (tmp_path / program).symlink_to(shutil.which(program) or "/nowhere")
    done = scons(TOP, "-n", env={**os.environ, "PATH": str(tmp_path)})
    assert done.returncode == 2
    assert "missing tool: gcc" in done.stderr


OFFSETS_PROJECT = """
env = Environment(tools=["gcc", "gas", "freestanding", "offsets"], toolpath=["{tools}"],
                  toolchain="{toolchain}", debug=False)
env.Freestanding(kernel=False)
env.Append(ASPPFLAGS=["-I."])
env.Offsets("offsets.h", "offsets.c")
env.Object("use.S")
"""


@pytest.mark.parametrize("toolchain", ["gcc", "clang"])
def test_an_edited_struct_reaches_the_assembly_at_once(tmp_path: Path, toolchain: str) -> None:
    """Edit, build, edit within a second: mtimes of whole seconds do not show the second edit."""
    project = OFFSETS_PROJECT.format(tools=TOP / "tools" / "scons", toolchain=toolchain)
    (tmp_path / "SConstruct").write_text(project)
    scripts = tmp_path / "tools" / "scons"
    scripts.mkdir(parents=True)
    shutil.copy(TOP / "tools/scons/offsets_c.h", scripts)
    (tmp_path / "offsets.c").write_text(
        '#include "point.h"\nvoid offsets(void);\nvoid offsets(void)\n{\n'
        "    OFFSET(POINT_Y, struct point, y);\n    DEFINE(LOWEST, -5);\n"
        "    DEFINE(HIGHEST, 0xffffffffc0000000);\n}\n"
    )
    (tmp_path / "use.S").write_text('#include "offsets.h"\n.quad POINT_Y, LOWEST, HIGHEST\n')
    seen = set()
    for words in (1, 2, 5, 3):
        (tmp_path / "point.h").write_text(f"struct point {{ long x[{words}]; long y; }};\n")
        done = scons(tmp_path)
        assert done.returncode == 0, done.stderr
        header = (tmp_path / "offsets.h").read_text()
        assert f"#define POINT_Y {words * 8:#x}\n" in header
        binary = tmp_path / "use.bin"
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", "use.o", binary],
                       cwd=tmp_path, check=True)  # fmt: skip
        numbers = [int.from_bytes(binary.read_bytes()[at : at + 8], "little", signed=True)
                   for at in (0, 8, 16)]  # fmt: skip
        assert numbers == [words * 8, -5, -(1 << 30)]
        seen.add(numbers[0])
    assert len(seen) == 4


def test_offsets_file_without_constants_fails(tmp_path: Path) -> None:
    project = OFFSETS_PROJECT.format(tools=TOP / "tools" / "scons", toolchain="gcc")
    (tmp_path / "SConstruct").write_text(project)
    (tmp_path / "tools" / "scons").mkdir(parents=True)
    shutil.copy(TOP / "tools/scons/offsets_c.h", tmp_path / "tools/scons")
    (tmp_path / "offsets.c").write_text("int nothing;\n")
    (tmp_path / "use.S").write_text('#include "offsets.h"\n')
    done = scons(tmp_path)
    assert done.returncode == 2
    assert "defines no OFFSET" in done.stdout


def named_models(top: Path, models: list[str]) -> list[str]:
    """What tools/scons/model_names.py finds in TOP."""
    code = "import sys; from pathlib import Path; from model_names import named_models\n"
    code += "print(*named_models(Path(sys.argv[1]), sys.argv[2:]), sep='\\n')"
    command = [sys.executable, "-c", code, str(top), *models]
    env = {**os.environ, "PYTHONPATH": str(TOP / "tools" / "scons")}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "line",
    [
        '#include "kernel/arch/entry/percpu.h"',
        "#ifdef CONFIG_ENTRY_TCB",
        "#if defined(ENTRY_MODEL_PERCPU)",
        "    if (MODEL_TCB) {",
        "#if PERCPU",
    ],
)
def test_source_that_asks_for_its_entry_model(tmp_path: Path, line: str) -> None:
    models = ["percpu", "tcb"]
    inside = tmp_path / "kernel/arch/entry/tcb.S"
    outside = tmp_path / "kernel/sched.c"
    inside.parent.mkdir(parents=True)
    inside.write_text(line)
    outside.write_text('#include "entry_model.h"\n/* of the tcb model */\nstruct tcb *tcb;\n')
    assert [found for found in named_models(tmp_path, models) if found] == []
    outside.write_text(f"\n{line}\n")
    assert named_models(tmp_path, models)[0].startswith("kernel/sched.c:2:")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in which scons has run once."""
    tree = copy_tree(tmp_path_factory.mktemp("here"))
    done = scons(tree)
    assert done.returncode == 0, done.stdout + done.stderr
    return tree


def test_same_tree_gives_the_same_bytes_wherever_it_stands(built: Path, tmp_path: Path) -> None:
    there = copy_tree(tmp_path / "another" / "place")
    done = scons(there)
    assert done.returncode == 0, done.stdout + done.stderr
    first = products(built)
    assert len(first) > 100
    assert first == products(there)
    for name in first:
        assert str(built).encode() not in (built / name).read_bytes()


def test_nothing_to_do_the_second_time(built: Path) -> None:
    done = scons(built)
    assert done.returncode == 0
    assert set(done.stdout.split()) & {"CC", "AS", "LINK", "CHECK", "STRIP"} == set()
