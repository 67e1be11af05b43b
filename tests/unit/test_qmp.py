# SPDX-License-Identifier: MIT
"""The QMP facade against recorded and malformed messages."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from onestack.deadline import Deadline
from onestack.errors import DeadlineError, ProtocolError
from onestack.qmp import Qmp, QmpCommandError

# Recorded from QEMU 7.2.
GREETING = {
    "QMP": {
        "version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"},
        "capabilities": ["oob"],
    }
}
SHUTDOWN = {
    "timestamp": {"seconds": 1, "microseconds": 2},
    "event": "SHUTDOWN",
    "data": {"guest": True, "reason": "guest-reset"},
}


class FakeQmp:
    """A QMP server with an answer for each command; bytes go out as they are."""

    def __init__(self, answers: dict[str, object], greeting: object = GREETING) -> None:
        self.ours, self._theirs = socket.socketpair()
        self._answers = {"qmp_capabilities": {"return": {}}, **answers}
        self.say(greeting)
        threading.Thread(target=self._play, daemon=True).start()

    def say(self, message: object) -> None:
        data = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\r\n"
        self._theirs.sendall(data)

    def _play(self) -> None:
        while data := self._theirs.recv(4096):  # one request each: the client waits for answers
            request = json.loads(data)
            answer = self._answers.get(request["execute"])
            if isinstance(answer, dict):
                answer = {**answer, **({"id": request["id"]} if "id" in request else {})}
            if answer is not None:
                self.say(answer)
        self._theirs.close()

    def hang_up(self) -> None:
        self._theirs.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def sessions() -> Iterator[list[Qmp]]:
    opened: list[Qmp] = []
    yield opened
    for session in opened:
        session.close()


def connect(fake: FakeQmp, sessions: list[Qmp]) -> Qmp:
    sessions.append(Qmp(fake.ours, Deadline(5.0)))
    return sessions[-1]


def test_command_and_transcript(sessions: list[Qmp]) -> None:
    fake = FakeQmp({"query-status": {"return": {"status": "running"}}})
    qmp = connect(fake, sessions)
    assert qmp.execute("query-status") == {"status": "running"}
    text = "\n".join(qmp.transcript)
    assert '-> {"execute": "query-status"' in text
    assert '<- {"return": {"status": "running"}' in text


def test_events_are_kept_and_announced(sessions: list[Qmp]) -> None:
    fake = FakeQmp({})
    qmp = connect(fake, sessions)
    assert not select.select([qmp.event_fd], [], [], 0)[0]
    fake.say({**SHUTDOWN, "event": "STOP"})
    fake.say(SHUTDOWN)
    assert select.select([qmp.event_fd], [], [], 5)[0]
    qmp.acknowledge()
    assert qmp.events == [SHUTDOWN]
    qmp.acknowledge()  # nothing new: harmless
    assert not select.select([qmp.event_fd], [], [], 0)[0]
    assert any("STOP" in line for line in qmp.transcript)


def test_error_answer(sessions: list[Qmp]) -> None:
    error = {"error": {"class": "GenericError", "desc": "no such thing"}}
    qmp = connect(FakeQmp({"x": error}), sessions)
    with pytest.raises(QmpCommandError, match="QMP x: no such thing"):
        qmp.execute("x")


def test_monitor_errors_are_errors(sessions: list[Qmp]) -> None:
    answer = {"return": "unknown command: 'mcee'\r\n"}
    qmp = connect(FakeQmp({"human-monitor-command": answer}), sessions)
    with pytest.raises(QmpCommandError, match="unknown command"):
        qmp.hmp("mcee")


def test_no_answer_is_a_deadline(sessions: list[Qmp]) -> None:
    qmp = connect(FakeQmp({}), sessions)
    with pytest.raises(DeadlineError, match=r"QMP x within 0\.1 s"):
        qmp.execute("x", 0.1)


@pytest.mark.parametrize("answer", [b"no json\r\n", b"[1]\r\n", {"neither": 1}])
def test_malformed_answers(sessions: list[Qmp], answer: object) -> None:
    qmp = connect(FakeQmp({"x": answer}), sessions)
    with pytest.raises(ProtocolError):
        qmp.execute("x", 2.0)


def test_session_that_ends(sessions: list[Qmp]) -> None:
    fake = FakeQmp({})
    qmp = connect(fake, sessions)
    fake.hang_up()
    with pytest.raises(ProtocolError):
        qmp.execute("query-status", 2.0)
    qmp.close()
    with pytest.raises(ProtocolError, match="closed"):
        qmp.execute("query-status")


@pytest.mark.parametrize("greeting", [b"hello\r\n", {"QMP": 3}, {"x": 1}])
def test_malformed_greetings(greeting: object) -> None:
    with pytest.raises(ProtocolError, match="no QMP session"):
        Qmp(FakeQmp({}, greeting).ours, Deadline(5.0))


def test_no_greeting_is_a_deadline() -> None:
    with pytest.raises(DeadlineError, match="QMP greeting"):
        Qmp(FakeQmp({}, b"").ours, Deadline(0.1))
