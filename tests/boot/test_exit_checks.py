# SPDX-License-Identifier: MIT
"""Planted: a write to `no_thread`, and a look-up that may not fault."""

from __future__ import annotations

import pytest
from abi import SLOT
from agent import E_BADCAP, READY, Agent

from onestack.elf import Images
from onestack.errors import GuestError
from onestack.inject import Injector
from onestack.machine import Machine
from onestack.structs import Structs

BEYOND = 1 << 32 | 0xFFFFF * SLOT


@pytest.mark.machine(debug=True, append="run=agent", ready=READY + "\r\n")
def test_a_write_to_no_thread_is_found(machine: Machine, images: Images) -> None:
    """By a debug build, at the next exit."""
    machine.pause()
    offset = Structs(images.images[0].path).offset("thread", "next")
    machine.gdb.write(images.resolve("no_thread") + offset, b"\1")
    machine.resume()
    with pytest.raises(GuestError, match="has written to `no_thread`"):
        Agent(machine).call("yield")


@pytest.mark.machine(append="run=agent", ready=READY)
def test_a_lookup_that_may_not_fault_panics(machine: Machine, images: Images) -> None:
    """Without its line in the table a handle beyond the caller's table is a bug of the kernel's."""
    start, end = (images.resolve(f"{name}fixups_start") for name in ("__cap_", "__"))
    agent = Agent(machine)
    assert agent.call("signal", BEYOND, 1) == E_BADCAP
    machine.pause()
    machine.gdb.write(start, bytes(end - start))
    machine.resume()
    with pytest.raises(GuestError, match="panic"):
        agent.call("signal", BEYOND, 1)


@pytest.mark.machine(debug=True, append="run=agent", paused=True)
def test_one_that_runs_and_misses_a_page_is_found(
    machine: Machine, images: Images, injector: Injector
) -> None:
    """Where the page stands, the rest of its slice would be: it may not be chosen."""
    chosen = injector.stop_at("sched_switch", 60.0)
    offset = Structs(images.images[0].path).offset("thread", "fault_memory")
    machine.gdb.write(chosen["rdx"] + offset, b"\1")
    machine.resume()
    with machine.console.failure_expected():
        machine.console.expect(r"panic: [^\n]*not so: !self->fault_memory", 60.0)
