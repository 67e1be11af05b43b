# SPDX-License-Identifier: MIT
"""`onestack step`: the stepper on a terminal, by Textual. One watches an entry push by push."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Header, Static

from onestack.errors import OnestackError
from onestack.inject import Irq, MachineCheck, Nmi
from onestack.stepper import Picture, StackShown, Stepper, register_rows

FRESH = "bold yellow"
LIVE = "bold green"
POLL = 0.1  # seconds between looks at a running machine


class StepApp(App[None]):
    """Registers and facts, code with its source, stacks; keys for all that one can do."""

    CSS = """
    #registers { width: 34; border: round $primary; }
    #code { width: 1fr; border: round $primary; }
    #stacks { width: 58; border: round $primary; }
    #said { height: 1; background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "step", "Step"),
        Binding("c", "go", "Continue/stop"),
        Binding("e", "boundary", "Next entry or exit"),
        Binding("n", "nmi", "NMI"),
        Binding("i", "irq", "IRQ"),
        Binding("m", "machine_check", "Machine check"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, stepper: Stepper, irq: int = 0xF0, title: str = "onestack step") -> None:
        super().__init__()
        self.title = title
        self._stepper = stepper
        self._irq = irq

    def compose(self) -> ComposeResult:
        """Three panes and a line for what was said last."""
        yield Header()
        with Horizontal():
            with VerticalScroll(id="registers"):
                yield Static(id="registers-text")
            with VerticalScroll(id="code"):
                yield Static(id="code-text")
            with VerticalScroll(id="stacks"):
                yield Static(id="stacks-text")
        yield Static(id="said")
        yield Footer()

    def on_mount(self) -> None:
        """Name the panes and look for the first time."""
        for name in ("registers", "code", "stacks"):
            self.query_one(f"#{name}").border_title = name
        self.set_interval(POLL, self._poll)
        self._do(lambda: "")

    # ---- actions

    def _do(self, action: Callable[[], str]) -> None:
        """Do something and show what became of the machine."""
        try:
            said = action()
        except OnestackError as error:
            said = str(error)
        try:
            if not self._stepper.running:
                self._show(self._stepper.picture())
        except OnestackError as error:
            said = said or str(error)
        self.query_one("#said", Static).update(said)

    def _poll(self) -> None:
        if self._stepper.running and (said := self._stepper.poll()):
            self._do(lambda: said)

    def _when_stopped(self, action: Callable[[], str]) -> None:
        self._do((lambda: "it runs: c stops it") if self._stepper.running else action)

    def action_step(self) -> None:
        """One instruction."""
        self._when_stopped(self._stepper.step)

    def action_boundary(self) -> None:
        """To the next entry into the kernel, or the exit from it."""
        self._when_stopped(self._stepper.next_boundary)

    def action_go(self) -> None:
        """Run, or stop."""
        self._do(self._stepper.stop if self._stepper.running else self._stepper.go)

    def action_nmi(self) -> None:
        """An NMI."""
        self._when_stopped(lambda: self._stepper.inject(Nmi(self._stepper.cpu)))

    def action_irq(self) -> None:
        """An interrupt."""
        self._when_stopped(lambda: self._stepper.inject(Irq(self._irq, self._stepper.cpu)))

    def action_machine_check(self) -> None:
        """A machine check."""
        self._when_stopped(lambda: self._stepper.inject(MachineCheck(self._stepper.cpu)))

    # ---- showing

    def _show(self, picture: Picture) -> None:
        self.query_one("#registers-text", Static).update(_registers(picture))
        self.query_one("#code-text", Static).update(_code(picture))
        stacks = Text("\n\n").join(map(_stack, picture.stacks))
        self.query_one("#stacks-text", Static).update(stacks)
        self.sub_title = picture.where


def _registers(picture: Picture) -> Text:
    text = Text()
    for name, value, changed in register_rows(picture):
        text.append(f"{name:>8} {value:016x}\n", FRESH if changed else "")
    mode = f"ring {picture.registers.cpl}, IF={int(picture.registers.interrupts)}"
    text.append(f"\n{mode}\n", LIVE)
    for name, said in picture.facts.items():
        text.append(f"{name:>10} {said}\n")
    return text


def _code(picture: Picture) -> Text:
    text = Text()
    for line in picture.code:
        if line.address is None:
            text.append(f"{line.text}\n", "dim italic")
        else:
            mark = ">" if line.current else " "
            style = "reverse" if line.current else ""
            text.append(f"{mark} {line.address:x}  {line.text}\n", style)
    return text


def _stack(stack: StackShown) -> Text:
    text = Text()
    text.append(f"{stack.name}{' (live)' if stack.live else ''}", LIVE if stack.live else "bold")
    words = stack.words
    whole = stack.live or stack.named
    if not whole and not any(word.fresh for word in words):
        text.append("  nothing new", "dim")
        return text
    for word in words:
        if whole or word.fresh:
            mark = "->" if word.here else "  "
            line = f"\n{mark} {word.address & 0xFFFFFFFFFF:010x}  {word.value:016x} {word.label}"
            text.append(line, FRESH if word.fresh else "")
    return text
