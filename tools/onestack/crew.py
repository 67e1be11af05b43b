# SPDX-License-Identifier: MIT
"""Several processes that do tasks, and what becomes of a task whose process is killed.

Somebody may kill one from outside, the kernel's OOM killer for instance. Its task is then given to
another that takes its place; a task that has cost several is said to be lost. Nobody waits for it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from onestack.errors import OnestackError, UsageError
from onestack.machine import die_with

TRIES = 3  # processes that a task may cost


class LostError(OnestackError):
    """A task was not done: each process that did it was killed."""


@dataclass
class _Task:
    number: int
    what: Any
    tries: int = 0


@dataclass
class _Hand:
    """A process, and what it is doing."""

    process: BaseProcess
    line: Connection
    task: _Task | None = None


class Crew:
    """Processes that each have what `make` makes, and call its methods. They begin when needed."""

    def __init__(self, make: Callable[[], Any], processes: int) -> None:
        self._make, self._processes = make, processes
        self._hands: list[_Hand] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def pids(self) -> list[int]:
        """Of the processes that there are."""
        return [hand.process.pid for hand in self._hands if hand.process.pid]

    def map(self, name: str, tasks: Sequence[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """(number, what method `name` makes of number and task), each as it is done.

        LostError stands for what was not made, any OnestackError for what a method returned as one.
        """
        todo = deque(_Task(*task) for task in tasks)
        while todo or any(hand.task for hand in self._hands):
            self._hand_out(name, todo)
            for ready in wait([hand.line for hand in self._hands if hand.task]):
                [hand] = [hand for hand in self._hands if hand.line is ready]
                task, hand.task = hand.task, None
                assert task is not None
                try:
                    good, made = hand.line.recv()
                except (EOFError, ConnectionResetError):
                    self._bury(hand, task)
                    if task.tries < TRIES:
                        todo.appendleft(task)
                        continue
                    good, made = True, LostError(f"{TRIES} processes that did it were killed")
                if not good:
                    raise made
                yield task.number, made

    def _hand_out(self, name: str, todo: deque[_Task]) -> None:
        """Give each that has nothing to do a task, as long as there are any."""
        while todo:
            idle = [hand for hand in self._hands if hand.task is None]
            if not idle and len(self._hands) == self._processes:
                return
            hand = idle[0] if idle else self._begin()
            hand.task = todo.popleft()
            with contextlib.suppress(BrokenPipeError):  # killed while idle: the next wait sees it
                hand.line.send((name, hand.task.number, hand.task.what))

    def _begin(self) -> _Hand:
        if self._folder is None:  # they are killed at the end: what they leave behind lies in here
            self._folder = tempfile.TemporaryDirectory("", "onestack-", ignore_cleanup_errors=True)
        context = multiprocessing.get_context("spawn")
        line, theirs = context.Pipe()
        arguments = (self._make, theirs, os.getpid(), self._folder.name)
        process = context.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self._hands.append(_Hand(process, line))
        return self._hands[-1]

    def _bury(self, hand: _Hand, task: _Task) -> None:
        """Take a process that has ended off the list, and say so."""
        self._hands.remove(hand)
        hand.line.close()
        hand.process.join()
        code = hand.process.exitcode or 0
        if code >= 0:  # by itself
            raise RuntimeError(f"a worker has ended with status {code}")
        task.tries += 1
        what = "its work goes to another" if task.tries < TRIES else "its work is given up"
        name = signal.Signals(-code).name
        print(f"a worker, process {hand.process.pid}, was killed ({name}): {what}", file=sys.stderr)

    def close(self) -> None:
        """End all processes."""
        for hand in self._hands:
            hand.process.kill()
        for hand in self._hands:
            hand.process.join()
            hand.line.close()
        self._hands.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _serve(make: Callable[[], Any], line: Connection, parent: int, folder: str) -> None:
    """In a new process: die with the parent, leave Ctrl-C to it."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tempfile.tempdir = folder
    worker = make()
    while True:
        name, number, what = line.recv()
        try:
            answer = True, getattr(worker, name)(number, what)
        except OnestackError as error:
            answer = False, error
        except Exception:  # whatever it is, the parent is to say it
            answer = False, RuntimeError(f"in a worker:\n{traceback.format_exc()}")
        line.send((answer[0], _portable(answer[1])))


def _portable(made: Any) -> Any:
    """Errors with arguments of their own cannot be sent to another process."""
    if not isinstance(made, OnestackError):
        return made
    return (UsageError if isinstance(made, UsageError) else OnestackError)(str(made))
