# SPDX-License-Identifier: MIT
"""Capabilities in the running guest: what every call says to a bad one, and where copies go.

The derivation tree itself is compared with a model on the host, in tests/unit/test_cap.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from abi import SLOT, SYSCALLS
from agent import READY, Agent
from agent_support import ALL, PAGE, READ, SPOT, E, R, T, done, give, has_failed

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True),
    pytest.mark.cores(1, 2, 4),
]

Keep = Callable[[int], int]

# Each argument that is a capability: its type, the right that the call takes, whether 0 is allowed.
TAKES: dict[str, dict[int, tuple[str, str, bool]]] = {
    "call": {0: ("ENDPOINT", "ENDPOINT_CALL", False)},
    "reply_receive": {0: ("ENDPOINT", "ENDPOINT_RECEIVE", False)},
    "send": {0: ("ENDPOINT", "ENDPOINT_SEND", False)},
    "receive": {0: ("ENDPOINT", "ENDPOINT_RECEIVE", False)},
    "signal": {0: ("NOTIFICATION", "NOTIFY_SIGNAL", False)},
    "wait": {0: ("NOTIFICATION", "NOTIFY_WAIT", False)},
    "poll": {0: ("NOTIFICATION", "NOTIFY_WAIT", False)},
    "cap_copy": {3: ("SPACE", "SPACE_CAPS", True)},
    "cap_move": {1: ("SPACE", "SPACE_CAPS", True)},
    "cap_revoke": {0: ("NOTIFICATION", "REVOKE", False)},
    "endpoint_create": {0: ("QUOTA", "QUOTA_USE", False)},
    "notification_create": {0: ("QUOTA", "QUOTA_USE", False)},
    "thread_create": {0: ("QUOTA", "QUOTA_USE", False), 1: ("SPACE", "SPACE_THREAD", False)},
    "space_create": {0: ("QUOTA", "QUOTA_USE", False), 1: ("QUOTA", "QUOTA_USE", True)},
    "memory_create": {0: ("QUOTA", "QUOTA_USE", False), 2: ("ENDPOINT", "ENDPOINT_SEND", True)},
    "quota_split": {0: ("QUOTA", "QUOTA_SPLIT", False)},
    "reply_save": {0: ("QUOTA", "QUOTA_USE", False)},
    "thread_start": {0: ("THREAD", "THREAD_CONTROL", False)},
    "thread_suspend": {0: ("THREAD", "THREAD_CONTROL", True)},
    "thread_resume": {0: ("THREAD", "THREAD_CONTROL", False)},
    "thread_end": {0: ("THREAD", "THREAD_CONTROL", True)},
    "thread_set_priority": {0: ("THREAD", "THREAD_CONTROL", False)},
    "thread_set_affinity": {0: ("THREAD", "THREAD_CONTROL", False)},
    "thread_info": {0: ("THREAD", "THREAD_INFO", True)},
    "thread_get_registers": {0: ("THREAD", "THREAD_REGISTERS", False)},
    "thread_set_registers": {0: ("THREAD", "THREAD_REGISTERS", False)},
    "thread_bind": {
        0: ("THREAD", "THREAD_CONTROL", False),
        1: ("NOTIFICATION", "NOTIFY_WAIT", True),
    },
    "thread_cancel": {0: ("THREAD", "THREAD_CONTROL", False)},
    "map": {0: ("SPACE", "SPACE_MAP", False), 1: ("MEMORY", "MEMORY_READ", False)},
    "unmap": {0: ("SPACE", "SPACE_MAP", False)},
    "protect": {0: ("SPACE", "SPACE_MAP", False)},
    "space_set_fault": {
        0: ("SPACE", "SPACE_CONTROL", False),
        1: ("ENDPOINT", "ENDPOINT_SEND", True),
    },
    "space_end": {0: ("SPACE", "SPACE_CONTROL", True)},
    "space_watch": {
        0: ("SPACE", "SPACE_CONTROL", False),
        1: ("NOTIFICATION", "NOTIFY_SIGNAL", True),
    },
    "memory_supply": {0: ("MEMORY", "MEMORY_SUPPLY", False), 2: ("MEMORY", "MEMORY_READ", False)},
    "memory_reclaim": {
        0: ("MEMORY", "MEMORY_SUPPLY", False),
        2: ("MEMORY", "MEMORY_WRITE", True),
    },
}
# By hand below, or in test_hardware.py: any type will do, or the agent's one will not.
ELSEWHERE = {"cap_delete", "cap_info", "quota_info", "reply", "range_slice"}
ELSEWHERE |= {"irq_bind", "irq_ack", "ioports_read", "ioports_write", "panic", "nmi_dump"}
NO_CAPABILITY = {"null", "yield", "sleep", "clock", "thread_set_handler", "handler_return"}
NO_CAPABILITY |= {"kernel_info"}
IPC = {"call", "reply_receive", "send", "receive"}
PAIRS = [(name, index) for name, takes in TAKES.items() for index in takes]


@dataclass
class Things:
    """One good capability of each type, and a page to point to."""

    agent: Agent
    good: dict[str, int]
    made: list[int] = field(default_factory=list)

    def arguments(self, name: str) -> list[int]:
        """Arguments that the call has nothing against, as far as capabilities go."""
        values = {
            "cap_copy": [self.good["NOTIFICATION"], ALL],
            "cap_move": [self.good["NOTIFICATION"]],
            "memory_create": [0, PAGE],
            "map": [0, 0, (SPOT + 2 * PAGE) | READ, PAGE],
            "unmap": [0, SPOT + 2 * PAGE, PAGE],
            "protect": [0, SPOT + 2 * PAGE, PAGE, READ],
            "thread_start": [0, 0x10000],
            "thread_info": [0, SPOT],
            "thread_get_registers": [0, SPOT],
            "thread_set_registers": [0, SPOT],
        }.get(name, [])
        arguments = [*values, 0, 0, 0, 0, 0][:5]
        for index, (kind, _, _) in TAKES[name].items():
            arguments[index] = self.good[kind]
        return arguments

    def result(self, name: str, arguments: list[int]) -> int:
        if name in IPC:
            return done(self.agent.ipc(name, arguments[0], "timeout=0")).value
        return self.agent.call(name, *arguments[: SYSCALLS[name].args])

    def keep(self, handle: int) -> int:
        self.made.append(handle)
        return handle


@pytest.fixture
def things(agent: Agent, request: pytest.FixtureRequest) -> Iterator[Things]:
    space = agent.make("space_create", agent.quota, 0)
    good = {
        "SPACE": space,
        "QUOTA": agent.quota,
        "ENDPOINT": agent.make("endpoint_create", agent.quota),
        "NOTIFICATION": agent.make("notification_create", agent.quota),
        "MEMORY": agent.make("memory_create", agent.quota, PAGE),
        "THREAD": agent.make("thread_create", agent.quota, space, 50 << 8 | 50),
    }
    assert agent.call("map", agent.space, good["MEMORY"], SPOT | READ | 2, PAGE, 0) == 0
    things = Things(agent, good)
    yield things
    if not has_failed(request):
        for handle in (*things.made, *(good[kind] for kind in good if kind != "QUOTA")):
            agent.call("cap_delete", handle)


def test_the_table_has_every_call() -> None:
    assert set(TAKES) | ELSEWHERE | NO_CAPABILITY == set(SYSCALLS)


@pytest.mark.parametrize(("name", "index"), PAIRS, ids=[f"{n}-a{i}" for n, i in PAIRS])
def test_bad_handles(things: Things, name: str, index: int) -> None:
    agent = things.agent
    kind, _, may_be_0 = TAKES[name][index]
    good = things.good[kind]
    stale = agent.make("notification_create", agent.quota)
    assert agent.call("cap_delete", stale) == 0
    wrong_type = things.good["MEMORY" if kind != "MEMORY" else "ENDPOINT"]
    bad = {
        "another generation": good + (1 << 32),
        "generation 0": good & 0xFFFFFFFF,
        "stale": stale,
        "slot 0": 1 << 32,
        "a free slot": 1 << 32 | 60 * SLOT,
        "inside a slot": good + 16,
        "beyond the table": 1 << 32 | 0xFFFFF * SLOT,
        "beyond all tables": good | 1 << 31,
        "all ones": (1 << 64) - 1,
        "half of it": 1 << 63,
        "a pointer": 0xFFFFC00000000040,
    }
    if name not in ("cap_revoke",):
        bad["another type"] = wrong_type
    if not may_be_0:
        bad["0"] = 0
    for what, handle in bad.items():
        arguments = things.arguments(name)
        arguments[index] = handle
        assert things.result(name, arguments) == E["BADCAP"], what


@pytest.mark.parametrize(("name", "index"), PAIRS, ids=[f"{n}-a{i}" for n, i in PAIRS])
def test_missing_rights(things: Things, name: str, index: int) -> None:
    kind, right, _ = TAKES[name][index]
    weak = things.keep(things.agent.make("cap_copy", things.good[kind], ALL & ~R[right], 0, 0))
    arguments = things.arguments(name)
    arguments[index] = weak
    assert things.result(name, arguments) == E["RIGHTS"]


def test_calls_for_any_type(agent: Agent, keep: Keep, notification: int) -> None:
    for bad in (0, 1 << 32, notification + (1 << 32), (1 << 64) - 1):
        for name in ("cap_info", "cap_delete", "cap_copy", "cap_move", "quota_info", "range_slice"):
            assert agent.call(name, bad, ALL) == E["BADCAP"], name
        if bad:
            assert done(agent.ipc("reply", bad)).value == E["BADCAP"]
    weak = keep(agent.make("cap_copy", notification, R["NOTIFY_SIGNAL"], 0, 0))
    assert agent.sys("cap_info", weak).value == T["NOTIFICATION"]
    assert agent.sys("cap_info", weak).second == R["NOTIFY_SIGNAL"]
    assert agent.call("range_slice", weak, 0, 1) == E["BADCAP"]
    no_use = keep(agent.make("cap_copy", agent.quota, R["GRANT"], 0, 0))
    assert agent.call("quota_info", no_use) == E["RIGHTS"]


def test_a_badge_is_no_handle(agent: Agent, keep: Keep, notification: int) -> None:
    """One that looks like a handle of the very place where it lies, in the middle of its slot."""
    slot = agent.make("cap_copy", notification, ALL, 0, 0)
    assert agent.call("cap_delete", slot) == 0
    badge = 5 << 32 | (slot & 0xFFFFFFFF) + 16
    again = keep(agent.make("cap_copy", notification, ALL, badge, 0))
    assert again & 0xFFFFFFFF == slot & 0xFFFFFFFF
    for name in ("cap_info", "signal", "poll", "cap_delete"):
        assert agent.call(name, badge) == E["BADCAP"], name


def test_what_may_be_given_away(agent: Agent, notification: int) -> None:
    twin = agent.twin(150, 150)
    weak = agent.make("cap_copy", notification, ALL & ~R["GRANT"], 0, 0)
    for name, arguments in (("cap_copy", (ALL, 0, twin.space)), ("cap_move", (twin.space,))):
        assert agent.call(name, weak, *arguments) == E["RIGHTS"]
    again = agent.make("cap_copy", weak, ALL, 0, 0)
    assert agent.sys("cap_info", again).second == agent.sys("cap_info", weak).second
    for handle in (again, weak):
        assert agent.call("cap_delete", handle) == 0
    agent.drop(twin.number)


def test_across_spaces(agent: Agent, notification: int) -> None:
    """Copies, copies of copies, and moved ones, all derived from one: none survives its revoke."""
    first, second = agent.twin(150, 150), agent.twin(150, 150)
    one = give(agent, notification, first)
    two = give(agent, notification, second)
    nested = agent.make("cap_copy", one, ALL, 0, 0, worker=first.number)
    moved = agent.make("cap_move", two, 0, worker=second.number)
    assert agent.call("cap_info", two, worker=second.number) == E["BADCAP"]
    for handle, worker in ((one, first), (nested, first), (moved, second)):
        assert agent.call("signal", handle, 1, worker=worker.number) == 0
    assert agent.call("cap_revoke", nested, worker=first.number) == 0
    assert agent.call("signal", one, 1, worker=first.number) == 0
    assert agent.call("cap_delete", one, worker=first.number) == 0
    assert agent.call("signal", nested, 1, worker=first.number) == 0, "it is its grandparent's now"
    assert agent.call("cap_revoke", notification) == 0
    for handle, worker in ((nested, first), (moved, second)):
        assert agent.call("signal", handle, 1, worker=worker.number) == E["BADCAP"]
    assert agent.call("signal", notification, 1) == 0
    agent.drop(first.number)
    agent.drop(second.number)


def test_a_table_grows_as_far_as_its_account(agent: Agent) -> None:
    child = agent.make("quota_split", agent.quota, 40 * PAGE)
    space = agent.make("space_create", agent.quota, child)
    notification = agent.make("notification_create", agent.quota)
    before = agent.free(child)
    count = 0
    while (result := agent.call("cap_copy", notification, ALL, 0, space)) == 0:
        count += 1
    assert result == E["NOMEM"]
    assert count > 64 * 10
    assert agent.free(child) < before
    other = agent.make("notification_create", agent.quota)  # others go on
    assert agent.call("cap_revoke", notification) == 0
    assert agent.call("cap_copy", notification, ALL, 0, space) == 0, "slots are used again"
    for handle in (space, notification, child, other):
        assert agent.call("cap_delete", handle) == 0


def test_revoke_of_thousands(agent: Agent, keep: Keep) -> None:
    notification = keep(agent.make("notification_create", agent.quota))
    twin = agent.twin(150, 150)  # whose table goes with it
    first = parent = give(agent, notification, twin)
    for i in range(2000):
        parent = agent.make("cap_copy", parent if i % 5 else first, ALL, 0, 0, worker=twin.number)
    assert agent.call("cap_revoke", notification) == 0
    for handle in (first, parent):
        assert agent.call("cap_info", handle, worker=twin.number) == E["BADCAP"]
    assert agent.call("cap_info", notification) == T["NOTIFICATION"]
    agent.drop(twin.number)
