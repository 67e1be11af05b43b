# SPDX-License-Identifier: MIT
"""Coverage: from a plugin's counts to lines, and what machines are given."""

from __future__ import annotations

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
    first, second = (images.resolve(f"syscall_entry{at}") for at in ("", "+0x3"))
    counts(tmp_path, "17", [first])
    counts(tmp_path, "18", [second], (7, 0, 9))
    (tmp_path / "index.html").write_text("not a count")
    measured = coverage.measure(TOY, tmp_path)
    [(file, lines)] = measured.files.items()
    assert file.endswith("toy.S")
    assert measured.hit == 2
    reached = [number for number, done in lines.items() if done]
    assert reached[1] == reached[0] + 1  # swapgs, and the mov after it
    assert coverage.Counts(tmp_path / "18").cpus == [7, 0, 9]
    coverage.write_html(measured, tmp_path / "index.html")
    assert 'class="y"' in (tmp_path / "index.html").read_text()


def test_counts_of_another_kernel_are_refused(tmp_path: Path) -> None:
    (tmp_path / "9").write_bytes(array("Q", [0] * coverage.HEAD).tobytes())
    with pytest.raises(UsageError, match="is of another kernel"):
        coverage.measure(TOY, tmp_path)


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
