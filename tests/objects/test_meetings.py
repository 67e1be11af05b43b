# SPDX-License-Identifier: MIT
"""Random sequences of operations in the running guest, each compared with the model."""

from __future__ import annotations

from dataclasses import dataclass

import meetings_model as m
import pytest
from agent import READY, Agent, Result
from agent_support import ALL, MS, E, done, wait_done
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from onestack.machine import Machine

pytestmark = [
    pytest.mark.machine(append="run=agent", ready=READY, shared=True),
    pytest.mark.cores(1, 2, 4),
]

MOSTLY = st.sampled_from([True, True, True, False])
PRIORITIES = st.sampled_from([140, 150, 150, 160, 170])
WORDS = st.integers(0, 2**64 - 1).map(lambda n: (n, n ^ 1, n // 3, 7, 0, 2**64 - 1 - n))
BADGES = (0, 0xB0, 0xB1)
FOREVER = 2**64 - 1
LOOK = 8  # steps between two looks at those who should still be blocked


@dataclass(eq=False)
class Worker:
    """A thread in both worlds."""

    number: int
    handle: int
    thread: m.Thread

    def idle(self) -> bool:
        """Whether it can be asked to make a call."""
        return not self.thread.blocked and not self.thread.suspended

    def __repr__(self) -> str:
        return f"worker {self.number}"


@dataclass(eq=False)
class Endpoint:
    """An endpoint, named by a capability without a badge and by two with one."""

    handles: list[int]
    model: m.Endpoint

    def __repr__(self) -> str:
        return f"endpoint {self.handles[0]:#x}"


@dataclass(eq=False)
class Notification:
    handle: int
    model: m.Notification


@dataclass(eq=False)
class Reply:
    handle: int
    model: m.Reply


def text(words: m.Words) -> str:
    return "w=" + ",".join(map(str, words))


class Meetings(RuleBasedStateMachine):
    """Workers that send, call, receive, reply, wait; an agent that signals, cancels and kills."""

    agent: Agent

    def __init__(self) -> None:
        super().__init__()
        self.before = self.agent.free()
        self.workers: list[Worker] = []
        self.endpoints: list[Endpoint] = []
        self.notifications: list[Notification] = []
        self.replies: list[Reply] = []
        self.step = 0

    # --- making things ---

    @initialize(priorities=st.lists(PRIORITIES, min_size=4, max_size=6))
    def begin(self, priorities: list[int]) -> None:
        for priority in priorities:
            self.new_worker(priority)
        for _ in range(2):
            self.new_endpoint()
        self.new_notification()

    def new_worker(self, priority: int) -> None:
        number = self.agent.worker(priority, priority)
        handle = self.agent.threads[number]
        self.workers.append(Worker(number, handle, m.Thread(priority)))

    def new_endpoint(self) -> None:
        plain = self.agent.make("endpoint_create", self.agent.quota)
        handles = [plain]
        handles += [self.agent.make("cap_copy", plain, ALL, badge, 0) for badge in BADGES[1:]]
        self.endpoints.append(Endpoint(handles, m.Endpoint()))

    def new_notification(self) -> None:
        handle = self.agent.make("notification_create", self.agent.quota)
        self.notifications.append(Notification(handle, m.Notification()))

    # --- choosing and comparing ---

    def idle(self, data: st.DataObject) -> Worker:
        idle = [worker for worker in self.workers if worker.idle()]
        return data.draw(st.sampled_from(idle), label="worker")

    def any_worker_idle(self) -> bool:
        return any(worker.idle() for worker in self.workers)

    def compare(self, result: Result | None, news: m.News | None) -> None:
        if news is None:
            assert result is None, "the model blocks"
            return
        assert result is not None, f"the model has {news}"
        assert result.value == news.value
        if news.second is not None:
            assert result.second == news.second
        if news.words is not None:
            assert result.words[: len(news.words)] == news.words

    @invariant()
    def everybody_is_where_the_model_has_him(self) -> None:
        for worker in self.workers:
            thread = worker.thread
            if thread.suspended:
                if self.step % LOOK == 0:
                    assert self.agent.poll(worker.number) is None, "it does not run"
            elif thread.news is not None:
                self.compare(self.agent.poll(worker.number), thread.news)
                thread.news = None
            elif thread.blocked and self.step % LOOK == 0:
                assert self.agent.poll(worker.number) is None
        self.step += 1

    # --- what workers do ---

    @precondition(any_worker_idle)
    @rule(data=st.data(), words=WORDS, badge=st.integers(0, 2), wait=MOSTLY)
    def send(self, data: st.DataObject, words: m.Words, badge: int, wait: bool) -> None:
        self.do_send(data, words, badge, "send" if wait else "send timeout=0")

    @precondition(any_worker_idle)
    @rule(data=st.data(), words=WORDS, badge=st.integers(0, 2))
    def call(self, data: st.DataObject, words: m.Words, badge: int) -> None:
        self.do_send(data, words, badge, "call")

    @precondition(any_worker_idle)
    @rule(data=st.data(), words=WORDS)
    def serve(self, data: st.DataObject, words: m.Words) -> None:
        """A call and a receive at one endpoint, so that replies have something to do."""
        self.do_send(data, words, 0, "call")
        self.everybody_is_where_the_model_has_him()
        if self.any_worker_idle():
            self.receive_somewhere(data, wait=True)

    def do_send(self, data: st.DataObject, words: m.Words, badge: int, how: str) -> None:
        worker = self.idle(data)
        endpoint = data.draw(st.sampled_from(self.endpoints), label="endpoint")
        name, *options = how.split()
        options.append(text(words))
        result = self.agent.ipc(name, endpoint.handles[badge], *options, worker=worker.number)
        message = (words, BADGES[badge])
        news = worker.thread.send(endpoint.model, message, name == "call", len(options) == 1)
        self.compare(result, news)

    @precondition(any_worker_idle)
    @rule(data=st.data(), wait=MOSTLY)
    def receive(self, data: st.DataObject, wait: bool) -> None:
        self.receive_somewhere(data, wait)

    def receive_somewhere(self, data: st.DataObject, wait: bool) -> None:
        worker = self.idle(data)
        endpoint = data.draw(st.sampled_from(self.endpoints), label="endpoint")
        options = () if wait else ("timeout=0",)
        result = self.agent.ipc("receive", endpoint.handles[0], *options, worker=worker.number)
        self.compare(result, worker.thread.receive(endpoint.model, wait))

    @precondition(any_worker_idle)
    @rule(data=st.data(), words=WORDS)
    def reply(self, data: st.DataObject, words: m.Words) -> None:
        worker = self.idle(data)
        result = self.agent.ipc("reply", 0, text(words), worker=worker.number)
        self.compare(result, worker.thread.answer(words))

    @precondition(any_worker_idle)
    @rule(data=st.data(), words=WORDS)
    def reply_receive(self, data: st.DataObject, words: m.Words) -> None:
        worker = self.idle(data)
        endpoint = data.draw(st.sampled_from(self.endpoints), label="endpoint")
        handle = endpoint.handles[0]
        result = self.agent.ipc("reply_receive", handle, text(words), worker=worker.number)
        news = worker.thread.answer_and_receive(endpoint.model, words)
        self.compare(result, news)

    @precondition(any_worker_idle)
    @rule(data=st.data())
    def reply_save(self, data: st.DataObject) -> None:
        worker = self.idle(data)
        result = self.agent.sys("reply_save", self.agent.quota, worker=worker.number)
        reply = worker.thread.save()
        assert result.value == (0 if reply else E["NOREPLY"])
        if reply:
            self.replies.append(Reply(result.second, reply))

    @precondition(lambda self: self.replies and self.any_worker_idle())
    @rule(data=st.data(), words=WORDS)
    def reply_to_a_saved_one(self, data: st.DataObject, words: m.Words) -> None:
        worker = self.idle(data)
        reply = data.draw(st.sampled_from(self.replies), label="reply")
        result = self.agent.ipc("reply", reply.handle, text(words), worker=worker.number)
        self.compare(result, worker.thread.answer_saved(reply.model, words))
        self.replies.remove(reply)
        assert self.agent.call("cap_info", reply.handle) == E["BADCAP"]

    @precondition(any_worker_idle)
    @rule(data=st.data(), wait=MOSTLY)
    def wait(self, data: st.DataObject, wait: bool) -> None:
        worker = self.idle(data)
        notification = data.draw(st.sampled_from(self.notifications), label="notification")
        timeout = FOREVER if wait else 0
        result = self.agent.start("wait", notification.handle, timeout, worker=worker.number)
        self.compare(result, worker.thread.wait(notification.model, wait))

    @precondition(any_worker_idle)
    @rule(data=st.data(), words=WORDS, how=st.sampled_from(["send", "call", "receive", "wait"]))
    def in_time(self, data: st.DataObject, words: m.Words, how: str) -> None:
        """With a timeout that passes before anything else happens."""
        worker, time = self.idle(data), f"timeout={MS}"
        endpoint = data.draw(st.sampled_from(self.endpoints), label="endpoint")
        notification = data.draw(st.sampled_from(self.notifications), label="notification")
        number, thread, handle = worker.number, worker.thread, endpoint.handles[0]
        if how == "wait":
            result = self.agent.start("wait", notification.handle, MS, worker=number)
            news = thread.wait(notification.model, wait=True)
        elif how == "receive":
            result = self.agent.ipc("receive", handle, time, worker=number)
            news = thread.receive(endpoint.model, wait=True)
        else:
            result = self.agent.ipc(how, handle, time, text(words), worker=number)
            news = thread.send(endpoint.model, (words, 0), how == "call", wait=True)
        if news is not None:
            self.compare(result, news)
            return
        thread.time_out()
        self.compare(result or wait_done(self.agent, number), thread.news)
        thread.news = None

    # --- what is done to them ---

    @rule(data=st.data(), bits=st.sampled_from([0, 1, 2, 1 << 63]))
    def signal(self, data: st.DataObject, bits: int) -> None:
        notification = data.draw(st.sampled_from(self.notifications), label="notification")
        assert self.agent.call("signal", notification.handle, bits) == 0
        m.signal(notification.model, bits)

    @rule(
        data=st.data(),
        what=st.sampled_from(["bind", "unbind", "set_priority", "cancel", "suspend", "resume"]),
    )
    def meddle(self, data: st.DataObject, what: str) -> None:
        worker = data.draw(st.sampled_from(self.workers), label="worker")
        getattr(self, what)(data, worker)

    def bind(self, data: st.DataObject, worker: Worker) -> None:
        notification = data.draw(st.sampled_from(self.notifications), label="notification")
        result = self.agent.call("thread_bind", worker.handle, notification.handle)
        assert result == m.bind(notification.model, worker.thread)

    def unbind(self, _: st.DataObject, worker: Worker) -> None:
        assert self.agent.call("thread_bind", worker.handle, 0) == 0
        if worker.thread.bound:
            worker.thread.bound.bound = None
            worker.thread.bound = None

    def set_priority(self, data: st.DataObject, worker: Worker) -> None:
        priority = data.draw(PRIORITIES, label="priority")
        assert self.agent.call("thread_set_priority", worker.handle, priority) == 0
        worker.thread.set_base(priority)

    def cancel(self, _: st.DataObject, worker: Worker) -> None:
        """One whose call has ended, and that only does not run, waits for nothing."""
        ended = worker.thread.suspended and not worker.thread.blocked
        result = self.agent.call("thread_cancel", worker.handle)
        assert result == (E["BUSY"] if ended else 0)
        self.agent.call("yield")
        worker.thread.cancel()

    def suspend(self, _: st.DataObject, worker: Worker) -> None:
        """In the middle of its call, which goes on; it does not."""
        if worker.thread.blocked:
            assert self.agent.call("thread_suspend", worker.handle) == 0
            worker.thread.suspended = True

    def resume(self, _: st.DataObject, worker: Worker) -> None:
        assert self.agent.call("thread_resume", worker.handle) == 0
        worker.thread.suspended = False

    @rule(data=st.data(), what=st.sampled_from(["worker", "endpoint", "notification", "reply"]))
    def end(self, data: st.DataObject, what: str) -> None:
        getattr(self, f"end_{what}")(data)

    def end_worker(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.workers), label="worker")
        self.agent.drop(worker.number)
        worker.thread.end()
        self.workers.remove(worker)
        self.new_worker(data.draw(PRIORITIES, label="priority"))

    def end_endpoint(self, data: st.DataObject) -> None:
        endpoint = data.draw(st.sampled_from(self.endpoints), label="endpoint")
        self.endpoints.remove(endpoint)
        for handle in endpoint.handles:
            assert self.agent.call("cap_delete", handle) == 0
        m.end_endpoint(endpoint.model)
        self.new_endpoint()

    def end_notification(self, data: st.DataObject) -> None:
        notification = data.draw(st.sampled_from(self.notifications), label="notification")
        self.notifications.remove(notification)
        assert self.agent.call("cap_delete", notification.handle) == 0
        m.end_notification(notification.model)
        self.new_notification()

    def end_reply(self, data: st.DataObject) -> None:
        if not self.replies:
            return
        reply = data.draw(st.sampled_from(self.replies), label="reply")
        self.replies.remove(reply)
        assert self.agent.call("cap_delete", reply.handle) == 0
        m.end_reply(reply.model)

    def teardown(self) -> None:
        self.step = 0
        self.everybody_is_where_the_model_has_him()
        for worker in self.workers:
            self.agent.drop(worker.number)
        handles = [handle for endpoint in self.endpoints for handle in endpoint.handles]
        handles += [notification.handle for notification in self.notifications]
        handles += [reply.handle for reply in self.replies]
        for handle in handles:
            assert self.agent.call("cap_delete", handle) == 0
        assert self.agent.has_back(self.before)


def run(machine: Machine, examples: int, *, phases: set[Phase]) -> None:
    class Case(Meetings):
        agent = Agent(machine)

    case = Case.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=60,
        deadline=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    case().runTest()


def test_random_meetings(machine: Machine) -> None:
    run(machine, 50, phases={Phase.generate, Phase.explicit, Phase.shrink})


def test_a_planted_fault_is_found(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that puts newcomers first is told that it is wrong."""

    def join_first(self: m.Place, thread: m.Thread) -> None:
        at = sum(1 for other in self.line if other.priority > thread.priority)
        self.line.insert(at, thread)
        thread.place = self

    monkeypatch.setattr(m.Place, "join", join_first)
    # Or, when what failed is played again, the guest is not as it was: that failure counts.
    with pytest.raises((AssertionError, Flaky)):
        run(machine, 200, phases={Phase.generate})
    assert done(Agent(machine).start("yield")).value == 0
