# SPDX-License-Identifier: MIT
"""The pytest plugin, tried on test files of its own with the toy kernel."""

from __future__ import annotations

import pytest

from conftest import TOY

pytest_plugins = ["pytester"]

KERNEL = f"""
import pytest
from pathlib import Path
from onestack.machine import MachineSpec
from onestack.pytest_plugin import Guest

@pytest.fixture(scope="session")
def guest_of():
    def make(options):
        ready = options.pop("ready", "toy: ready")
        toy = Path({str(TOY)!r})
        within = 2.0 if ready == "login:" else 30.0  # what never comes is not waited for long
        return Guest(MachineSpec(kernel=toy, memory=32, **options), (toy,), ready, within)
    return make
"""


def run(pytester: pytest.Pytester, test: str, *arguments: str) -> pytest.RunResult:
    pytester.makeconftest(KERNEL)
    pytester.makepyfile(test_it=test)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q", *arguments)


def test_machine_is_ready_and_its_options_count(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        pytestmark = pytest.mark.machine(cores=2)
        @pytest.mark.machine(icount=0)
        def test_one(machine, injector, images):
            from onestack.inject import Nmi
            assert machine.gdb.running
            delivery = injector.inject(Nmi(), at="user_loop")
            assert delivery.handler == images.resolve("nmi_entry")
            assert machine.spec.cores == 2 and machine.spec.icount == 0
        """,
    )
    result.assert_outcomes(passed=1)
    assert not (pytester.path / "build").exists()


def test_failure_keeps_artefacts_and_says_where(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def test_fails(machine, images):
            machine.run_to(images.resolve("syscall_entry"))
            assert False, "on purpose"
        """,
        "--junitxml=x.xml",
    )
    result.assert_outcomes(failed=1)
    folder = pytester.path / "build/results/test_it-test_fails"
    result.stdout.fnmatch_lines([f"*registers, backtrace: {folder}"])
    assert "toy: ready" in (folder / "console.log").read_text()
    assert "syscall_entry" in (folder / "backtrace.txt").read_text()
    assert "rip" in (folder / "registers.txt").read_text()
    assert "qmp_capabilities" in (folder / "qmp.log").read_text()
    assert str(folder) in (pytester.path / "x.xml").read_text()


def test_guest_that_does_not_get_ready_keeps_them_too(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        @pytest.mark.machine(ready="login:")
        def test_never(machine): pass
        """,
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no 'login:' on the console within 2 s"])
    registers = pytester.path / "build/results/test_it-test_never/registers.txt"
    assert "rip" in registers.read_text()


def test_shared_guest_is_one_until_a_test_fails(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        pytestmark = pytest.mark.machine(shared=True)
        pids = []
        def test_1(machine): pids.append(machine.pid)
        def test_2(machine): assert machine.pid == pids[0]
        @pytest.mark.machine(shared=False)
        def test_3(machine): assert machine.pid != pids[0]
        def test_4(machine): pids.append(machine.pid); assert False
        def test_5(machine): assert machine.pid not in pids
        """,
    )
    result.assert_outcomes(passed=4, failed=1)


def test_parallel_tests_do_not_clash(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        @pytest.mark.parametrize("n", range(6))
        def test_one(machine, n): assert machine.console.text.startswith("toy: ready")
        """,
        *("-n", "2"),
    )
    result.assert_outcomes(passed=6)


def test_verbose_shows_command_and_console(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_one(machine): pass", "--onestack-verbose", "-s")
    result.stdout.fnmatch_lines(["onestack: qemu-system-x86_64 *", "*toy: ready*"])


def test_no_kernel_is_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(machine): pass")
    result = pytester.runpytest_subprocess("-q")
    result.stdout.fnmatch_lines(["*no kernel: give --onestack-kernel*"])


def test_kernel_from_the_command_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(machine): machine.console.expect('toy: ready')")
    result = pytester.runpytest_subprocess("-q", f"--onestack-kernel={TOY}")
    result.assert_outcomes(passed=1)
