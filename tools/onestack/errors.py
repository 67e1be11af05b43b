# SPDX-License-Identifier: MIT
"""What can go wrong, each with one line that says so and, where there is one, the remedy."""

from __future__ import annotations

import enum


class OnestackError(Exception):
    """Base of all errors the harness raises on purpose.

    `remedy` is one sentence that says what the user can do, or empty.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        """Message and remedy on one line."""
        return f"{self.message}. {self.remedy}" if self.remedy else self.message


class UsageError(OnestackError):
    """The caller asked for something that makes no sense; the exit code of the CLI is 2."""


class DeadlineError(OnestackError):
    """A wait came to its deadline while the guest was, as far as can be seen, still alive."""


class ProtocolError(OnestackError):
    """The other end of a socket sent what its protocol does not allow."""


class DeliveryError(OnestackError):
    """An injected event was not seen to arrive."""


class Failure(enum.StrEnum):
    """How a guest ends when it should not."""

    PANIC = "panic"
    RESET = "reset"
    EXITED = "exited"
    KILLED = "killed"  # not the guest but a process of its own, by the guest


class GuestError(OnestackError):
    """The guest panicked, reset or ended while somebody waited for something else.

    `kind` says which, `status` is QEMU's exit status if it has one. `saved` names the folder of the
    artefacts once somebody has kept them.
    """

    def __init__(self, kind: Failure, detail: str, status: int | None = None) -> None:
        super().__init__(f"guest {kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.status = status
