# SPDX-License-Identifier: MIT
"""The guest's serial line: pexpect does the matching, the Watch does the waiting."""

from __future__ import annotations

import codecs
import io
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pexpect.spawnbase import SpawnBase

from onestack.deadline import Deadline
from onestack.errors import DeadlineError, Failure, GuestError
from onestack.watch import Watch


@dataclass(frozen=True)
class BadPattern:
    """What on the console means that the guest has failed.

    `regex` is matched against each line's text. What follows is kept in the message as far as
    `until`, a line which ends the report, or until the line is silent.
    """

    regex: str
    until: str = ""
    kind: Failure = Failure.PANIC


DEFAULT_BAD_PATTERNS = (  # a kernel does not wait for its user's line feed
    BadPattern(r"(?m)(?:^|\r)panic: [^\r\n]*[\r\n]", until=r"(?m)^panic: end"),
    BadPattern(r"(?m)^boot refused: [^\r\n]*[\r\n]"),
    BadPattern(r"Kernel panic - not syncing[^\r\n]*[\r\n]", until=r"---\[ end Kernel panic"),
    BadPattern(r"(?i)\btriple fault\b[^\r\n]*[\r\n]", kind=Failure.RESET),
)

OVERLAP = 256  # characters: a bad pattern may come in two pieces
QUIET = 0.02  # seconds without output that end a panic's report
REPORT = 0.08  # seconds that a panic's report may take in all
SEND_TIMEOUT = 10.0  # seconds


if TYPE_CHECKING:
    _Spawn = SpawnBase[str]  # generic for the type checker only
else:
    _Spawn = SpawnBase


class _Line(_Spawn):
    """pexpect's buffer and searchers over bytes that the Console brings."""

    def __init__(self, console: Console) -> None:
        super().__init__(timeout=None, maxread=65536, encoding="utf-8", codec_errors="replace")
        self.delayafterread = None
        self._console = console

    def read_nonblocking(self, size: int = 1, timeout: float | None = None) -> str:
        """Bring the next piece; pexpect calls this when its buffer has no match."""
        del size, timeout  # the Console's own deadline governs
        return self._console.next_piece()

    def forget(self) -> None:
        """Empty both of pexpect's buffers: what may match, and what came before a match."""
        self.buffer = ""
        self._before = io.StringIO()


class Console:
    """Reads and writes the serial line over a connected socket.

    Lines end as the guest ends them. `log` is everything that has come, unmodified.
    """

    def __init__(
        self, connected: socket.socket, watch: Watch, bad_patterns: Sequence[BadPattern]
    ) -> None:
        self._socket = connected
        self._socket.setblocking(False)
        self._watch = watch
        self._bad = [(re.compile(bad.regex), bad) for bad in bad_patterns]
        self._line = _Line(self)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []
        self._tail = ""  # what the watch for bad patterns has not yet let go of
        self._deadline = Deadline(0)
        self._what = ""
        self._allowed = 0
        self._ended = False
        self.log = bytearray()
        watch.add(connected.fileno(), self._take)

    # ---- reading

    def _receive(self) -> str:
        """Read what is there. Empty at the end of the line, which is then no longer watched."""
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return ""
        except ConnectionResetError:
            data = b""
        if not data:
            self._ended = True
            self._watch.remove(self._socket.fileno())
            return ""
        self.log += data
        return self._decoder.decode(data)

    def _take(self) -> None:
        """Serve the Watch: keep what came for the next expect(), but look for bad patterns now."""
        text = self._receive()
        if text:
            self._pieces.append(text)
            self._tail += text
            self._judge()

    def _judge(self) -> None:
        """Raise GuestError if the unread text has a bad pattern."""
        if self._allowed:
            self._tail = ""
            return
        for regex, bad in self._bad:
            if found := regex.search(self._tail):
                raise self._failure(bad, self._tail[found.start() :])
        self._tail = self._tail[-OVERLAP:]

    def _failure(self, bad: BadPattern, text: str) -> GuestError:
        """Collect the rest of a panic's report and make the error of it."""
        report = Deadline(REPORT)
        while not (bad.until and re.search(bad.until, text)) and not report.expired:
            more = self._collect(min(QUIET, report.remaining))
            if not more:
                break
            text += more
        self._tail = ""
        self._pieces.clear()
        return GuestError(bad.kind, " | ".join(text.strip().splitlines()))

    def _collect(self, seconds: float) -> str:
        """What comes within `seconds`, on the console alone."""
        only = Watch()
        if self._ended:
            return ""
        try:
            only.wait(self._socket.fileno(), Deadline(seconds), "console output")
        except DeadlineError:
            return ""  # silence: the report is complete
        return self._receive()

    def next_piece(self) -> str:
        """For pexpect: the next piece of output, waiting for it until the deadline."""
        while not self._pieces:
            line = None if self._ended else self._socket.fileno()
            self._watch.wait(line, self._deadline, self._what)
            text = self._receive()
            if text:
                return text
        return self._pieces.pop(0)

    def drain(self) -> None:
        """Take what has already come, so that `log` is complete; finds no fault with it."""
        while not self._ended and (text := self._receive()):
            self._pieces.append(text)

    def forget(self) -> None:
        """Let all that has come count as read: the guest it came from is no more."""
        self.drain()
        self._pieces.clear()
        self._tail = ""
        self._line.forget()

    # ---- for callers

    def expect(self, patterns: str | Sequence[str], deadline: Deadline | float = 10.0) -> int:
        """Wait for one of the regular expressions and return which, as an index.

        `before`, `after` and `match` tell the rest. The earliest match wins, and bad patterns
        take part: GuestError then. DeadlineError if nothing came in time.
        """
        wanted = [patterns] if isinstance(patterns, str) else list(patterns)
        bad = [] if self._allowed else self._bad
        self._deadline = Deadline.of(deadline)
        self._what = f"{' or '.join(repr(pattern) for pattern in wanted)} on the console"
        self._tail = ""
        searched = [re.compile(pattern, re.DOTALL) for pattern in wanted]
        index = int(self._line.expect_list([*searched, *(regex for regex, _ in bad)]))
        if index >= len(wanted):
            raise self._failure(bad[index - len(wanted)][1], self.after + self._line.buffer)
        return index

    def expect_exact(self, text: str, deadline: Deadline | float = 10.0) -> None:
        """Wait for `text`, literally."""
        self.expect(re.escape(text), deadline)

    @property
    def before(self) -> str:
        """What came before the last match and after the one before it."""
        return str(self._line.before)

    @property
    def after(self) -> str:
        """What the last expect() matched."""
        return str(self._line.after)

    @property
    def match(self) -> re.Match[str]:
        """The last match, for its groups."""
        found = self._line.match
        assert isinstance(found, re.Match)
        return found

    @property
    def text(self) -> str:
        """The whole log as text."""
        return self.log.decode("utf-8", "replace")

    def send(self, text: str) -> None:
        """Type `text`. What the guest does not take at once, the socket holds.

        To a guest that has ended nothing is said: who waits for its answer learns why.
        """
        self._socket.settimeout(SEND_TIMEOUT)
        try:
            self._socket.sendall(text.encode())
        except TimeoutError:
            raise DeadlineError("the guest does not read its serial line") from None
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            self._socket.setblocking(False)

    def send_line(self, text: str) -> None:
        """Type `text` and Enter (carriage return, as a terminal sends it)."""
        self.send(text + "\r")

    def run(self, line: str, prompt: str, deadline: Deadline | float = 10.0) -> str:
        """Type a command, wait for the prompt (a regular expression), return what came between."""
        self.send_line(line)
        self.expect(prompt, deadline)
        return self.before.replace("\r", "").removeprefix(line).strip("\n")

    @contextmanager
    def failure_expected(self) -> Iterator[None]:
        """In here the bad patterns are ordinary text, for tests that make a guest panic."""
        self._allowed += 1
        try:
            yield
        finally:
            self._allowed -= 1
            self._tail = ""
