# SPDX-License-Identifier: MIT
"""Waiting for one thing while watching everything: console, QMP events, the process.

Every wait of the harness ends up here, so that a panic, a reset or an exit ends it at once,
whatever it was waiting for.
"""

from __future__ import annotations

import select
from collections.abc import Callable

from onestack.deadline import Deadline


class Watch:
    """A set of file descriptors, each with a function that takes what has come.

    Such a function raises GuestError when what came means that the guest has failed.
    """

    def __init__(self) -> None:
        self._takers: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()

    def add(self, fd: int, taker: Callable[[], None]) -> None:
        """Watch `fd`; call `taker` whenever it is readable during somebody's wait."""
        self._takers[fd] = taker
        self._poll.register(fd, select.POLLIN)

    def remove(self, fd: int) -> None:
        """Watch `fd` no longer, for instance because it is at its end."""
        if self._takers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def wait(self, fd: int | None, deadline: Deadline, what: str) -> None:
        """Return when `fd` is readable or closed by the other end.

        All other descriptors are served meanwhile; their takers' GuestError passes through.
        DeadlineError if nothing came. `fd` need not be one of the watched ones; without one only a
        failure of the guest or the deadline ends the wait.
        """
        extra = fd is not None and fd not in self._takers
        if extra and fd is not None:
            self._poll.register(fd, select.POLLIN)
        try:
            while True:
                ready = [number for number, _ in self._poll.poll(deadline.remaining * 1000)]
                if fd in ready:
                    return
                for number in ready:
                    self._takers[number]()
                if not ready:
                    deadline.check(what)
        finally:
            if extra and fd is not None:
                self._poll.unregister(fd)

    def serve(self) -> None:
        """Take what has already come, without waiting."""
        for number, _ in self._poll.poll(0):
            self._takers[number]()
