# SPDX-License-Identifier: MIT
"""The gdbstub client against recorded and against malformed replies."""

from __future__ import annotations

import contextlib

import pytest
from fake_stub import FakeStub
from hypothesis import given
from hypothesis import strategies as st

from onestack import gdbstub
from onestack.errors import DeadlineError, OnestackError, ProtocolError
from onestack.gdbstub import GdbError, Stop, decode, encode, parse_stop

REGISTERS = (
    (0x1122334455667788).to_bytes(8, "little")
    + (0xFFFF800000001000).to_bytes(8, "little")
    + (0x401000).to_bytes(8, "little")
    + (0x202).to_bytes(4, "little")
    + (0x23).to_bytes(4, "little")
)


def test_registers_by_the_target_description() -> None:
    stub = FakeStub({b"g": encode(REGISTERS.hex().encode())})
    registers = stub.connect().registers()
    assert registers["rax"] == 0x1122334455667788
    assert registers.sp == 0xFFFF800000001000
    assert registers.pc == 0x401000
    assert registers.cpl == 3
    assert registers.interrupts
    assert dict(registers)["eflags"] == 0x202


def test_register_numbers_follow_the_description() -> None:
    stub = FakeStub({b"P11=46020000": encode(b"OK")})  # eflags comes after rip, number 16
    stub.connect().write_register("eflags", 0x246)
    assert stub.seen[-1] == b"P11=46020000"


def test_memory_is_read_in_pieces() -> None:
    stub = FakeStub(
        {
            b"m1000,700": encode(b"ab" * 0x700),
            b"m1700,2": encode(b"cdef"),
        }
    )
    assert stub.connect().read(0x1000, 0x702) == b"\xab" * 0x700 + b"\xcd\xef"


def test_unmapped_memory_is_an_error() -> None:
    stub = FakeStub({b"mdead0000,8": encode(b"E14")})
    with pytest.raises(GdbError, match="E14"):
        stub.connect().read(0xDEAD0000, 8)


def test_unknown_command_is_an_error() -> None:
    stub = FakeStub({b"Z0,1000,1": encode(b"")})
    client = stub.connect()
    with pytest.raises(GdbError, match="does not know"):
        client.set_breakpoint(0x1000)
    assert not client.breakpoints


def test_wrong_checksum_is_asked_for_again() -> None:
    stub = FakeStub({b"m10,1": b"$7f#00", b"-": encode(b"7f")})
    assert stub.connect().read(0x10, 1) == b"\x7f"
    assert b"-" in stub.seen


def test_wrong_checksums_for_ever_are_an_error() -> None:
    stub = FakeStub({b"m10,1": b"$7f#00", b"-": b"$7f#00"})
    with pytest.raises(ProtocolError, match="checksums"):
        stub.connect().read(0x10, 1)
    assert stub.seen.count(b"-") == gdbstub.RETRIES


@pytest.mark.parametrize(
    "reply",
    [
        b"garbage",
        encode(b"xyzw"),
        encode(b"abc"),
        encode(b"ab}"),
        encode(b"*!"),
        encode(b"0011223344"),
    ],
)
def test_malformed_memory_replies(reply: bytes) -> None:
    client = FakeStub({b"m10,2": reply}).connect()
    with pytest.raises(ProtocolError):
        client.read(0x10, 2)


def test_short_register_reply() -> None:
    client = FakeStub({b"g": encode(b"00" * 8)}).connect()
    with pytest.raises(ProtocolError, match="8 bytes of registers"):
        client.registers()


def test_no_reply_is_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdbstub, "REPLY_TIMEOUT", 0.05)
    client = FakeStub().connect()
    with pytest.raises(DeadlineError, match="m10,2"):
        client.read(0x10, 2)


def test_half_a_packet_is_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdbstub, "REPLY_TIMEOUT", 0.05)
    client = FakeStub({b"m10,2": b"$0011"}).connect()
    with pytest.raises(DeadlineError):
        client.read(0x10, 2)


def test_connection_that_ends() -> None:
    stub = FakeStub()
    client = stub.connect()
    stub.hang_up()
    with pytest.raises(OnestackError, match="gdbstub closed"):
        client.read(0x10, 2)


def test_no_commands_while_running() -> None:
    client = FakeStub().connect()
    client.cont()
    with pytest.raises(ProtocolError, match="while the guest runs"):
        client.registers()


def test_late_stop_of_somebody_else_is_not_an_answer() -> None:
    stub = FakeStub({b"m10,2": encode(b"T02thread:01;") + encode(b"0102")})
    assert stub.connect().read(0x10, 2) == b"\x01\x02"


def test_description_without_rip() -> None:
    with pytest.raises(ProtocolError, match="no rip"):
        FakeStub({b"qXfer:features:read:target.xml:0,7f0": encode(b"l<target/>")}).connect()


def test_description_that_is_no_xml() -> None:
    with pytest.raises(ProtocolError, match="target description"):
        FakeStub({b"qXfer:features:read:target.xml:0,7f0": encode(b"l<target")}).connect()


def test_stop_replies() -> None:
    assert parse_stop(b"T05thread:02;") == Stop(5, 1)
    assert parse_stop(b"T05thread:01;watch:ffff800000001000;") == Stop(5, 0, 0xFFFF800000001000)
    assert parse_stop(b"S02") == Stop(2, 0)


@pytest.mark.parametrize("packet", [b"", b"OK", b"T5", b"Tzzthread:01;", b"T05thread:xx;", b"S05x"])
def test_malformed_stop_replies(packet: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_stop(packet)


def test_escapes_and_run_lengths() -> None:
    assert decode(b"a}\x03b") == b"a#b"
    assert decode(b"0* ") == b"0000"


@given(st.binary())
def test_any_bytes_decode_or_are_refused(body: bytes) -> None:
    try:
        decode(body)
    except ProtocolError:
        assert b"}" in body or b"*" in body


@given(st.binary(max_size=40))
def test_any_stop_reply_is_taken_or_refused(packet: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert 0 <= parse_stop(packet).signal <= 0xFF
