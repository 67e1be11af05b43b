# SPDX-License-Identifier: MIT
"""A reference model of capabilities, memory and accounts, as docs/syscalls.md says.

A capability has a parent and children and nothing else; what it mapped is a set of places. It has
nothing in common with the kernel's lists and tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False)
class Account:
    """What can be spent of it is only known to be less than it got."""

    parent: Account | None
    limit: int
    things: int = 0  # objects and accounts that are charged to it
    named: bool = True  # there is a capability for it

    def alive(self) -> bool:
        return self.named or self.things > 0


@dataclass(eq=False)
class Object:
    """Something that capabilities name."""

    kind: str
    account: Account
    pages: int = 0
    bits: int = 0  # a notification's
    content: dict[int, int] = field(default_factory=dict)  # memory: the first word of pages


@dataclass(eq=False)
class Cap:
    """A capability, in the table of a space (0, 1, 2 ...)."""

    object: Object
    rights: int
    badge: int
    space: int
    handle: int
    parent: Cap | None
    children: list[Cap] = field(default_factory=list)
    places: set[int] = field(default_factory=set)  # (in the agent's space) where it maps its pages
    first: int = 0  # memory: the part that it names
    pages: int = 0


@dataclass
class Tables:
    """All there is."""

    caps: list[Cap] = field(default_factory=list)
    stale: list[tuple[int, int]] = field(default_factory=list)  # space and handle

    def add(self, cap: Cap) -> Cap:
        self.caps.append(cap)
        if cap.parent:
            cap.parent.children.append(cap)
        return cap

    def drop(self, cap: Cap) -> None:
        """Its children become its parent's; what it mapped goes; with the last one the object."""
        for child in cap.children:
            child.parent = cap.parent
            if cap.parent:
                cap.parent.children.append(child)
        if cap.parent:
            cap.parent.children.remove(cap)
        self.caps.remove(cap)
        self.stale.append((cap.space, cap.handle))
        if not any(other.object is cap.object for other in self.caps):
            cap.object.account.things -= 1

    def revoke(self, cap: Cap) -> None:
        for child in list(cap.children):
            self.revoke(child)
            self.drop(child)

    def mapped(self) -> dict[int, tuple[Cap, int]]:
        """By place: which capability shows which page of its object there."""
        return {
            place + page: (cap, cap.first + page)
            for cap in self.caps
            for place in cap.places
            for page in range(cap.pages)
        }
