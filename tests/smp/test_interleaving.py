# SPDX-License-Identifier: MIT
"""A part of the interleaving sweep of each race. interleave_all.py plays all of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from abi import ERRORS as E
from agent_support import has_failed
from boundaries import Boundary, Kind, representative
from interleaving import DEBUG_KERNEL, KERNEL, Interleaver
from races import FAMILIES, RACES
from races_lifetimes import supply_from_what_is_being_made
from scene import CORE_A, CORE_C, Outcome, Race, Report, Scene
from stage import CEILING, Stage, call

from onestack.elf import Images
from onestack.errors import OnestackError
from onestack.patch import PatchFault

PART = 3  # boundaries of each race
# Every so many of two families of very many, which are much alike.
EACH = {"races_chains": 8, "races_time": 4}
SOME = [one for family, names in FAMILIES.items() for one in names[:: EACH.get(family, 1)]]
part = partial(representative, count=PART)
THERE = [f"send-and-{what}-of-the-receiver-turned" for what in ("cancel", "end", "suspend")]
THERE += ["send-and-migration-of-the-receiver-turned", "send-and-priority-of-the-receiver-turned"]
THERE += ["send-and-revoke-of-its-endpoint-turned", "end-and-affinity-of-one-that-runs"]


def assert_right(report: Report, images: Images) -> None:
    """Each boundary was come by, and there were some; an order gives each outcome."""
    assert report.boundaries > 0, "it has nothing to do there"
    assert not report.missed, "it does not come by there"
    assert not report.failures, report.told(images)


REFUSED = frozenset(E[name] for name in ("NOSYS", "RIGHTS", "INVAL", "FAULT", "PRIO"))


def refused(interleaver: Interleaver) -> list[str]:
    """Jobs whose arguments are wrong in every order: a race of these finds nothing."""
    seen = [dict(outcome) for outcome in interleaver.orders.values()]
    return [name for name in "abc" if name in seen[0] and {one[name] for one in seen} <= REFUSED]


class Pool:
    """A machine for all tests of this file, by kernel; after a test that failed a new one.

    Where that failed is anybody's guess: a timeout comes between any two bytes of a conversation.
    """

    def __init__(self) -> None:
        self._machines: dict[Path, Interleaver] = {}

    def get(self, kernel: Path) -> Interleaver:
        if kernel not in self._machines:
            self._machines[kernel] = Interleaver(kernel=kernel).__enter__()
        return self._machines[kernel]

    def drop(self, kernel: Path) -> None:
        if kernel in self._machines:
            self._machines.pop(kernel).__exit__()


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    for kernel in (KERNEL, DEBUG_KERNEL):
        pool.drop(kernel)


@pytest.fixture
def interleaver(pool: Pool, request: pytest.FixtureRequest) -> Iterator[Interleaver]:
    yield pool.get(KERNEL)
    if has_failed(request):
        pool.drop(KERNEL)


def test_a_machine_in_the_middle_of_a_conversation_is_replaced(pool: Pool) -> None:
    """As after a timeout: the stub's answer to a question is still to come."""
    broken = pool.get(KERNEL)
    broken.machine.gdb.close()
    with pytest.raises((OnestackError, OSError, ValueError)):
        broken.open(RACES["send-and-cancel-of-the-receiver"])
    pool.drop(KERNEL)
    assert not broken.machine.alive
    pool.get(KERNEL).open(RACES["send-and-cancel-of-the-receiver"])


@pytest.mark.parametrize("name", SOME)
def test_a_race_ends_as_if_one_came_after_the_other(interleaver: Interleaver, name: str) -> None:
    report = interleaver.sweep(RACES[name], choose=part)
    assert_right(report, interleaver.images)
    assert not refused(interleaver)


def test_a_race_that_asks_for_what_is_always_refused_is_found(interleaver: Interleaver) -> None:
    def too_high(stage: Stage) -> Scene:
        b = call(stage.b, "thread_set_priority", stage.thread(stage.a), CEILING + 1)
        return stage.scene(call(stage.a, "yield"), b, dict)

    interleaver.open(Race("too-high", lambda agent: too_high(Stage(agent))))
    assert refused(interleaver) == ["b"]


@pytest.mark.parametrize("name", THERE)
def test_and_so_it_does_where_the_victim_lives(interleaver: Interleaver, name: str) -> None:
    """What the victim's core does for A is frozen, not what A's own does."""
    report = interleaver.sweep(RACES[name], CORE_C, part)
    assert_right(report, interleaver.images)


# What the sweep has found where no atomic instruction is near, and in which function.
FOUND = [
    ("wait-and-signal", CORE_A, "wait"),
    ("saving-a-reply-and-cancel-of-the-caller-turned", CORE_C, "thread_leave_place"),
    ("copy-and-delete", CORE_A, "sys_cap_copy"),
    ("verdict-and-registers-of-the-faulted", CORE_A, "fault_verdict"),
    ("suspension-on-the-way-and-resumption", CORE_A, "sys_thread_suspend"),
    ("receive-and-cancel-of-the-caller", CORE_A, "endpoint_receive"),
    ("receive-of-bytes-and-cancel-of-the-caller", CORE_A, "user_copy"),
    ("reply-with-bytes-and-priority-of-the-caller-turned", CORE_C, "thread_set_effective"),
    ("receive-of-bytes-and-cancel-of-the-sender-turned", CORE_C, "thread_leave_place"),
    ("a-copy-without-a-page-and-set-priority-of-the-caller", CORE_A, "endpoint_receive"),
    ("reply-receive-here-and-end-of-the-endpoint", CORE_A, "fast_reply_receive"),
    ("failing-message-and-deletion-of-what-it-was-to-bring", CORE_A, "cap_remove"),
    ("failing-message-and-deletion-of-what-it-brings", CORE_A, "insert"),
]


@pytest.mark.parametrize(("name", "frozen", "function"), FOUND)
def test_what_was_wrong_once(
    interleaver: Interleaver, name: str, frozen: int, function: str
) -> None:
    """Each instruction of it that touches what is shared."""

    def in_function(path: list[Boundary]) -> list[Boundary]:
        return [
            one
            for one in path
            if one.kind is not Kind.PRIVATE
            and interleaver.images.name(one.address).startswith(function + "+")
        ]

    report = interleaver.sweep(RACES[name], frozen, in_function)
    assert_right(report, interleaver.images)


# What has an end while somebody else uses it, and in which function it once was freed too early.
LIFETIMES = [
    ("end-of-a-space-and-deletion-of-its-thread", "thread_quit"),
    ("end-of-oneself-and-deletion", "object_end"),
]


@pytest.fixture
def debug_interleaver(pool: Pool, request: pytest.FixtureRequest) -> Iterator[Interleaver]:
    yield pool.get(DEBUG_KERNEL)
    if has_failed(request):
        pool.drop(DEBUG_KERNEL)


@pytest.mark.parametrize(("name", "function"), LIFETIMES)
def test_nobody_uses_what_is_freed(
    debug_interleaver: Interleaver, name: str, function: str
) -> None:
    """Freed memory is full of poison in a debug kernel."""
    images = debug_interleaver.images
    report = debug_interleaver.sweep(
        RACES[name],
        choose=lambda path: [b for b in path if images.name(b.address).startswith(f"{function}+")],
    )
    assert_right(report, images)


def test_memory_that_is_being_made_shows_nothing_of_what_was_there(
    interleaver: Interleaver,
) -> None:
    """Somebody who guesses its handle copies a page that is there and not yet zeroed."""
    race = Race("being made", lambda agent: supply_from_what_is_being_made(Stage(agent)))
    interleaver.open(race)
    assert {dict(order)["content"] for order in interleaver.orders.values()} == {0}
    third = Boundary(interleaver.images.resolve("memory_fill_some"), 3)
    outcome = interleaver.play(third)
    assert outcome is not None, "it has never made a third page"
    seen = dict(outcome)
    assert (seen["b"], seen["content"], seen["given back"]) == (E["INVAL"], 0, True)


def locks_that_do_not_lock(images: Images, function: str) -> list[PatchFault]:
    """The function does what it does as if it had the locks that it takes."""
    kernel = images.images[0]
    entry = kernel.symbol(function)
    code = kernel.disassemble(entry.address, entry.address + entry.size)
    if code[-1].mnemonic == "jmp" and len(code) < 10:  # it sets something and goes on in another
        start = int(code[-1].operands, 16)
        code = kernel.disassemble(start, start + 0x200)
    return [
        PatchFault("no lock", f"{one.address:#x}", b"\x31\xc0", expect="xchg")  # xor %eax, %eax
        for one in code
        if one.mnemonic == "xchg"
    ]


@pytest.mark.parametrize(
    ("name", "unlocked", "frozen", "between"),
    [
        ("send-and-cancel-of-the-receiver", "sys_send", CORE_A, "dequeue"),
        (
            "send-and-cancel-of-the-receiver-turned",
            "thread_leave_place",
            CORE_C,
            "thread_leave_place",
        ),
    ],
    ids=["caller", "victim"],
)
def test_a_check_split_from_its_act_is_found(
    name: str, unlocked: str, frozen: int, between: str
) -> None:
    played: list[Boundary] = []
    with Interleaver(faults=partial(locks_that_do_not_lock, function=unlocked)) as planted:

        def near(path: list[Boundary]) -> list[Boundary]:
            names = [planted.images.name(one.address).partition("+")[0] for one in path]
            first = names.index(between)
            played[:] = path[first - 1 : first + 60]
            return played

        report = planted.sweep(RACES[name], frozen, near)
        assert not report.missed
        seen = come_to(report)
        apart = [
            (before, boundary)
            for before, boundary in itertools.pairwise(played)
            if boundary.kind is Kind.PRIVATE and seen[boundary] != seen[before]
        ]
        for pair in apart:  # where B waits, which order it comes to may be chance: often then
            both = [often(planted, RACES[name], frozen, one) for one in pair]
            assert both[0] & both[1], "nobody can tell, it says"
    assert report.failures, "the planted race is not found"
    assert len(report.failures) < report.boundaries, "it shows between the check and the act only"


def come_to(report: Report) -> dict[Boundary, Outcome | None]:
    """What each boundary came to; None if it was wrong.

    What comes of a kernel that has gone wrong, a panic too, is chance; that it has, is not.
    """
    return {**report.outcomes, **dict.fromkeys(one.at for one in report.failures)}


def often(
    interleaver: Interleaver, race: Race, frozen: int, boundary: Boundary
) -> set[Outcome | None]:
    """All that a boundary comes to when it is played some times."""
    reports = [interleaver.sweep(race, frozen, lambda _: [boundary]) for _ in range(8)]
    return {come_to(report)[boundary] for report in reports}
