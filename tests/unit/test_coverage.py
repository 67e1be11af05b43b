# SPDX-License-Identifier: MIT
"""Coverage: from a plugin's counts to lines, and what machines are given."""

from __future__ import annotations

import sys
from array import array
from pathlib import Path

import pytest

from conftest import TOY, toy_spec
from onestack import coverage, plugins
from onestack.elf import Image, Images
from onestack.errors import UsageError
from onestack.machine import Machine


def counts(folder: Path, name: str, addresses: list[int], cpus: tuple[int, ...] = (5,)) -> None:
    """A file as the plugin leaves it."""
    code = coverage.code_range(Image(TOY))
    words = [0] * (coverage.HEAD + len(code))
    words[0], words[1] = code.start, code.stop
    first = 2 * coverage.MAX_RANGES
    words[first : first + len(cpus)] = cpus
    for address in addresses:
        words[coverage.HEAD + address - code.start] = 3
    (folder / name).write_bytes(array("Q", words).tobytes())


def test_lines_of_several_machines_together(tmp_path: Path) -> None:
    images = Images.load(TOY)
    code = coverage.code_range(Image(TOY))
    first, second = (images.resolve(f"syscall_entry{at}") for at in ("", "+0x3"))
    counts(tmp_path, "17", [first])
    counts(tmp_path, "18", [second], (7, 0, 9))
    assert coverage.Counts(tmp_path / "18").cpus == [7, 0, 9]
    (tmp_path / "19").touch()  # a machine that is just starting
    measured = coverage.measure(TOY, coverage.executed(tmp_path.iterdir(), code))
    [(file, lines)] = measured.files.items()
    assert file.endswith("toy.S")
    assert measured.hit == 2
    reached = [number for number, done in lines.items() if done]
    assert reached[1] == reached[0] + 1  # swapgs, and the mov after it
    coverage.write_html(measured, tmp_path / "index.html")
    assert 'class="y"' in (tmp_path / "index.html").read_text()


def test_counts_of_another_kernel_are_refused(tmp_path: Path) -> None:
    words = [0x1000, 0x2000, *([0] * coverage.HEAD)]
    (tmp_path / "9").write_bytes(array("Q", words).tobytes())
    with pytest.raises(UsageError, match="is of another kernel"):
        coverage.executed(tmp_path.iterdir(), coverage.code_range(Image(TOY)))


# Stands for a test file with one machine: counts the instruction that the piece names.
PIECE = """
import os, sys
sys.path[:0] = {path!r}
from pathlib import Path
from test_coverage import counts
from onestack import coverage
from onestack.elf import Images
folder = Path(os.environ[coverage.VARIABLE].split("\\n")[2])
counts(folder, "1", [Images.load(Path({toy!r})).resolve(sys.argv[1])])
print("counted")
sys.exit(sys.argv[1] == "syscall_exit")
"""


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    script, folder = tmp_path / "piece.py", tmp_path / "counts"
    script.write_text(PIECE.format(path=sys.path, toy=str(TOY)))
    command, pieces = [sys.executable, str(script)], ["syscall_entry", "syscall_exit"]
    asked = coverage.Run(TOY, folder)
    running = asked.run(command, pieces)
    piece, said = next(running)
    assert said == "counted"
    running.close()  # stopped; the other has been at it, which does not count
    assert [name for name, status in asked.status.items() if status is not None] == [piece]
    again = coverage.Run(TOY, folder)
    [[other, _]] = again.run(command, pieces)
    assert {piece, other} == set(pieces)
    assert again.status == {"syscall_entry": 0, "syscall_exit": 1}
    images = Images.load(TOY)
    assert coverage.Run(TOY, folder).reached() == {images.resolve(name) for name in pieces}
    assert len(list(coverage.Run(TOY, folder).run(command, pieces))) == 2  # it was done: anew
    list(coverage.Run(TOY, folder).run(command, pieces[:1]))  # another run
    assert coverage.Run(TOY, folder).reached() == {images.resolve("syscall_entry")}


def test_pieces_are_files(tmp_path: Path) -> None:
    for name in ("b/test_2.py", "a/test_1.py", "a/helper.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    first, second = (str(tmp_path / name) for name in ("a/test_1.py", "b/test_2.py"))
    assert coverage.pieces_of([str(tmp_path)]) == [first, second]
    assert coverage.pieces_of([second]) == [second]
    assert coverage.pieces_of([first, "-k", "x"]) == [f"{first} -k x"]


def test_only_machines_of_that_kernel_count(monkeypatch: pytest.MonkeyPatch) -> None:
    assert coverage.plugin_arguments(toy_spec().kernel) == []
    monkeypatch.setenv(coverage.VARIABLE, f"/p.so\n{TOY.resolve()}\n/folder")
    [option, words] = coverage.plugin_arguments(TOY)
    assert option == "-plugin"
    assert words.startswith("/p.so,out=/folder,range=0x2")
    assert coverage.plugin_arguments(TOY.parent / "toy.iso") == [option, words]  # it is in there
    for other in (Path("/other"), Path("/toy.iso"), TOY.with_name("toy32.elf")):
        assert coverage.plugin_arguments(other) == []


def test_a_machine_is_counted(tmp_path: Path) -> None:
    """By the plugin itself: the toy's loop of user code runs its instructions equally often."""
    image = Image(TOY)
    code = [range(start, start + len(content)) for start, content in image.code()]
    start, end = (image.symbol(name).address for name in ("user_loop", "user_null"))
    plugin = plugins.build("executed", tmp_path / "plugins")
    spec = toy_spec(icount=0, args=tuple(coverage.arguments(plugin, tmp_path, code)))
    with Machine(spec) as machine:
        machine.console.expect("toy: ready", 10.0)
        machine.run_to(end, 10.0)
        counts = coverage.Counts(tmp_path / str(machine.pid))
    executed = counts.executed()
    rounds = {executed[i.address] for i in image.disassemble(start, end)}
    assert max(rounds) - min(rounds) <= 1
    assert sum(executed.values()) <= counts.cpus[0]


def test_a_plugin_that_does_not_compile(tmp_path: Path) -> None:
    with pytest.raises(plugins.PluginError, match="nonesuch does not compile"):
        plugins.build("nonesuch", tmp_path)
