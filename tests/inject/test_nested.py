# SPDX-License-Identifier: MIT
"""N5: exceptions inside an NMI's handler, at each of its instructions, with NMIs behind them.

The first NMI's frame must survive whatever comes before its own return, and the second and third
NMI come when they may: each after the return of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import nested
import pytest
from kernel_state import KernelState
from nested import INNER, Nest, differences

from onestack.elf import Images
from onestack.errors import Failure, GuestError
from onestack.inject import Injector, MachineCheck, Nmi
from onestack.machine import Machine
from onestack.patch import PatchFault
from onestack.registers import Registers

pytestmark = pytest.mark.machine(
    append="run=sweep", ready="sweep: ready", memory=64, icount=0, sleep=True, snapshots=True,
    debug_exit=False, shared=True,
)  # fmt: skip
# The walk, and where the first NMI strikes on it.
PLACES = {"kernel": ("null", "fast_null"), "user": ("spin", "sweep_spin")}


@pytest.fixture
def nest(machine: Machine, images: Images, injector: Injector) -> Iterator[Nest]:
    yield Nest(machine, images, KernelState(images.images[0].path, images), injector)
    machine.gdb.change_breakpoints(set())


def start(nest: Nest, place: str) -> Registers:
    """Be at a place of a walk."""
    return nest.start(*PLACES[place])


def handler(nest: Nest, place: str) -> list[int]:
    """The instructions of an NMI's handler, to the one that lets the next NMI in."""
    start(nest, place)
    Nmi().fire(nest.machine)
    nest.arrive(2)
    return nest.trail("iretq")


def counts(nest: Nest) -> tuple[int, int]:
    """NMIs taken and worked on."""
    core = nest.state.core(nest.machine)
    return core.nmis, core.nmis_worked


def the_end(nest: Nest, struck: Registers) -> None:
    """All has been handled: the place goes on as it was when it was struck."""
    after = nest.come_to(struck.pc, "vector_2")
    if after.pc != struck.pc:
        raise nested.Lost("one NMI too many")
    if changed := differences(struck, after):
        raise nested.Lost(f"changed in the end: {' '.join(changed)}")


def strike(nest: Nest, place: str, at: int, inner: str) -> None:
    """An NMI at a place; in its handler an exception with a second NMI behind it; a third."""
    struck = nest.machine.gdb.registers()
    before = counts(nest)
    Nmi().fire(nest.machine)
    nest.arrive(2)
    if nest.address("vector_2") != at:
        nest.come_to(at)
    spot = nest.spot()
    Nmi().fire(nest.machine)  # waits, as NMIs are masked
    INNER[inner](nest, spot)
    where = nest.address("ist_user_open" if place == "user" else struck.pc)
    for last in (False, True):
        second = nest.come_to("vector_2", struck.pc)
        if second.pc != nest.address("vector_2"):
            raise nested.Lost("an NMI is missing")
        saved = int.from_bytes(nest.machine.gdb.read(second.sp, 8), "little")
        if saved != where:
            raise nested.Lost(f"an NMI came at {nest.images.name(saved)}")
        if not last:
            Nmi().fire(nest.machine)
    the_end(nest, struck)
    taken, worked = counts(nest)
    assert taken == before[0] + 3
    assert worked == (taken if place == "user" else before[1])


UNWORKED = 12  # events in one system call: the log of machine checks has room for 16


def at_all(
    nest: Nest, place: str, boundaries: Sequence[int], attempt: Callable[[int], None]
) -> dict[str, str]:
    """Make an attempt at each boundary; those at which it went wrong, and how."""
    found = {}
    sound = False
    for number, at in enumerate(boundaries):
        if not sound or number % UNWORKED == 0:
            start(nest, place)
        said = nested.outcome(partial(attempt, at))
        sound = not said
        if said:
            found[nest.images.name(at)] = said
    return found


def strike_all(nest: Nest, place: str, inner: str, least: int) -> tuple[dict[str, str], list[str]]:
    """What went wrong in an NMI's handler, and its boundaries; all in all there are so many."""
    trail = handler(nest, place)
    assert len(trail) >= least
    boundaries = nest.chosen(trail)
    found = at_all(nest, place, boundaries, lambda at: strike(nest, place, at, inner))
    return found, [nest.images.name(at) for at in boundaries]


LEAST = {
    "kernel": 80,
    "user": 45,
}  # instructions of a handler until NMIs are open again


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("place", PLACES)
def test_no_frame_is_lost(nest: Nest, place: str, inner: str) -> None:
    assert strike_all(nest, place, inner, LEAST[place])[0] == {}


@pytest.mark.machine(entry="ist")
@pytest.mark.parametrize("inner", ["#BP", "#MC"])
def test_no_frame_is_lost_where_every_vector_moves(nest: Nest, inner: str) -> None:
    assert strike_all(nest, "kernel", inner, LEAST["kernel"])[0] == {}


def unmasking_iret(nest: Nest) -> PatchFault:
    """nested_return always goes by IRET, which lets the next NMI in."""
    start, size = (
        nest.address("nested_return"),
        nest.images.images[0].symbol("nested_return").size,
    )
    code = nest.images.images[0].disassemble(start, start + size)
    [jump] = [each.address for each in code[:2] if each.mnemonic == "jne"]
    return PatchFault("unmasking iret", f"{jump:#x}", b"\xeb", expect="jne", length=1)


@pytest.mark.parametrize("inner", ["#BP", "#MC"])
def test_a_return_by_iret_is_condemned(nest: Nest, inner: str) -> None:
    """At each boundary: the second NMI comes onto the frame of the first."""
    start(nest, "kernel")
    with unmasking_iret(nest).applied(nest.machine, nest.images):
        nest.machine.save(nest.snapshot(*PLACES["kernel"]))
        found, boundaries = strike_all(nest, "kernel", inner, LEAST["kernel"])
    nest.machine.qmp.hmp(f"delvm {nest.snapshot(*PLACES['kernel'])}")
    assert list(found) == boundaries
    said = {
        "an NMI came inside, onto the frame of the one before",
        "another frame on the stack",
    }
    assert set(found.values()) <= said


# ---- the runner-up: the NMI's entry moves, and every return is by IRET (ADR 100)


def strike_open(nest: Nest, at: int, inner: str) -> None:
    """As strike(), where NMIs may come inside the first one's handler: none is lost."""
    struck = nest.machine.gdb.registers()
    before = counts(nest)
    Nmi().fire(nest.machine)
    nest.arrive(2)
    if nest.address("vector_2") != at:
        nest.come_to(at)
    spot = nest.spot()
    Nmi().fire(nest.machine)
    INNER[inner](nest, spot)
    Nmi().fire(nest.machine)
    after = nest.come_to(struck.pc)
    if changed := differences(struck, after):
        raise nested.Lost(f"changed in the end: {' '.join(changed)}")
    taken = counts(nest)[0] - before[0]
    if taken not in (2, 3):  # the second may still have been waiting when the third came
        raise nested.Lost(f"{taken} NMIs taken")


@pytest.mark.machine(nmi="move")
@pytest.mark.parametrize("inner", ["#BP", "#MC"])
@pytest.mark.parametrize("place", PLACES)
def test_a_moving_entry_alone_has_holes(nest: Nest, place: str, inner: str) -> None:
    """Before it has moved and after it has moved back; nowhere else."""
    nest.opens = True
    boundaries = nest.chosen(handler(nest, place))
    found = at_all(nest, place, boundaries, lambda at: strike_open(nest, at, inner))
    names = [nest.images.name(at) for at in boundaries]
    code = [nest.images.instruction(at) for at in boundaries]
    [moves] = [i for i, each in enumerate(code[:8]) if each and each.mnemonic == "sub"][:1]
    ends = [i for i, each in enumerate(code) if each and each.mnemonic == "add"][-1]
    # from user mode the frame has gone to the TCB before it moves back
    behind = names[ends + 1 :] if place == "kernel" else []
    assert list(found) == [*names[: moves + 1], *behind]
    assert set(found.values()) == {"another frame on the stack"}


# ---- the mirror cases: an NMI inside the others' handlers


def outer_debug(nest: Nest) -> None:
    """#DB, by a breakpoint on the instruction that is next."""
    nest.set_debug(nest.machine.gdb.registers().pc, nested.DR7_EXECUTE_0)
    nest.arrive(1)


def outer_machine_check(nest: Nest) -> None:
    """#MC."""
    MachineCheck().fire(nest.machine)
    nest.arrive(18)


def inside(nest: Nest, outer: Callable[[Nest], None], at: int, inner: nested.Inner) -> None:
    """In the outer event's handler, at one of its instructions, something else."""
    struck = nest.machine.gdb.registers()
    outer(nest)
    if nest.machine.gdb.registers().pc != at:
        nest.come_to(at)
    inner(nest, nest.spot())
    the_end(nest, struck)


MIRRORED = {
    "#DB, NMI, #DB": (outer_debug, nested.debug_here, 90),
    "#MC, NMI, #BP": (outer_machine_check, nested.breakpoint_here, 130),
    "#MC, NMI, #DB": (outer_machine_check, nested.debug_here, 130),
}


@pytest.mark.parametrize("case", MIRRORED)
def test_an_nmi_inside_and_one_more_exception_in_that(nest: Nest, case: str) -> None:
    outer, innermost, least = MIRRORED[case]
    start(nest, "kernel")
    outer(nest)
    trail = nest.trail("retfq")
    assert len(trail) >= least
    boundaries = nest.chosen(trail)
    nmi = partial(nested.nmi_here, inner=innermost)
    assert at_all(nest, "kernel", boundaries, lambda at: inside(nest, outer, at, nmi)) == {}


def test_a_machine_check_behind_a_machine_check(nest: Nest) -> None:
    """From where MCG_STATUS is cleared on, each instruction of the way back may be struck again."""
    start(nest, "kernel")
    outer_machine_check(nest)
    trail = nest.trail("retfq")
    opens = nest.address("mcheck_open")
    wrmsr = next(at for at in trail[trail.index(opens) :] if nest.mnemonic(at) == "wrmsr")
    behind = trail[trail.index(wrmsr) + 1 :]
    assert len(behind) >= 25
    again = nested.machine_check_here
    found = at_all(nest, "kernel", behind, lambda at: inside(nest, outer_machine_check, at, again))
    assert found == {}


def test_what_hardware_leaves_open(nest: Nest) -> None:
    """A second #MC before MCG_STATUS is cleared shuts the machine down, whatever a kernel does."""
    start(nest, "kernel")
    outer_machine_check(nest)
    with pytest.raises(GuestError) as caught:
        MachineCheck().fire(nest.machine)
    assert caught.value.kind is Failure.RESET


# ---- N6


@pytest.mark.parametrize("place", PLACES)
def test_nmis_that_come_while_masked_become_one_more(nest: Nest, place: str) -> None:
    struck = start(nest, place)
    before = counts(nest)
    Nmi().fire(nest.machine)
    nest.arrive(2)
    nest.come_to("entry_ist")
    for _ in range(3):
        Nmi().fire(nest.machine)
    assert nest.come_to("vector_2", struck.pc).pc == nest.address("vector_2")
    the_end(nest, struck)
    taken, worked = counts(nest)
    assert taken == before[0] + 2
    assert worked == (taken if place == "user" else before[1])
