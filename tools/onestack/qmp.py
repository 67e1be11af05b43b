# SPDX-License-Identifier: MIT
"""A synchronous face for qemu.qmp: commands, all events, a transcript. No policy.

The protocol runs in a thread with an event loop of its own, so that events are seen when they
come and not when somebody asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from qemu.qmp import Message, QMPClient, QMPError

from onestack.deadline import Deadline
from onestack.errors import DeadlineError, OnestackError, ProtocolError

T = TypeVar("T")
JsonObject = dict[str, Any]
TRANSCRIPT_LINES = 5000


class QmpCommandError(OnestackError):
    """QEMU answered a command with an error."""


class _Client(QMPClient):
    """A QMPClient that shows every message to `see` as it passes."""

    def __init__(self, see: Callable[[str, JsonObject], None]) -> None:
        super().__init__("onestack")
        self._see = see

    def _cb_outbound(self, msg: Message) -> Message:
        self._see("->", dict(msg))
        return super()._cb_outbound(msg)

    def _cb_inbound(self, msg: Message) -> Message:
        self._see("<-", dict(msg))
        return super()._cb_inbound(msg)


class Qmp:
    """A QMP session over a connected socket.

    `events` has all events since the start, in order, but for STOP and RESUME: a sweep makes
    thousands of them. `event_fd` becomes readable when there are new ones; `acknowledge` makes it
    unreadable again. `transcript` has a line for each of the last messages, with the seconds since
    the session was made.
    """

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self.events: list[JsonObject] = []
        self.transcript: deque[str] = deque(maxlen=TRANSCRIPT_LINES)
        self._start = time.monotonic()
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()
        self._closed = False
        self._client: _Client | None = None
        try:
            self._run(self._open(connected), deadline, "QMP greeting")
        except QMPError as error:
            self.close()
            raise ProtocolError(f"no QMP session: {error}") from error
        except DeadlineError:
            self.close()
            raise

    async def _open(self, connected: socket.socket) -> None:
        self._client = _Client(self._see)
        await self._client.connect(connected)

    def _see(self, direction: str, message: JsonObject) -> None:
        stamp = time.monotonic() - self._start
        self.transcript.append(f"{stamp:9.4f} {direction} {json.dumps(message)}")
        if direction == "<-" and message.get("event", "STOP") not in ("STOP", "RESUME"):
            self.events.append(message)
            os.eventfd_write(self.event_fd, 1)

    def _run(self, work: Coroutine[Any, Any, T], deadline: Deadline, what: str) -> T:
        # the time-out is the loop's, so that the work has unwound when this returns
        timed = asyncio.wait_for(work, deadline.remaining)
        try:
            return asyncio.run_coroutine_threadsafe(timed, self._loop).result()
        except TimeoutError:
            raise deadline.error(what) from None

    def execute(self, command: str, deadline: Deadline | float = 10.0, **arguments: object) -> Any:
        """Run a command and return its answer.

        Underscores in the names of arguments stand for dashes. QmpCommandError if QEMU refuses,
        ProtocolError if the session has ended.
        """
        if self._client is None:
            raise ProtocolError("the QMP session is closed")
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        work = self._client.execute(command, named or None)
        try:
            return self._run(work, Deadline.of(deadline), f"answer to QMP {command}")
        except QMPError as error:
            kind = QmpCommandError if hasattr(error, "error_class") else ProtocolError
            raise kind(f"QMP {command}: {error}") from error

    def hmp(self, line: str, deadline: Deadline | float = 10.0) -> str:
        """Run a command of the human monitor and return what it printed.

        QmpCommandError if it printed an error: HMP has no other way to say so.
        """
        said = self.execute("human-monitor-command", deadline, command_line=line)
        text = str(said).strip()
        if text.lower().startswith(("error", "unknown command", "invalid")):
            raise QmpCommandError(f"monitor: {line}: {text}")
        return text

    def acknowledge(self) -> None:
        """Make `event_fd` unreadable until the next event."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.event_fd)

    def close(self) -> None:
        """End the session and its thread. Idempotent; `events` and `transcript` stay."""
        if self._closed:
            return
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(QMPError, OnestackError, EOFError, OSError):
                # it may have ended by itself
                self._run(client.disconnect(), Deadline(1.0), "end of the QMP session")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        os.close(self.event_fd)
