# SPDX-License-Identifier: MIT
"""One moment by which something must have happened, shared by all the waits on the way there."""

from __future__ import annotations

import time

from onestack.errors import DeadlineError


class Deadline:
    """A point on the monotonic clock, `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @classmethod
    def of(cls, value: Deadline | float) -> Deadline:
        """Take a Deadline as it is; turn seconds into one."""
        return value if isinstance(value, Deadline) else cls(value)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the moment has passed."""
        return time.monotonic() >= self._end

    def check(self, what: str) -> None:
        """Raise DeadlineError, naming `what` was awaited, if the moment has passed."""
        if self.expired:
            raise self.error(what)

    def error(self, what: str) -> DeadlineError:
        """The error to raise for `what` did not come."""
        return DeadlineError(f"no {what} within {self.seconds:g} s")
