# SPDX-License-Identifier: MIT
"""The other end of a gdbstub session, played from a script."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping

from onestack.deadline import Deadline
from onestack.gdbstub import GdbStub, encode
from onestack.watch import Watch

# Recorded from QEMU 7.2, cut to a few registers.
TARGET = (
    '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target>'
    '<architecture>i386:x86-64</architecture><xi:include href="i386-64bit.xml"/></target>'
)
CORE = (
    '<?xml version="1.0"?><feature name="org.gnu.gdb.i386.core">'
    '<reg name="rax" bitsize="64" type="int64" regnum="0"/>'
    '<reg name="rsp" bitsize="64" type="data_ptr" regnum="7"/>'
    '<reg name="rip" bitsize="64" type="code_ptr" regnum="16"/>'
    '<reg name="eflags" bitsize="32" type="x64_eflags"/>'
    '<reg name="cs" bitsize="32" type="int32"/></feature>'
)
GREETING: dict[bytes, bytes] = {
    b"qSupported:xmlRegisters=i386": encode(b"PacketSize=1000;qXfer:features:read+"),
    b"qXfer:features:read:target.xml:0,7f0": encode(b"l" + TARGET.encode()),
    b"qXfer:features:read:i386-64bit.xml:0,7f0": encode(b"m" + CORE[:100].encode()),
    b"qXfer:features:read:i386-64bit.xml:64,7f0": encode(b"l" + CORE[100:].encode()),
    b"Hg1": encode(b"OK"),
}


class FakeStub:
    """Answers each packet with the bytes that `replies` has for it; without, with nothing.

    A reply is sent as it is, so it may be malformed. `seen` has the packets that came.
    """

    def __init__(self, replies: Mapping[bytes, bytes] | None = None) -> None:
        self._replies = {**GREETING, **(replies or {})}
        self.seen: list[bytes] = []
        self.ours, self._theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def _play(self) -> None:
        data = b""
        while piece := self._theirs.recv(4096):
            data += piece
            while (end := data.find(b"#")) >= 0 and len(data) >= end + 3:
                packet = data[data.index(b"$") + 1 : end]
                data = data[end + 3 :]
                self.seen.append(packet)
                self._theirs.sendall(b"+" + self._replies.get(packet, b""))
            if data.endswith(b"-"):  # the client asks for the last one again
                data = b""
                self.seen.append(b"-")
                self._theirs.sendall(self._replies.get(b"-", b""))
        self._theirs.close()

    def hang_up(self) -> None:
        """Close the connection, as a QEMU that ends does."""
        self._theirs.shutdown(socket.SHUT_RDWR)

    def connect(self) -> GdbStub:
        """A client in session with this stub."""
        return GdbStub(self.ours, Watch(), Deadline(2.0))
