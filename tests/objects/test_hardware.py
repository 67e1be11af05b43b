# SPDX-License-Identifier: MIT
"""Interrupt lines and I/O ports by capability, with the machine's own devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from agent import READY, Agent
from agent_support import ALL, MS, SOON, E, R, T, comes_about, done, find_grant, give, has_failed

from onestack.inject import Nmi
from onestack.machine import Machine

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True),
    pytest.mark.cores(1, 2, 4),
]

Keep = Callable[[int], int]
PIT_LINE, RTC_LINE, NMI_LINE = 0, 8, 256
PIT_COMMAND, PIT_CHANNEL_0 = 0x43, 0x40
CMOS_INDEX, CMOS_DATA = 0x70, 0x71


@pytest.fixture
def ports(agent: Agent) -> int:
    return find_grant(agent, T["IOPORTS"], 0x40, 4)


@pytest.fixture
def lines(agent: Agent) -> int:
    return find_grant(agent, T["IRQ"], 0, 257)


@pytest.fixture
def pit(
    agent: Agent, ports: int, request: pytest.FixtureRequest
) -> Iterator[Callable[[int], None]]:
    """Make the old timer interrupt once, in so many of its ticks (1.19 MHz)."""

    def one_shot(ticks: int) -> None:
        assert agent.call("ioports_write", ports, PIT_COMMAND, 1, 0x30) == 0
        for byte in (ticks & 0xFF, ticks >> 8):
            assert agent.call("ioports_write", ports, PIT_CHANNEL_0, 1, byte) == 0

    # The firmware left it ticking, every 55 ms: this mode ticks once more, at most.
    assert agent.call("ioports_write", ports, PIT_COMMAND, 1, 0x30) == 0
    yield one_shot
    if not has_failed(request):
        assert agent.call("ioports_write", ports, PIT_COMMAND, 1, 0x30) == 0


def test_the_clocks_frequency(agent: Agent) -> None:
    """Some GHz: QEMU shows the host's TSC. What there is nothing to say of is refused."""
    tsc_hz = 5  # enum kernel_info_kind
    assert 10**8 < agent.make("kernel_info", tsc_hz, 0) < 10**10
    assert agent.call("kernel_info", 1000, 0) == E["INVAL"]
    assert agent.call("kernel_info", 2, 63) == E["INVAL"]  # the NMIs of a core that is not there


def test_ports_of_every_width(agent: Agent, ports: int) -> None:
    """By PCI's configuration space: its index is 32 bits wide, what it shows is read in parts."""
    index, data = 0xCF8, 0xCFC
    host_bridge = 1 << 31  # bus 0, device 0, register 0
    assert agent.call("ioports_write", ports, index, 4, host_bridge) == 0
    assert agent.make("ioports_read", ports, index, 4) == host_bridge
    device_and_vendor = agent.make("ioports_read", ports, data, 4)
    assert device_and_vendor & 0xFFFF == 0x8086  # QEMU's q35 is Intel's
    low, high = (agent.make("ioports_read", ports, port, 2) for port in (data, data + 2))
    assert high << 16 | low == device_and_vendor
    assert agent.make("ioports_read", ports, data + 3, 1) == device_and_vendor >> 24


def test_ports(agent: Agent, keep: Keep, ports: int) -> None:
    cmos = keep(agent.make("range_slice", ports, CMOS_INDEX, 2))

    def register(number: int) -> int:
        assert agent.call("ioports_write", cmos, CMOS_INDEX, 1, number) == 0
        return agent.make("ioports_read", cmos, CMOS_DATA, 1)

    assert register(0x0D) & 0x80, "the clock's battery"
    assert register(0x0A) & 0x70 == 0x20, "its oscillator runs"
    for port in (
        CMOS_INDEX - 1,
        CMOS_DATA + 1,
        0,
        65535,
        65536,
        1 << 32 | CMOS_INDEX,
        (1 << 64) - 1,
    ):
        assert agent.call("ioports_read", cmos, port, 1) == E["INVAL"], hex(port)
        assert agent.call("ioports_write", cmos, port, 1, 0) == E["INVAL"], hex(port)
    assert agent.call("ioports_read", cmos, CMOS_INDEX, 2) == 0
    assert agent.call("ioports_read", cmos, CMOS_DATA, 2) == E["INVAL"], "half of it is outside"
    assert agent.call("ioports_read", cmos, CMOS_INDEX, 4) == E["INVAL"]
    for width in (0, 3, 5, 8, (1 << 64) - 1):
        assert agent.call("ioports_read", cmos, CMOS_INDEX, width) == E["INVAL"]
    weak = keep(agent.make("cap_copy", cmos, ALL & ~R["IOPORTS_ACCESS"], 0, 0))
    assert agent.call("ioports_read", weak, CMOS_DATA, 1) == E["RIGHTS"]
    assert agent.call("ioports_read", agent.quota, CMOS_DATA, 1) == E["BADCAP"]


def test_not_everyone_may_stop_the_machine(
    agent: Agent, keep: Keep, ports: int, notification: int
) -> None:
    most = keep(agent.make("range_slice", ports, 0, 65535))
    weak = keep(agent.make("cap_copy", ports, ALL & ~R["IOPORTS_ACCESS"], 0, 0))
    for call in ("panic", "nmi_dump"):
        assert agent.call(call, most) == E["RIGHTS"]
        assert agent.call(call, weak) == E["RIGHTS"]
    for bad in (0, notification, agent.quota, most + (1 << 32)):
        assert agent.call("panic", bad) == E["BADCAP"]


def test_parts_of_parts(agent: Agent, keep: Keep, ports: int) -> None:
    eight = keep(agent.make("range_slice", ports, 0x70, 8))
    two = agent.make("range_slice", eight, 0x74, 2)
    assert agent.call("ioports_read", two, 0x74, 2) == 0
    for first, count in ((0x73, 2), (0x75, 2), (0x74, 3), (0x74, 0), (0x74, 1 << 32), (1 << 32, 1)):
        assert agent.call("range_slice", two, first, count) == E["INVAL"]
    assert agent.call("cap_copy", two, ALL, 5, 0) == E["INVAL"], "its badge is its range"
    assert agent.call("cap_revoke", eight) == 0
    assert agent.call("ioports_read", two, 0x74, 1) == E["BADCAP"]


def test_a_line_s_interrupts_are_bits(
    agent: Agent, keep: Keep, lines: int, notification: int, pit: Callable[[int], None]
) -> None:
    timer = keep(agent.make("range_slice", lines, PIT_LINE, 1))
    assert agent.call("irq_ack", timer) == E["INVAL"], "not bound"
    assert agent.call("irq_bind", timer, notification, 0x40) == 0
    # Edges from before: one that the IOAPIC has kept, one that the timer still had to give.
    while agent.call("wait", notification, 120 * MS) == 0:
        agent.call("irq_ack", timer)
    for _ in range(3):
        assert agent.call("poll", notification) == E["AGAIN"]
        pit(2000)
        assert agent.sys("wait", notification, SOON).second == 0x40
        assert agent.sys("irq_ack", timer).second >= 1
        assert agent.sys("irq_ack", timer).second == 0
    assert agent.call("irq_bind", timer, 0, 0) == 0
    pit(2000)
    assert agent.call("wait", notification, 30 * MS) == E["TIMEOUT"], "released, it is masked"


def test_a_line_has_one_owner(agent: Agent, keep: Keep, lines: int, notification: int) -> None:
    first = keep(agent.make("range_slice", lines, RTC_LINE, 1))
    second = keep(agent.make("range_slice", lines, RTC_LINE, 1))
    copy = agent.make("cap_copy", first, ALL, 0, 0)
    assert agent.call("irq_bind", first, notification, 1) == 0
    for other in (first, second, copy):
        assert agent.call("irq_bind", other, notification, 1) == E["BUSY"]
    assert agent.call("irq_bind", second, 0, 0) == 0, "nothing of its own to release"
    assert agent.call("irq_bind", second, notification, 1) == E["BUSY"]
    moved = agent.make("cap_move", first, 0)
    assert agent.call("irq_bind", second, notification, 1) == E["BUSY"], "the binding moves too"
    assert agent.call("cap_delete", moved) == 0
    assert agent.call("irq_bind", copy, notification, 1) == 0
    assert agent.call("cap_delete", copy) == 0


def test_what_cannot_be_bound(agent: Agent, keep: Keep, lines: int, notification: int) -> None:
    two = keep(agent.make("range_slice", lines, 8, 2))
    none = keep(agent.make("range_slice", lines, 200, 1))
    one = keep(agent.make("range_slice", lines, 9, 1))
    for bad in (lines, two, none):
        assert agent.call("irq_bind", bad, notification, 1) == E["INVAL"]
    assert agent.call("irq_ack", lines) == E["INVAL"]
    assert agent.call("range_slice", lines, 257, 1) == E["INVAL"]
    weak = keep(agent.make("cap_copy", one, ALL & ~R["IRQ_BIND"], 0, 0))
    assert agent.call("irq_bind", weak, notification, 1) == E["RIGHTS"]
    assert agent.call("irq_ack", weak) == E["RIGHTS"]
    deaf = keep(agent.make("cap_copy", notification, ALL & ~R["NOTIFY_SIGNAL"], 0, 0))
    assert agent.call("irq_bind", one, deaf, 1) == E["RIGHTS"]
    assert agent.call("irq_bind", one, one, 1) == E["BADCAP"]
    assert agent.call("irq_bind", notification, notification, 1) == E["BADCAP"]


def test_a_driver_that_dies_leaves_its_line_masked(
    agent: Agent, lines: int, notification: int, pit: Callable[[int], None]
) -> None:
    twin = agent.twin(150, 150)
    timer = agent.make("range_slice", lines, PIT_LINE, 1)
    theirs = give(agent, timer, twin)
    there = give(agent, notification, twin)
    assert agent.call("irq_bind", theirs, there, 1, worker=twin.number) == 0
    pit(2000)
    assert agent.sys("wait", notification, SOON).second == 1
    assert agent.call("irq_ack", theirs, worker=twin.number) == 0
    agent.drop(twin.number)
    pit(2000)
    assert agent.call("wait", notification, 30 * MS) == E["TIMEOUT"]
    assert agent.call("irq_bind", timer, notification, 2) == 0, "and free for the next"
    pit(2000)
    assert agent.sys("wait", notification, SOON).second == 2
    assert agent.call("cap_delete", timer) == 0


def test_revoke_takes_a_line_back(agent: Agent, lines: int, notification: int) -> None:
    part = agent.make("range_slice", lines, 4, 8)
    twin = agent.twin(150, 150)
    theirs = agent.make("range_slice", give(agent, part, twin), RTC_LINE, 1, worker=twin.number)
    there = give(agent, notification, twin)
    assert agent.call("irq_bind", theirs, there, 1, worker=twin.number) == 0
    assert agent.call("cap_revoke", part) == 0
    assert agent.call("irq_ack", theirs, worker=twin.number) == E["BADCAP"]
    mine = agent.make("range_slice", part, RTC_LINE, 1)
    assert agent.call("irq_bind", mine, notification, 1) == 0
    for handle in (mine, part):
        assert agent.call("cap_delete", handle) == 0
    agent.drop(twin.number)


def test_a_bound_notification_can_go_first(
    agent: Agent, keep: Keep, lines: int, pit: Callable[[int], None]
) -> None:
    notification = agent.make("notification_create", agent.quota)
    timer = keep(agent.make("range_slice", lines, PIT_LINE, 1))
    assert agent.call("irq_bind", timer, notification, 1) == 0
    assert agent.call("cap_delete", notification) == 0
    pit(100)
    assert comes_about(agent, lambda: agent.sys("irq_ack", timer).second == 1), "nobody was there"


def test_external_nmis_with_their_count(
    agent: Agent, machine: Machine, keep: Keep, lines: int, notification: int
) -> None:
    nmi = keep(agent.make("range_slice", lines, NMI_LINE, 1))
    assert agent.call("irq_bind", nmi, notification, 0x100) == 0
    for _ in range(5):
        Nmi(way="qmp").fire(machine)
        # A core has taken it when it has had a thread: else two would be one.
        for core in reversed(range(agent.cores)):
            assert agent.call("thread_set_affinity", agent.thread, core) == 0
    assert agent.sys("wait", notification, SOON).second == 0x100
    assert agent.sys("irq_ack", nmi).second == 5 * agent.cores, "each core gets each"
    done(agent.start("yield"))
