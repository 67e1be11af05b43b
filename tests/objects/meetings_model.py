# SPDX-License-Identifier: MIT
"""A reference model of threads that meet at endpoints and notifications, as docs/syscalls.md says.

Lists where the kernel has rings, sorting where it has groups, recursion where it has loops: it has
nothing in common with the kernel but the manual. A call returns how it ends, or None if it blocks;
how it ends calls of others is left in their `news`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent_support import INFO_NOTIFIED, E

Words = tuple[int, ...]
NO_WORDS: Words = (0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class News:
    """How a call ends: rax, and rdx and the words if it brings such; of bits, only the first."""

    value: int
    second: int | None = None
    words: Words | None = None


@dataclass(eq=False)
class Place:
    """Somewhere to wait: an endpoint's side, a notification. By priority, then first come."""

    receives: bool = False  # an endpoint's receivers
    line: list[Thread] = field(default_factory=list)

    def join(self, thread: Thread) -> None:
        at = sum(1 for other in self.line if other.priority >= thread.priority)
        self.line.insert(at, thread)
        thread.place = self

    def leave(self, thread: Thread) -> None:
        self.line.remove(thread)
        thread.place = None

    def pop(self) -> Thread | None:
        if not self.line:
            return None
        first = self.line[0]
        self.leave(first)
        return first


@dataclass(eq=False)
class Endpoint:
    senders: Place = field(default_factory=Place)
    receivers: Place = field(default_factory=lambda: Place(receives=True))


@dataclass(eq=False)
class Notification:
    bits: int = 0
    waiters: Place = field(default_factory=Place)
    bound: Thread | None = None


@dataclass(eq=False)
class Reply:
    caller: Thread | None
    saver: Thread | None


@dataclass(eq=False)
class Thread:
    base: int
    priority: int = -1
    news: News | None = None  # how its blocked call has ended
    blocked: bool = False
    place: Place | None = None
    words: Words = NO_WORDS
    badge: int = 0
    calls: bool = False
    caller: Thread | None = None
    server: Thread | None = None  # who shall answer, or has saved the right to
    reply: Reply | None = None  # the saved right
    saved: list[Thread] = field(default_factory=list)
    bound: Notification | None = None
    suspended: bool = False

    def __post_init__(self) -> None:
        self.priority = self.base

    # --- priorities ---

    def inherit(self) -> None:
        waiting = [self.caller] if self.caller else []
        wanted = max([self.base, *(each.priority for each in waiting + self.saved)])
        if wanted == self.priority:
            return
        place = self.place
        if place:
            place.leave(self)
        self.priority = wanted
        if place:
            place.join(self)
        if self.server:
            self.server.inherit()

    # --- waking ---

    def wake(self, news: News) -> None:
        self.blocked = False
        self.news = news

    def block(self, place: Place | None) -> None:
        self.blocked = True
        if place:
            place.join(self)

    def leave(self) -> None:
        """Out of whatever it waits in; its server is free of it."""
        if self.place:
            self.place.leave(self)
        self.leave_server()
        self.calls = False

    def leave_server(self) -> None:
        server, self.server = self.server, None
        if self.reply:
            self.reply.caller = None
            self.reply = None
        if server and server.caller is self:
            server.caller = None
        elif server:
            server.saved.remove(self)
        if server:
            server.inherit()

    # --- calls ---

    def take(self, sender: Thread) -> News:
        """Receive what the sender, out of its queue, has."""
        news = News(0, sender.badge, sender.words)
        if sender.calls:
            sender.calls = False
            sender.server = self
            self.caller = sender
            self.inherit()
        return news

    def send(
        self, endpoint: Endpoint, message: tuple[Words, int], calls: bool, wait: bool
    ) -> News | None:
        self.words, self.badge = message
        self.calls = calls
        receiver = endpoint.receivers.pop()
        if receiver:
            self.blocked = calls
            receiver.wake(receiver.take(self))
            return None if calls else News(0)
        if not wait:
            self.calls = False
            return News(E["AGAIN"])
        self.block(endpoint.senders)
        return None

    def receive(self, endpoint: Endpoint, wait: bool) -> News | None:
        if self.caller:
            caller, self.caller = self.caller, None
            caller.server = None
            caller.wake(News(E["NOREPLY"]))
            self.inherit()
        return self.receive_next(endpoint, wait)

    def receive_next(self, endpoint: Endpoint, wait: bool) -> News | None:
        if self.bound and self.bound.bits:
            bits, self.bound.bits = self.bound.bits, 0
            return News(INFO_NOTIFIED, 0, (bits,))
        sender = endpoint.senders.pop()
        if sender:
            called = sender.calls
            news = self.take(sender)
            if not called:
                sender.wake(News(0))
            return news
        if not wait:
            return News(E["AGAIN"])
        self.block(endpoint.receivers)
        return None

    def answer(self, words: Words) -> News:
        caller, self.caller = self.caller, None
        if not caller:
            return News(E["NOREPLY"])
        caller.server = None
        self.inherit()
        caller.wake(News(0, 0, words))
        return News(0)

    def answer_and_receive(self, endpoint: Endpoint, words: Words) -> News | None:
        if not self.caller:
            return News(E["NOREPLY"])
        self.answer(words)
        return self.receive_next(endpoint, wait=True)

    def save(self) -> Reply | None:
        if not self.caller:
            return None
        caller, self.caller = self.caller, None
        caller.reply = Reply(caller, self)
        self.saved.append(caller)
        return caller.reply

    def answer_saved(self, reply: Reply, words: Words) -> News:
        caller = reply.caller
        if not caller:
            return News(E["NOREPLY"])
        caller.leave_server()
        caller.wake(News(0, 0, words))
        return News(0)

    def wait(self, notification: Notification, wait: bool) -> News | None:
        if notification.bits:
            bits, notification.bits = notification.bits, 0
            return News(0, bits)
        if not wait:
            return News(E["AGAIN"])
        self.block(notification.waiters)
        return None

    def set_base(self, priority: int) -> None:
        self.base = priority
        self.inherit()

    def cancel(self) -> None:
        """Of its call, if one blocks it."""
        if self.blocked:
            self.leave()
            self.wake(News(E["CANCELED"]))

    def time_out(self) -> None:
        """Its call's timeout has passed."""
        self.leave()
        self.wake(News(E["TIMEOUT"]))

    def end(self) -> None:
        if self.caller:
            caller, self.caller = self.caller, None
            caller.server = None
            caller.wake(News(E["DEAD"]))
        for caller in self.saved:
            caller.server = None
        self.saved.clear()
        self.leave()
        if self.bound:
            self.bound.bound = None


def signal(notification: Notification, bits: int) -> None:
    notification.bits |= bits
    if not notification.bits:
        return
    waiter, receiver = notification.waiters.pop(), notification.bound
    if waiter:
        waiter.wake(News(0, notification.bits))
    elif receiver and receiver.place and receiver.place.receives:
        receiver.place.leave(receiver)
        receiver.wake(News(INFO_NOTIFIED, 0, (notification.bits,)))
    else:
        return
    notification.bits = 0


def bind(notification: Notification, thread: Thread) -> int:
    if notification.bound or thread.bound:
        return E["BUSY"]
    notification.bound, thread.bound = thread, notification
    signal(notification, 0)
    return 0


def end_endpoint(endpoint: Endpoint) -> None:
    for place in (endpoint.senders, endpoint.receivers):
        while thread := place.pop():
            thread.calls = False
            thread.wake(News(E["DEAD"]))


def end_notification(notification: Notification) -> None:
    if notification.bound:
        notification.bound.bound = None
    while thread := notification.waiters.pop():
        thread.wake(News(E["DEAD"]))


def end_reply(reply: Reply) -> None:
    caller = reply.caller
    if caller:
        caller.leave_server()
        caller.wake(News(E["DEAD"]))
