# SPDX-License-Identifier: MIT
"""The ACPI parser on the host: tables right, missing and corrupt."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import boot_cases as case
import pytest
from boot_cases import ParserCrashError, Runner, Tables
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PC_IOAPIC = [0xFEC00000, 0]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner(tmp_path_factory.mktemp("acpi")) as process:
        yield process


def parse(runner: Runner, tables: Tables) -> dict[str, Any]:
    return runner.run(case.ACPI, *tables.memory())


@pytest.mark.parametrize("xsdt", [False, True], ids=["rsdt", "xsdt"])
def test_a_pc(runner: Runner, xsdt: bool) -> None:
    acpi = parse(runner, Tables(xsdt=xsdt))
    isa = {str(irq): [irq, 0, 0] for irq in range(16)} | {"0": [2, 0, 0], "9": [9, 0, 1]}
    assert acpi == {
        "problem": None,
        "left_out": 0,
        "cores": [[0, 0, 1, 0], [4, 1, 1, 0]],
        "ioapics": [[0xFEC00000, 0]],
        "isa": isa,
        "registers": 1,
        "sci_line": 9,
        "smi": [0xB2, 2],
        "pm1": [0x600, 0, 4, 0x604, 0],
        "s5": [5, 1],
    }


def test_disabled_and_excess_processors(runner: Runner) -> None:
    entries = [case.lapic(0, 0), case.lapic(1, 1, enabled=False), case.lapic(2, 0xFF)]
    entries += [case.lapic(n, n) for n in range(3, 70)]
    entries += [struct.pack("<BBHIII", 9, 16, 0, 300, 1, 300)]
    acpi = parse(runner, Tables(madt=case.madt(*entries)))
    assert [core[0] for core in acpi["cores"]] == [0, *range(3, 66)]
    assert acpi["left_out"] == 1 + 4 + 1


def test_nmi_pin_of_one_processor(runner: Runner) -> None:
    # Before the processors' own entries, and with a later, more special one.
    entries = [case.lapic_nmi(0xFF, 0, 1), case.lapic_nmi(7, 0x3, 0)]
    entries += [case.lapic(0, 0), case.lapic(7, 2)]
    acpi = parse(runner, Tables(madt=case.madt(*entries)))
    assert acpi["cores"] == [[0, 0, 1, 0], [2, 7, 0, 1]]


def test_sci_without_override_is_level_and_active_low(runner: Runner) -> None:
    assert parse(runner, Tables(madt=case.madt(case.lapic(0, 0))))["isa"]["9"] == [9, 1, 1]


def test_two_ioapics(runner: Runner) -> None:
    entries = [case.ioapic(0, 0xFEC00000, 0), case.ioapic(1, 0xFEC10000, 24)]
    acpi = parse(runner, Tables(madt=case.madt(*entries)))
    assert acpi["ioapics"] == [[0xFEC00000, 0], [0xFEC10000, 24]]


def test_hardware_reduced_has_no_registers(runner: Runner) -> None:
    acpi = parse(runner, Tables(fadt=case.fadt(0x53000, flags=1 << 20)))
    assert (acpi["problem"], acpi["registers"], acpi["pm1"]) == (None, 0, [0] * 5)


AML = {
    "with a root prefix": (b"\x08\\" + case.S5[1:], [5, 1]),
    "long package length": (b"\x08_S5_\x12\x47\x01\x04\x0a\x07\x0a\x06", [7, 6]),
    "first mention is no name": (b"\x00_S5_\x12" + case.S5, [5, 1]),
    "not a package": (b"\x08_S5_\x0a\x05", None),
    "element is no constant": (b"\x08_S5_\x12\x06\x04\x5b\x05\x01", None),
    "cut in the name": (case.S5[:5], None),
    "cut after the name": (case.S5[:6], None),
    "cut in the package": (case.S5[:8], None),
    "cut in an element": (case.S5[:9], None),
    "cut before the second element": (case.S5[:10], None),
    "length beyond the table": (b"\x08_S5_\x12\xc6\x01", None),
    "name at the start": (case.S5[1:], None),
    "nothing": (b"", None),
}


@pytest.mark.parametrize("name", AML)
def test_s5(runner: Runner, name: str) -> None:
    aml, expected = AML[name]
    acpi = parse(runner, Tables(dsdt=case.table(b"DSDT", aml)))
    assert (acpi["problem"], acpi["s5"]) == (None, expected)


def short(content: bytes) -> bytes:
    """An entry of length 3 at the end, or one that is longer than its table."""
    return case.madt(case.lapic(0, 0), content)


GOOD = Tables()
BAD = {
    "MADT checksum": (Tables(madt=GOOD.madt[:-1] + b"\x99"), "no valid MADT"),
    "FADT checksum": (Tables(fadt=GOOD.fadt[:-1] + b"\x99"), "no valid FADT"),
    "DSDT checksum": (Tables(dsdt=GOOD.dsdt[:-1] + b"\x99"), "no valid DSDT"),
    "DSDT elsewhere": (Tables(fadt=case.fadt(0xF0000000)), "no valid DSDT"),
    "MADT cut": (Tables(madt=GOOD.madt[:-1]), "no valid MADT"),
    "MADT without its fields": (Tables(madt=case.table(b"APIC", bytes(4))), "MADT is too short"),
    "FADT too short": (Tables(fadt=case.table(b"FACP", bytes(60))), "FADT is too short"),
    "entry of length 0": (Tables(madt=short(bytes(4))), "entry of a wrong length"),
    "entry of one byte": (Tables(madt=short(b"\x09")), "entry of a wrong length"),
    "entry beyond the end": (Tables(madt=short(b"\x00\x08\x01")), "entry of a wrong length"),
    "I/O APIC of length 4": (Tables(madt=short(b"\x01\x04\x00\x00")), "entry of a wrong length"),
    "override for another bus": (
        Tables(madt=case.madt(case.override(3, 3, 0, bus=1))),
        "not for ISA",
    ),
    "override of interrupt 16": (Tables(madt=case.madt(case.override(16, 3, 0))), "not for ISA"),
    "nine I/O APICs": (
        Tables(madt=case.madt(*(case.ioapic(n, n << 12, n * 24) for n in range(9)))),
        "more IOAPICs",
    ),
    "NMI on pin 2": (Tables(madt=case.madt(case.lapic_nmi(0, 0, 2))), "cannot be used"),
    "nine NMI entries": (
        Tables(madt=case.madt(*(case.lapic_nmi(n, 0, 1) for n in range(9)))),
        "cannot be used",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_corrupt_table(runner: Runner, name: str) -> None:
    tables, problem = BAD[name]
    acpi = parse(runner, tables)
    assert problem in acpi["problem"]
    assert acpi["ioapics"]


BAD_ROOTS = {
    "no RSDP": ({}, "no RSDP"),
    "root elsewhere": ({Tables.RSDP: case.rsdp(0xF0000000).ljust(36, b"\0")}, "RSDT or XSDT"),
    "XSDT by the wrong name": (
        {Tables.RSDP: case.rsdp(0, Tables.ROOT), Tables.ROOT: case.table(b"RSDT", b"")},
        "RSDT or XSDT",
    ),
    "root of length 0": (
        {Tables.RSDP: case.rsdp(Tables.ROOT).ljust(36, b"\0"), Tables.ROOT: b"RSDT" + bytes(60)},
        "RSDT or XSDT",
    ),
    "root of 4 GiB": (
        {
            Tables.RSDP: case.rsdp(Tables.ROOT).ljust(36, b"\0"),
            Tables.ROOT: b"RSDT\xff\xff\xff\xff" + bytes(60),
        },
        "RSDT or XSDT",
    ),
    "root without entries": (
        {
            Tables.RSDP: case.rsdp(Tables.ROOT).ljust(36, b"\0"),
            Tables.ROOT: case.table(b"RSDT", bytes(3)),
        },
        "no valid MADT",
    ),
}


@pytest.mark.parametrize("name", BAD_ROOTS)
def test_corrupt_root(runner: Runner, name: str) -> None:
    memory, problem = BAD_ROOTS[name]
    acpi = runner.run(case.ACPI, Tables.RSDP, memory)
    assert problem in acpi["problem"]
    assert (acpi["cores"], acpi["ioapics"]) == ([], [PC_IOAPIC])


def test_bad_xsdt_falls_back_to_the_rsdt(runner: Runner) -> None:
    address, memory = Tables().memory()
    memory[address] = case.rsdp(Tables.ROOT, 0x60000)
    assert len(runner.run(case.ACPI, address, memory)["cores"]) == 2


FUZZ = settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(data=st.data())
def test_damaged_tables_with_good_checksums(runner: Runner, data: st.DataObject) -> None:
    address, memory = Tables(xsdt=data.draw(st.booleans())).memory()
    for _ in range(data.draw(st.integers(1, 4))):
        base = data.draw(st.sampled_from(sorted(set(memory) - {address})))
        content = bytearray(memory[base])
        at = data.draw(st.integers(4, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
        memory[base] = case.summed(bytes(content))
    acpi = runner.run(case.ACPI, address, memory)
    assert len(acpi["cores"]) <= 64
    assert 1 <= len(acpi["ioapics"]) <= 8


@FUZZ
@given(entries=st.binary(max_size=200), aml=st.binary(max_size=40))
def test_random_entries_and_aml(runner: Runner, entries: bytes, aml: bytes) -> None:
    tables = Tables(madt=case.madt(entries), dsdt=case.table(b"DSDT", aml + case.S5[:8]))
    assert parse(runner, tables)["ioapics"]


PLANTED = {
    "trusts the length of an entry": (
        ("kernel/arch/acpi_madt.c", " || entry->length > end - at", ""),
        "entry beyond the end",
    ),
    "ignores what a type needs": (
        ("kernel/arch/acpi_madt.c", "return sizeof(struct entry_ioapic)", "return 2"),
        "I/O APIC of length 4",
    ),
    "trusts the count of I/O APICs": (
        ("kernel/arch/acpi_madt.c", "acpi->ioapic_count == ACPI_IOAPICS", "false"),
        "nine I/O APICs",
    ),
    "trusts the FADT's length": (
        ("kernel/arch/acpi_fadt.c", "header->length < sizeof(*fadt)", "false"),
        "FADT too short",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_fault_is_found(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    edit, tables = PLANTED[name]
    with (
        Runner(tmp_path_factory.mktemp("planted"), edit) as broken,
        pytest.raises(ParserCrashError),
    ):
        parse(broken, BAD[tables][0])


def test_planted_read_beyond_the_dsdt_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    edit = ("kernel/arch/acpi_fadt.c", "if (end - at < 3 || ", "if (")
    cut = Tables(dsdt=case.table(b"DSDT", AML["cut after the name"][0]))
    with (
        Runner(tmp_path_factory.mktemp("planted"), edit) as broken,
        pytest.raises(ParserCrashError),
    ):
        parse(broken, cut)
