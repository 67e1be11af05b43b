# SPDX-License-Identifier: MIT
"""Random sequences over capabilities, memory and accounts in three spaces, against a model."""

from __future__ import annotations

import pytest
import tables_model as m
from agent import READY, Agent, Twin
from agent_support import ALL, PAGE, READ, SPOT, WRITE, E, R, T, done
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from onestack.machine import Machine

pytestmark = pytest.mark.machine(append="run=agent", ready=READY, shared=True)

OF_TYPE = {
    "NOTIFICATION": R["NOTIFY_SIGNAL"] | R["NOTIFY_WAIT"],
    "ENDPOINT": R["ENDPOINT_SEND"] | R["ENDPOINT_CALL"] | R["ENDPOINT_RECEIVE"],
    "MEMORY": R["MEMORY_READ"] | R["MEMORY_WRITE"] | R["MEMORY_EXECUTE"] | R["MEMORY_SUPPLY"],
}
GENERIC = R["GRANT"] | R["REVOKE"]
PLACES = 24  # pages of the agent's space that memory is mapped in
MANY = 40  # capabilities


class Tables(RuleBasedStateMachine):
    """The agent's table and those of two twins; each does what it has the capability for."""

    agent: Agent
    twins: list[Twin]

    def __init__(self) -> None:
        super().__init__()
        self.before = self.agent.free()
        self.model = m.Tables()
        self.accounts: list[tuple[m.Account, int]] = []
        self.count = 0

    @initialize()
    def begin(self) -> None:
        self.root = m.Account(None, 0)
        self.new("NOTIFICATION", self.root, self.agent.quota, 0)
        self.new("MEMORY", self.root, self.agent.quota, 2)

    # --- helpers ---

    def worker(self, cap: m.Cap) -> int:
        return self.twins[cap.space - 1].number if cap.space else 0

    def space_handle(self, space: int) -> int:
        """The agent's capability for a twin's space; 0 = its own."""
        return self.twins[space - 1].space if space else 0

    def call(self, cap: m.Cap, name: str, *arguments: int) -> tuple[int, int]:
        """A call by whoever has the capability."""
        result = self.agent.sys(name, *arguments, worker=self.worker(cap))
        return result.value, result.second

    def some(self, data: st.DataObject, *kinds: str) -> m.Cap | None:
        caps = [cap for cap in self.model.caps if not kinds or cap.object.kind in kinds]
        return data.draw(st.sampled_from(caps), label="capability") if caps else None

    def new(self, kind: str, account: m.Account, quota: int, pages: int) -> int:
        size = (pages * PAGE,) if kind == "MEMORY" else ()
        result = self.agent.sys(f"{kind.lower()}_create", quota, *size)
        if result.value == 0:
            thing = m.Object(kind, account, pages)
            account.things += 1
            rights = OF_TYPE[kind] | GENERIC
            self.model.add(m.Cap(thing, rights, 0, 0, result.second, None, pages=pages))
        return result.value

    # --- objects and accounts ---

    @precondition(lambda self: len(self.model.caps) < MANY)
    @rule(data=st.data(), kind=st.sampled_from(sorted(OF_TYPE)), pages=st.integers(1, 5))
    def create(self, data: st.DataObject, kind: str, pages: int) -> None:
        choices = [(self.root, self.agent.quota), *self.accounts]
        account, quota = data.draw(st.sampled_from(choices), label="account")
        before = self.agent.free(quota)
        result = self.new(kind, account, quota, pages)
        if account is self.root:
            assert result == 0
        elif result:
            assert result == E["NOMEM"]
            assert self.agent.free(quota) == before, "nothing half-made stays"
        else:
            least = pages * PAGE if kind == "MEMORY" else 0
            assert least <= before - self.agent.free(quota) <= least + 3 * PAGE

    @precondition(lambda self: len(self.accounts) < 4)
    @rule(data=st.data(), pages=st.integers(0, 12))
    def split(self, data: st.DataObject, pages: int) -> None:
        choices = [(self.root, self.agent.quota), *self.accounts]
        parent, quota = data.draw(st.sampled_from(choices), label="account")
        before = self.agent.free(quota)
        result = self.agent.sys("quota_split", quota, pages * PAGE)
        if result.value:
            assert result.value == E["NOMEM"]
            assert before < (pages + 1) * PAGE
            assert self.agent.free(quota) == before
            return
        assert 0 <= before - self.agent.free(quota) - pages * PAGE <= PAGE
        assert self.agent.free(result.second) == pages * PAGE
        parent.things += 1
        self.accounts.append((m.Account(parent, pages * PAGE), result.second))

    @precondition(lambda self: self.accounts)
    @rule(data=st.data())
    def forget_account(self, data: st.DataObject) -> None:
        """What it paid for keeps it; then its bytes are its parent's again (teardown counts)."""
        account, quota = data.draw(st.sampled_from(self.accounts), label="account")
        assert self.agent.call("cap_delete", quota) == 0
        self.accounts.remove((account, quota))

    # --- capabilities ---

    @precondition(lambda self: len(self.model.caps) < MANY)
    @rule(
        data=st.data(),
        rights=st.sampled_from([ALL, ALL & ~R["GRANT"], ALL & ~R["REVOKE"], R["MEMORY_READ"], 0]),
        badge=st.sampled_from([0, 0, 5, 9]),
        space=st.integers(0, 2),
    )
    def copy(self, data: st.DataObject, rights: int, badge: int, space: int) -> None:
        """The agent's can go anywhere, a twin's stay in its own table."""
        cap = self.some(data)
        if cap is None:
            return
        space = space if cap.space == 0 else cap.space
        there = self.space_handle(space) if cap.space == 0 else 0
        result, handle = self.call(cap, "cap_copy", cap.handle, rights, badge, there)
        left = cap.rights & rights
        may_choose = badge in (0, cap.badge) or (not cap.badge and cap.object.kind != "MEMORY")
        if space != cap.space and not cap.rights & R["GRANT"]:
            assert result == E["RIGHTS"]
        elif left == 0 or not may_choose:
            assert result == E["INVAL"]
        else:
            assert result == 0
            new = m.Cap(cap.object, left, badge or cap.badge, space, handle, cap)
            new.first, new.pages = cap.first, cap.pages
            self.model.add(new)

    @rule(data=st.data(), space=st.integers(0, 2))
    def move(self, data: st.DataObject, space: int) -> None:
        cap = self.some(data)
        if cap is None:
            return
        space = space if cap.space == 0 else cap.space
        there = self.space_handle(space) if cap.space == 0 else 0
        result, handle = self.call(cap, "cap_move", cap.handle, there)
        if space != cap.space and not cap.rights & R["GRANT"]:
            assert result == E["RIGHTS"]
            return
        assert result == 0
        self.model.stale.append((cap.space, cap.handle))
        cap.space, cap.handle = space, handle

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        cap = self.some(data)
        if cap is not None:
            assert self.call(cap, "cap_delete", cap.handle)[0] == 0
            self.model.drop(cap)

    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        cap = self.some(data)
        if cap is None:
            return
        result, _ = self.call(cap, "cap_revoke", cap.handle)
        if cap.rights & R["REVOKE"]:
            assert result == 0
            self.model.revoke(cap)
        else:
            assert result == E["RIGHTS"]

    @precondition(lambda self: len(self.model.caps) < MANY)
    @rule(data=st.data(), first=st.integers(0, 5), pages=st.integers(0, 5))
    def slice(self, data: st.DataObject, first: int, pages: int) -> None:
        cap = self.some(data, "MEMORY")
        if cap is None:
            return
        result, handle = self.call(cap, "range_slice", cap.handle, first * PAGE, pages * PAGE)
        if not cap.rights & (OF_TYPE["MEMORY"] & ~R["MEMORY_SUPPLY"]):
            assert result == E["BADCAP"]
        elif pages == 0 or first + pages > cap.pages:
            assert result == E["INVAL"]
        else:
            assert result == 0
            new = m.Cap(cap.object, cap.rights, 0, cap.space, handle, cap)
            new.first, new.pages = cap.first + first, pages
            new.badge = -1  # its range: no other can be chosen
            self.model.add(new)

    @precondition(lambda self: self.model.stale)
    @rule(data=st.data())
    def use_a_stale_one(self, data: st.DataObject) -> None:
        space, handle = data.draw(st.sampled_from(self.model.stale), label="stale")
        worker = self.twins[space - 1].number if space else 0
        for name in ("cap_info", "cap_delete", "signal", "cap_revoke"):
            assert self.agent.call(name, handle, 1, worker=worker) == E["BADCAP"]

    # --- use ---

    @rule(data=st.data(), bits=st.sampled_from([0, 2, 1 << 40]))
    def signal(self, data: st.DataObject, bits: int) -> None:
        cap = self.some(data, "NOTIFICATION")
        if cap is None:
            return
        result, _ = self.call(cap, "signal", cap.handle, bits)
        if not cap.rights & R["NOTIFY_SIGNAL"]:
            assert result == E["RIGHTS"]
            return
        assert result == 0
        cap.object.bits |= bits or cap.badge

    @rule(data=st.data())
    def poll(self, data: st.DataObject) -> None:
        cap = self.some(data, "NOTIFICATION")
        if cap is None:
            return
        result, bits = self.call(cap, "poll", cap.handle)
        if not cap.rights & R["NOTIFY_WAIT"]:
            assert result == E["RIGHTS"]
        elif cap.object.bits == 0:
            assert result == E["AGAIN"]
        else:
            assert (result, bits) == (0, cap.object.bits)
            cap.object.bits = 0

    @rule(data=st.data(), place=st.integers(0, PLACES - 1))
    def map(self, data: st.DataObject, place: int) -> None:
        cap = self.some(data, "MEMORY")
        if cap is None or cap.space != 0 or place + cap.pages > PLACES:
            return
        flags = READ | (WRITE if cap.rights & R["MEMORY_WRITE"] else 0)
        at = SPOT + place * PAGE | flags
        result, _ = self.call(cap, "map", self.agent.space, cap.handle, at, cap.pages * PAGE, 0)
        if not cap.rights & R["MEMORY_READ"]:
            assert result == E["RIGHTS"]
        elif any(place + i in self.model.mapped() for i in range(cap.pages)):
            assert result == E["OVERLAP"]
        else:
            assert result == 0
            cap.places.add(place)

    @rule(data=st.data(), place=st.integers(0, PLACES - 1))
    def unmap(self, data: st.DataObject, place: int) -> None:
        places = [(cap, at) for cap in self.model.caps for at in cap.places]
        if not places:
            return
        cap, place = data.draw(st.sampled_from(places), label="mapping")
        arguments = (self.agent.space, SPOT + place * PAGE, cap.pages * PAGE)
        assert self.agent.call("unmap", *arguments) == 0
        cap.places.remove(place)

    @rule(place=st.integers(0, PLACES - 1))
    def write(self, place: int) -> None:
        self.count += 1
        shown = self.model.mapped().get(place)
        written = self.agent.poke(SPOT + place * PAGE, self.count)
        if shown is None or not shown[0].rights & R["MEMORY_WRITE"]:
            assert not written
        else:
            assert written
            shown[0].object.content[shown[1]] = self.count

    @rule(place=st.integers(0, PLACES - 1))
    def read(self, place: int) -> None:
        shown = self.model.mapped().get(place)
        wanted = shown[0].object.content.get(shown[1], 0) if shown else None
        assert self.agent.peek(SPOT + place * PAGE) == wanted

    @invariant()
    def one_is_what_it_should_be(self) -> None:
        self.count += 1
        if self.model.caps:
            cap = self.model.caps[self.count % len(self.model.caps)]
            kind, rights = self.call(cap, "cap_info", cap.handle)
            assert (kind, rights) == (T[cap.object.kind], cap.rights)

    def teardown(self) -> None:
        for place, shown in self.model.mapped().items():
            wanted = shown[0].object.content.get(shown[1], 0)
            assert self.agent.peek(SPOT + place * PAGE) == wanted
        for cap in list(self.model.caps):
            assert self.call(cap, "cap_delete", cap.handle)[0] == 0
        for _, quota in self.accounts:
            assert self.agent.call("cap_delete", quota) == 0
        assert self.agent.free() == self.before, "an account has not got all back"


def run(machine: Machine, examples: int, phases: set[Phase]) -> None:
    agent = Agent(machine)
    # Tables have their size before anything is counted (ADR 120).
    filler = [agent.make("cap_copy", agent.quota, ALL, 0, 0) for _ in range(64)]
    for handle in filler:
        assert agent.call("cap_delete", handle) == 0

    class Case(Tables):
        pass

    Case.agent, Case.twins = agent, [agent.twin(150, 150) for _ in range(2)]
    case = Case.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=60,
        deadline=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    try:
        case().runTest()
    finally:
        for twin in Case.twins:
            agent.drop(twin.number)


def test_random_tables(machine: Machine) -> None:
    run(machine, 30, {Phase.generate, Phase.explicit, Phase.shrink})


def test_a_planted_fault_is_found(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model in which children go with their parent is told that it is wrong."""
    drop = m.Tables.drop

    def drop_all(self: m.Tables, cap: m.Cap) -> None:
        self.revoke(cap)
        drop(self, cap)

    monkeypatch.setattr(m.Tables, "drop", drop_all)
    # Or, when what failed is played again, the guest is not as it was: that failure counts.
    with pytest.raises((AssertionError, Flaky)):
        run(machine, 200, {Phase.generate})
    assert done(Agent(machine).start("yield")).value == 0
