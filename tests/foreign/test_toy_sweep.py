# SPDX-License-Identifier: MIT
"""The sweep finds the toy kernel's well-known holes, and planted faults, at the right places."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path as FilePath

import pytest
from toy_target import COPY, IRQ, NULL, PATHS, STACKS, YIELD, target

from conftest import wait_gone
from onestack.campaign import Campaign, Labels, Part, PartResult
from onestack.elf import Images
from onestack.errors import UsageError
from onestack.events import Event, standard_events
from onestack.inject import Irq
from onestack.oracle import UserOracle, View
from onestack.patch import PatchFault
from onestack.path import Boundary, Marks, Path, PathError, select
from onestack.registers import Registers
from onestack.sweep import REFERENCE_ROUNDS, STEPPED, Cell, Sweeper, UnreachedError
from onestack.sweep_files import write
from onestack.symbolize import Symbolizer

EVENTS = standard_events(breakpoint_at="nmi_nop")
NMI = EVENTS["nmi"]
CPU_TICKS = 24  # toy.S: in percpu
TIMER_VECTOR = 0x20  # toy.S


def sweep(path: Path, event: Event, *faults: PatchFault, limit: int = 0) -> PartResult:
    campaign = Campaign(target(*faults, patience=1.0), [Part(path, event)], limit=limit)
    [result] = campaign.run()
    assert not result.unreached
    return result


def failed_at(result: PartResult, images: Images) -> list[str]:
    """The instructions at which the guest did not survive, as assembly without operands."""
    cells = result.failures
    found = []
    for cell in cells:
        instruction = images.instruction(cell.boundary.address)
        assert instruction is not None
        found.append(f"{images.name(cell.boundary.address)} {instruction.mnemonic}")
    return found


# ---- the holes that a naive kernel has


def test_system_call_has_both_holes_on_either_side(toy_images: Images) -> None:
    result = sweep(NULL, NMI)
    assert failed_at(result, toy_images) == [
        "syscall_entry swapgs",
        "syscall_entry+0x3 mov",  # saves the user's stack pointer
        "syscall_entry+0xc mov",  # loads the kernel's
        "syscall_exit+0x5 swapgs",
        "syscall_exit+0x8 sysretq",
    ]
    details = [cell.detail for cell in result.failures]
    assert all("user stack changed from rsp-0x" in detail for detail in details)
    # only before the first swapgs and after the last one is the NMI counted in the user's memory
    assert ["user_tls" in detail for detail in details] == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_interrupt_has_the_swapgs_hole_on_either_side(toy_images: Images) -> None:
    result = sweep(IRQ, NMI)
    places = failed_at(result, toy_images)
    assert places[-2:] == ["trap_return+0x21 add", "trap_return+0x25 iretq"]
    assert places[-3] == "trap_common+0x7 swapgs"
    assert len(places) == 8
    assert all("user_tls" in cell.detail for cell in result.failures)
    assert not any("user stack" in cell.detail for cell in result.failures)


def test_switch_has_the_holes_of_both_threads(toy_images: Images) -> None:
    places = failed_at(sweep(YIELD, NMI), toy_images)
    assert {place: places.count(place) for place in places} == {
        "syscall_entry swapgs": 2,
        "syscall_entry+0x3 mov": 2,
        "syscall_entry+0xc mov": 2,
        "syscall_exit+0x5 swapgs": 2,
        "syscall_exit+0x8 sysretq": 2,
    }


def test_an_irq_does_no_harm(toy_images: Images) -> None:
    for path in PATHS:
        result = sweep(path, EVENTS["irq"])
        assert result.outcomes() == {"survived": len(result.cells)}, failed_at(result, toy_images)


def test_machine_check_without_cr4_mce_is_a_reset() -> None:
    result = sweep(NULL, EVENTS["mc"])
    assert result.outcomes() == {"reset": len(result.cells)}
    assert all("triple fault" in cell.detail for cell in result.failures)


@pytest.mark.parametrize("name", ["nmi-pair", "nmi+irq", "nmi-with-breakpoint"])
def test_more_than_an_nmi_does_the_harm_of_one(name: str, toy_images: Images) -> None:
    alone, more = sweep(NULL, NMI), sweep(NULL, EVENTS[name])
    assert set(failed_at(alone, toy_images)) <= set(failed_at(more, toy_images))


def test_two_cpus() -> None:
    campaign = Campaign(target(cores=2), [Part(NULL, NMI)])
    [result] = campaign.run()
    assert result.outcomes() == {"survived": 17, "corrupted": 5}


def test_of_a_string_instruction_first_second_and_last_repetition(
    toy_images: Images,
) -> None:
    result = sweep(COPY, NMI)
    visits = [cell.boundary for cell in result.cells]
    address = toy_images.resolve("copy_bytes")
    repeats = [visit for visit in visits if visit.address == address]
    # rcx 1000 and 999, and 0: QEMU comes to the instruction once more when nothing is left
    assert [visit.hit for visit in repeats] == [1, 2, 1001]
    assert [visit.step - repeats[0].step for visit in repeats] == [0, 1, 1000]
    assert result.instructions == len(visits) + 998
    assert all(cell.outcome == "survived" for cell in result.cells if cell.boundary in repeats)


def test_each_repetition_is_struck_where_it_should() -> None:
    with Sweeper(target()) as sweeper:
        sweeper.open(COPY, NMI)
        for boundary in select(sweeper.record()):
            sweeper.judge(boundary)
            if sweeper.images.name(boundary.address) == "copy_bytes":
                before = sweeper._view.before
                assert before is not None
                assert before["rcx"] == 1001 - boundary.hit


# ---- planted faults are found, and where


def test_clobbered_register_is_found_where_it_is_live(toy_images: Images) -> None:
    fault = PatchFault(
        "ecx", "nmi_entry+0xa", b"\xb9\x00\x00\x00\x00", expect="inc"
    )  # mov $0, %ecx
    places = failed_at(sweep(NULL, NMI, fault), toy_images)
    # rcx is the return address from SYSCALL to its push, and from its pop to SYSRET
    assert "syscall_entry+0x15 push" in places
    assert "syscall_entry+0x1f push" in places
    assert "syscall_entry+0x20 sti" not in places
    assert "syscall_exit+0x1 pop" not in places
    assert "syscall_exit+0x2 pop" in places


def test_endless_loop_is_a_hang_and_where() -> None:
    fault = PatchFault("loop", "nmi_nop", b"\xeb\xfe", length=6)
    result = sweep(NULL, NMI, fault, limit=2)
    assert result.outcomes() == {"hang": 2}
    assert result.failures[0].detail == "runs on at nmi_nop"


def test_halt_with_interrupts_off_is_a_panic() -> None:
    fault = PatchFault("halt", "nmi_nop", b"\xfa\xf4", length=6)
    result = sweep(NULL, NMI, fault, limit=2)
    assert result.outcomes() == {"panic": 2}
    assert result.failures[0].detail.startswith("halted with IF=0 at nmi_nop")


def test_panic_is_told_in_the_guests_own_words() -> None:
    fault = PatchFault("ud2", "nmi_nop", b"\x0f\x0b", length=6)
    result = sweep(NULL, NMI, fault, limit=2)
    assert result.outcomes() == {"panic": 2}
    assert "toy: panic: vector 0000000000000006" in result.failures[0].detail


def test_self_check_of_the_user_program_counts(toy_images: Images) -> None:
    # the end lies behind the program's checks: user_fail is reached before it
    result = sweep(Path("late", "user_null", ("user_yield",)), NMI)
    assert any("own check failed, at user_fail" in cell.detail for cell in result.failures)
    assert failed_at(result, toy_images)[0] == "syscall_entry swapgs"


def test_a_boundary_that_no_round_comes_to_is_not_judged() -> None:
    with Sweeper(replace(target(), patience=0.3)) as sweeper:
        sweeper.open(NULL, NMI)
        boundary = sweeper.record()[3]
        cell = sweeper.judge(replace(boundary, interrupts=not boundary.interrupts))
        assert cell.outcome is None
        assert cell.detail == "not in 16 rounds, and not in 8 that were stepped"
        assert sweeper.judge(boundary).outcome is not None  # and it goes on with the next


def test_for_a_visit_that_does_not_come_an_earlier_one_is_struck_and_named() -> None:
    with Sweeper(target()) as sweeper:
        sweeper.open(NULL, NMI)
        for boundary in sweeper.record():
            cell = sweeper.judge(replace(boundary, hit=boundary.hit + 40))
            assert cell.outcome == sweeper.judge(boundary).outcome
            assert cell.detail.endswith(
                f"struck at visit {boundary.hit}, for visit {boundary.hit + 40} did not come"
            )


def detour(_sweeper: Sweeper, _boundary: Boundary) -> None:
    """In place of Sweeper._reach."""
    raise UnreachedError("the path went another way")


def test_a_visit_that_rounds_do_not_bring_is_come_to_by_steps(
    monkeypatch: pytest.MonkeyPatch, toy_images: Images
) -> None:
    """As when it was recorded; the event strikes there, and is judged as ever."""

    monkeypatch.setattr(Sweeper, "_reach", detour)
    monkeypatch.setattr("onestack.sweep.DETOURS", 1)
    with Sweeper(target()) as sweeper:
        sweeper.open(COPY, NMI)
        for boundary in select(sweeper.record()):
            assert sweeper.judge(boundary).outcome is not None
            before = sweeper._view.before
            assert before is not None
            assert Marks.of(before) == boundary.marks
            if toy_images.name(boundary.address) == "copy_bytes":
                assert before["rcx"] == 1001 - boundary.hit


def test_and_if_not_by_these_then_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may bring what is there, or not, when the path is stepped as well."""
    tries = []
    by_steps = Sweeper._reach_by_steps

    def now_and_then(sweeper: Sweeper, boundary: Boundary) -> None:
        tries.append(boundary)
        if len(tries) < STEPPED:
            raise UnreachedError("not this time")
        by_steps(sweeper, boundary)

    monkeypatch.setattr(Sweeper, "_reach_by_steps", now_and_then)
    with Sweeper(target()) as sweeper:
        sweeper.open(NULL, NMI)
        boundary = sweeper.record()[3]
        monkeypatch.setattr(Sweeper, "_reach", detour)
        assert sweeper.judge(boundary).outcome is not None
    assert len(tries) == STEPPED


class Ticking(UserOracle):
    """The kernel's count of ticks is another one in each undisturbed round."""

    def learn(self, view: View, registers: Registers) -> None:
        ticks = self.images.resolve("percpu") + CPU_TICKS
        view.machine.gdb.write(ticks, (0x1000 + len(self._learned)).to_bytes(8, "little"))
        super().learn(view, registers)


def test_memory_that_varies_is_not_judged_and_named() -> None:
    """The kernel's counters: ticks come when they will; of the rest nothing is said."""
    oracle = partial(Ticking, memory=("percpu", "user_tls"))
    with Sweeper(replace(target(), oracle=oracle)) as sweeper:
        sweeper.open(Path("loop", "user_loop", ("user_null",)), None)
        said = "; ".join(sweeper.assumptions(sweeper.record()))
    found = re.search(r"percpu: (\d+) bytes differ between undisturbed rounds: not judged", said)
    assert found
    assert 1 <= int(found[1]) < 32
    assert "user_tls" not in said


# up to the sti; both threads come by there, so `after` says whose entry is meant
MASKED = Path("masked", "syscall_entry", ("syscall_entry+0x20",), after="user_null")


def test_event_that_cannot_arrive_is_lost() -> None:
    result = sweep(MASKED, EVENTS["irq"])
    assert result.outcomes() == {"lost": len(result.cells)}


@dataclass
class Preempting(UserOracle):
    """Before the path is recorded the timer strikes at its `after`: B comes to the start first."""

    struck: bool = False

    def stops(self, view: View) -> frozenset[int]:
        here = view.machine.gdb.registers(view.path.cpu).pc
        last = len(self._learned) == REFERENCE_ROUNDS and not self.struck
        if last and here == self.images.resolve(MASKED.after):
            Irq(TIMER_VECTOR).fire(view.machine)
            self.struck = True
        return super().stops(view)


def test_another_thread_that_comes_to_the_start_does_not_begin_a_round(toy_images: Images) -> None:
    with Sweeper(replace(target(), oracle=Preempting)) as sweeper:
        sweeper.open(MASKED, EVENTS["irq"])
        assert isinstance(sweeper.oracle, Preempting)
        assert sweeper.oracle.struck
        boundary = sweeper.record()[0]
        users = toy_images.range_of(STACKS["user A"])
        assert boundary.sp - 1 in users
        assert sweeper.judge(boundary).outcome == "lost"


def test_breakpoint_beside_a_nop_is_refused() -> None:
    event = Event("x", NMI.shots, plant="nmi_entry")
    with pytest.raises(UsageError, match="not nop"):
        sweep(NULL, event)


def test_path_that_leads_nowhere() -> None:
    nowhere = Path("nowhere", "user_null", ("panic",), undisturbed=False, max_instructions=200)
    with pytest.raises(PathError, match="does not reach panic within 200"):
        sweep(nowhere, NMI)


def test_every_injection_strikes_its_boundary(toy_images: Images) -> None:
    """The frame that the NMI pushes holds the boundary's address, at each of them."""
    with Sweeper(target()) as sweeper:
        sweeper.open(YIELD, NMI)
        gate = toy_images.resolve("nmi_entry")
        saved = []
        go = sweeper._go

        def watched(wanted: frozenset[int], *, exact: bool = False) -> object:
            registers = go(wanted, exact=exact)
            if registers.pc == gate:
                frame = sweeper.machine.gdb.read(registers.sp, 8)
                saved.append(int.from_bytes(frame, "little"))
            return registers

        sweeper._go = watched  # type: ignore[method-assign,assignment]
        visits = sweeper.record()
        for boundary in visits:
            assert sweeper.judge(boundary).outcome is not None
        assert saved == [boundary.address for boundary in visits]


# ---- the campaign around it


def test_processes_do_not_change_the_verdicts() -> None:
    parts = [Part(NULL, NMI), Part(IRQ, EVENTS["irq"]), Part(IRQ, NMI)]
    alone = Campaign(target(), parts).run()
    together = Campaign(target(), parts, processes=2).run()
    assert [r.cells for r in alone] == [r.cells for r in together]


def test_work_of_a_killed_worker_goes_to_another(capfd: pytest.CaptureFixture[str]) -> None:
    parts = [Part(NULL, NMI), Part(IRQ, NMI)]
    alone = Campaign(target(), parts).run()
    campaign = Campaign(target(), parts, processes=2)
    killed: list[int] = []

    def kill_one(_part: Part, _cell: Cell) -> None:
        if not killed:
            killed.extend(campaign.pids[:1])
            os.kill(killed[0], signal.SIGKILL)

    together = campaign.run(kill_one)
    assert [r.cells for r in alone] == [r.cells for r in together]
    said = f"process {killed[0]}, was killed (SIGKILL): its work goes to another"
    assert said in capfd.readouterr().err


def test_stopped_campaign_goes_on_where_it_stopped(tmp_path: FilePath) -> None:
    state = tmp_path / "state"
    parts = [Part(NULL, NMI), Part(IRQ, NMI)]
    whole = Campaign(target(), parts).run()
    seen: list[Cell] = []

    def stop_soon(_part: Part, cell: Cell) -> None:
        seen.append(cell)
        if len(seen) == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Campaign(target(), parts, state=state).run(stop_soon)
    state.write_text(state.read_text() + '{"part": "cut sho')  # killed while it wrote
    rest = Campaign(target(), parts, state=state)
    results = rest.run()
    assert rest.resumed == 25
    assert [r.cells for r in results] == [r.cells for r in whole]


def test_state_of_another_campaign_is_not_taken_over(tmp_path: FilePath) -> None:
    state = tmp_path / "state"
    Campaign(target(), [Part(NULL, NMI)], state=state, limit=4).run()
    fault = PatchFault("halt", "nmi_nop", b"\xfa\xf4", length=6)
    other = Campaign(target(fault), [Part(NULL, NMI)], state=state, limit=4)
    other.run()
    assert other.resumed == 0


def test_killed_campaign_leaves_no_process(tmp_path: FilePath) -> None:
    script = tmp_path / "campaign.py"
    script.write_text(
        "from toy_target import *\n"
        "from onestack.campaign import *\n"
        "from onestack.events import standard_events\n"
        "if __name__ == '__main__':\n"
        "    def tell(part, cell): print('one', flush=True)\n"
        "    parts = [Part(p, e) for p in PATHS for e in standard_events().values()]\n"
        "    Campaign(target(), parts, processes=2).run(tell)\n"
    )
    here = FilePath(__file__).resolve().parent
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": f"{here}:{here.parent}", "PATH": "/usr/bin:/bin"},
        text=True,
    ) as python:
        assert python.stdout is not None
        assert python.stdout.readline() == "one\n"
        family = descendants(python.pid)
        assert len(family) >= 4  # two workers, two QEMUs
        python.send_signal(signal.SIGKILL)
    for pid in family:
        assert wait_gone(pid), f"process {pid} outlived its campaign"


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    for task in FilePath(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def test_files_are_as_the_format_says(tmp_path: FilePath, toy_images: Images) -> None:
    path = tmp_path / "sweep.json"
    symbolizer = Symbolizer(toy_images)
    results = Campaign(target(), [Part(NULL, NMI)], Labels("tcb", "ist", 1)).run()
    cells = write(results, symbolizer, path, "7.2")
    content = json.loads(path.read_text())
    assert set(content) == {"schema", "commit", "qemu", "paths"}
    [entry] = content["paths"]
    assert entry["name"] == "null"
    assert (entry["entry"], entry["nmi"], entry["event"]) == ("tcb", "ist", "nmi")
    assert entry["boundaries"] == 22
    assert entry["outcomes"] == {"survived": 17, "corrupted": 5}
    assert set(entry) == {
        *(
            "name",
            "entry",
            "nmi",
            "event",
            "cores",
            "boundaries",
            "outcomes",
            "failures",
        )
    }
    first = entry["failures"][0]
    assert first["symbol"] == "syscall_entry"
    assert int(first["address"], 16) == toy_images.resolve("syscall_entry")
    assert set(first) == {"address", "symbol", "outcome", "detail"}
    [detail] = json.loads(cells.read_text())["paths"]
    assert len(detail["cells"]) == 22
    assert detail["cells"][1]["stack"] == "user A"
    assert "toy.S:" in detail["cells"][1]["source"]
    # another guest's results stay, the same part's are replaced
    others = Campaign(target(), [Part(NULL, NMI)], Labels("tcb", "rsp0", 1), limit=2).run()
    write([*others, *results], symbolizer, path, "7.2")
    assert len(json.loads(path.read_text())["paths"]) == 2
