# SPDX-License-Identifier: MIT
"""Onestack's objects in gdb: cores, threads, run queues, endpoints, capabilities.

`scons gdb` loads it; elsewhere `source tools/gdb/onestack.py`. Everything is read by the names in
the kernel's debug information, and constants out of its headers. Commands end with "help user".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import gdb

KERNEL = Path(__file__).resolve().parents[2] / "kernel"
LOCATION = "arch/layout.h"
OBJECTS = ("none", "thread", "space", "endpoint", "notification", "reply", "memory", "irq",
           "ioports", "quota")  # fmt: skip


def constants(header: str, prefix: str) -> dict[str, int]:
    """The numbers that a header defines by names with a prefix, which is cut off."""
    text = (KERNEL / header).read_text(encoding="utf-8")
    pattern = rf"^#define {prefix}(\w+)\s+(0x[0-9a-f]+|\d+)u?\b"
    return {name: int(number, 0) for name, number in re.findall(pattern, text, re.MULTILINE)}


LAYOUT = constants(LOCATION, "")


def typed(address: int, name: str) -> gdb.Value:
    """What lies at an address, as a struct of the kernel's."""
    return gdb.Value(address).cast(gdb.lookup_type(f"struct {name}").pointer()).dereference()


def at(value: gdb.Value) -> int:
    """A pointer as a number; of a struct, where it lies."""
    return int(value if value.type.strip_typedefs().code == gdb.TYPE_CODE_PTR else value.address)


def enum_name(kind: str, value: gdb.Value, prefix: str) -> str:
    """READY for THREAD_READY."""
    fields = gdb.lookup_type(f"enum {kind}").fields()
    names = {field.enumval: field.name for field in fields}
    return names.get(int(value), str(int(value))).removeprefix(prefix)


def bits(value: int, names: dict[str, int]) -> str:
    """The names of a word's bits."""
    return " ".join(name for name, bit in names.items() if value & bit == bit) or "-"


def symbol(address: int) -> str:
    """function+4, or the address."""
    found = gdb.execute(f"info symbol {address:#x}", to_string=True)
    return (
        found.split(" in section")[0].replace(" + ", "+")
        if "No symbol" not in found
        else hex(address)
    )


# ---- what there is


def cores() -> list[gdb.Value]:
    """Each core that is online. gdb.error: the kernel is not so far."""
    online = int(gdb.parse_and_eval("'kernel/arch/smp.c'::online"))
    found = [
        typed(LAYOUT["CORE_AREA_BASE"] + number * LAYOUT["CORE_AREA_SIZE"], "core")
        for number in range(LAYOUT["MAX_CORES"])
        if online >> number & 1
    ]
    if not found:
        raise gdb.GdbError("no core is online yet: let it boot (continue, then Ctrl-C)")
    return found


def here() -> gdb.Value:
    """The core of the CPU that is selected: QEMU's CPUs are gdb's threads."""
    number = gdb.selected_thread().num - 1
    for core in cores():
        if int(core["id"]) == number:
            return core
    raise gdb.GdbError(f"core {number} is not online yet")


def current(core: gdb.Value) -> gdb.Value:
    """The thread whose save area is the core's (E2); its dummy in idle."""
    end = int(core["current_end"]) or int(core["tss"]["rsp0"])
    frame = next(field for field in core["dummy"].type.fields() if field.name == "frame")
    return typed(end - frame.bitpos // 8 - frame.type.sizeof, "thread")


def spaces() -> Iterator[gdb.Value]:
    """All spaces with capabilities: the first slot of each window says whose it is."""
    for number in range(int(gdb.parse_and_eval("'kernel/obj/window.c'::windows.fresh"))):
        slot = LAYOUT["CAP_WINDOW_BASE"] + number * LAYOUT["CAP_WINDOW_SIZE"]
        try:
            space = typed(slot, "cap")["space"]
            if int(space) and int(space["caps"]) == slot:
                yield space.dereference()
        except gdb.MemoryError:  # a window that nobody uses now
            continue


def chain(first: gdb.Value, link: str) -> Iterator[gdb.Value]:
    """A list of structs, also one that ends where it began, or with `no_thread`."""
    one, seen = first, {at(gdb.parse_and_eval("no_thread"))}
    while int(one) and int(one) not in seen:
        seen.add(int(one))
        yield one.dereference()
        one = one[link]


def threads() -> dict[int, gdb.Value]:
    """All threads of all spaces, by address."""
    return {at(one): one for space in spaces() for one in chain(space["threads"], "space_next")}


def capabilities(space: gdb.Value) -> Iterator[gdb.Value]:
    """A space's slots that are in use."""
    for index in range(1, int(space["cap_limit"])):
        cap = space["caps"][index]
        if int(cap["handle"]) & 0xFFFFFFFF:
            yield cap


def objects(kind: str) -> dict[int, gdb.Value]:
    """All objects of a type that somebody has a capability of, by address."""
    number = OBJECTS.index(kind)
    named = (cap["object"] for space in spaces() for cap in capabilities(space))
    return {at(one): typed(at(one), kind) for one in named if int(one["type"]) == number}


# ---- how they are told


def state_of(thread: gdb.Value) -> str:
    """Its state and flags in words."""
    flags = bits(int(thread["flags"]), constants("obj/thread.h", "THREAD_FLAG_"))
    state = enum_name("thread_state", thread["state"], "THREAD_").lower()
    return state + ("" if flags == "-" else f" ({flags.lower()})")


def brief(thread: gdb.Value) -> str:
    """A thread on one line."""
    where = symbol(int(thread["frame"]["rip"]))
    return (
        f"{at(thread):#x} space {at(thread['space']):#x} core {int(thread['core']['id'])}"
        f" priority {int(thread['priority']):3} {state_of(thread):22} at {where}"
    )


def tell_core(core: gdb.Value) -> str:
    """nest, state, what is pending, who runs."""
    state = gdb.parse_and_eval("state_names")[int(core["state"])].string()
    thread = current(core)
    idle = at(thread) == at(core["dummy"])
    vectors = [
        hex(64 * word + bit)
        for word in range(4)
        for bit in range(64)
        if int(core["irq_pending"][word]) >> bit & 1
    ]
    return (
        f"core {int(core['id'])} at {at(core):#x}: nest {int(core['nest'])}, state {state},"
        f" pending {int(core['pending']):#x}{' irq ' + ' '.join(vectors) if vectors else ''}\n"
        f"  {int(core['irq_count'])} interrupts ({int(core['irq_nested'])} nested),"
        f" {int(core['nmi_count'])} NMIs ({int(core['nmi_worked'])} worked on)\n"
        f"  runs {'nobody: idle' if idle else brief(thread)}"
    )


def tell_thread(thread: gdb.Value) -> str:
    """A TCB whole."""
    lines = [brief(thread)]
    if int(thread["continuation"]):
        lines.append(f"  goes on with {symbol(int(thread['continuation']))}")
    for link, text in (("waits_on", "waits on"), ("server", "waits for the answer of"),
                       ("caller", "owes an answer to"), ("bound", "is bound to")):  # fmt: skip
        if int(thread[link]) and at(thread[link]) != at(gdb.parse_and_eval("no_thread")):
            lines.append(f"  {text} {at(thread[link]):#x}")
    base, priority = int(thread["base_priority"]), int(thread["priority"])
    if base != priority:
        lines.append(f"  has inherited its priority: its own is {base}")
    frame = thread["frame"]
    names = [field.name for field in frame.type.fields()]
    cells = [f"{name:>8} {int(frame[name]) & 0xFFFFFFFFFFFFFFFF:016x}" for name in names]
    lines += ["".join(cells[row : row + 3]) for row in range(0, len(cells), 3)]
    return "\n".join(lines)


def tell_queues(core: gdb.Value) -> str:
    """Who stands ready on a core, the highest first."""
    lines = [f"core {int(core['id'])}: runs {at(current(core)):#x}"]
    if int(core["top"]):
        lines.append(f"  next {brief(core['top'].dereference())}")
    for priority in range(255, -1, -1):
        if int(core["ready"][priority // 64]) >> priority % 64 & 1:
            queue = chain(core["queues"][priority]["head"], "next")
            lines += [f"  {priority:4} {brief(thread)}" for thread in queue]
    return "\n".join(lines if len(lines) > 1 else [f"{lines[0]}; nobody else is ready"])


def tell_endpoint(endpoint: gdb.Value) -> str:
    """Who waits at it."""
    lines = [f"endpoint {at(endpoint):#x}: {int(endpoint['object']['cap_count'])} capabilities"]
    for queue in ("senders", "receivers"):
        for thread in chain(endpoint[queue]["head"], "next"):
            badge = f" badge {int(thread['badge']):#x}" if queue == "senders" else ""
            lines.append(f"  {queue[:-1]} {brief(thread)}{badge}")
    return "\n".join(lines)


def tell_capabilities(space: gdb.Value) -> str:
    """A space's table."""
    rights = constants("abi/cap.h", "RIGHT_")
    del rights["ALL"]
    lines = [f"space {at(space):#x}: {int(space['cap_used'])} capabilities"]
    for cap in capabilities(space):
        kind = OBJECTS[int(cap["object"]["type"])]
        lines.append(
            f"  {int(cap['handle']):#14x} {kind:12} {at(cap['object']):#x}"
            f" badge {int(cap['badge']):#x} {bits(int(cap['rights']), rights).lower()}"
        )
    return "\n".join(lines)


# ---- the commands

Tell = Callable[[str], str]


class Told(gdb.Command):
    """A command that prints what a function says of its argument."""

    def __init__(self, name: str, tell: Tell, text: str) -> None:
        self.__doc__ = text  # what `help NAME` shows
        self._tell = tell
        super().__init__(name, gdb.COMMAND_USER)

    def invoke(self, argument: str, from_tty: bool) -> None:
        """Called by gdb."""
        del from_tty
        try:
            print(self._tell(argument.strip()))
        except gdb.MemoryError as error:
            raise gdb.GdbError(f"{error}; is the kernel up? (continue, then Ctrl-C)") from None


def named(argument: str, kind: str) -> gdb.Value:
    """The struct that an expression is the address of."""
    return typed(int(gdb.parse_and_eval(argument)), kind)


def on_cores(argument: str, tell: Callable[[gdb.Value], str]) -> str:
    """Of one core by its number, or of all."""
    chosen = [core for core in cores() if argument in ("", str(int(core["id"])))]
    if not chosen:
        raise gdb.GdbError(f"no core {argument} is online")
    return "\n".join(map(tell, chosen))


def one_or_all(argument: str, kind: str, tell: Callable[[gdb.Value], str]) -> str:
    """Of the object at an address, or of all of its type."""
    found = [named(argument, kind)] if argument else list(objects(kind).values())
    return "\n".join(map(tell, found)) or f"there is no {kind}"


def tell_current(argument: str) -> str:
    """The selected CPU's core."""
    if argument:
        return on_cores(argument, tell_core)
    return tell_core(here())


def tell_all_threads(argument: str) -> str:
    """Of all spaces, or of one."""
    if argument:
        space = named(argument, "space")
        return "\n".join(map(brief, chain(space["threads"], "space_next")))
    return "\n".join(map(brief, threads().values())) or "there is no thread"


def tell_tables(argument: str) -> str:
    """One table, or all."""
    chosen = [named(argument, "space")] if argument else list(spaces())
    return "\n".join(map(tell_capabilities, chosen)) or "there is no space"


Told(
    "core", tell_current, "core [NUMBER]: nest, state, pending, current thread; of the selected CPU"
)
Told("cores", lambda text: on_cores(text, tell_core), "cores: every core that is online")
Told("tcb", lambda text: tell_thread(named(text, "thread") if text else current(here())),
     "tcb [ADDRESS]: a thread with its save area; without ADDRESS the current one")  # fmt: skip
Told("tcbs", tell_all_threads, "tcbs [SPACE]: every thread, or those of the space at that address")
Told("queues", lambda text: on_cores(text, tell_queues), "queues [NUMBER]: run queues of the cores")
Told("endpoints", lambda text: one_or_all(text, "endpoint", tell_endpoint),
     "endpoints [ADDRESS]: endpoints, and who waits at them")  # fmt: skip
Told("caps", tell_tables, "caps [SPACE]: tables of capabilities, or that of one space")
