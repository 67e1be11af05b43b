# SPDX-License-Identifier: MIT
"""The command `onestack`: one subcommand for each thing that the harness can do."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from onestack.attended import GdbError
from onestack.commands import (
    bench,
    boot,
    check,
    gdb,
    init,
    inject,
    report,
    step,
    sweep,
    symbolize,
    trace,
)
from onestack.commands.common import (
    ENVIRONMENT,
    EXIT_CODES,
    FOUND,
    INCOMPLETE,
    INTERRUPTED,
    OK,
    USAGE,
)
from onestack.errors import DeliveryError, GuestError, OnestackError, UsageError
from onestack.machine import QemuError

COMMANDS = tuple(
    module.COMMAND
    for module in (
        boot,
        init,
        inject,
        sweep,
        step,
        gdb,
        trace,
        bench,
        symbolize,
        check,
        report,
    )
)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all errors are said."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"See {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="onestack",
        description="Boot an x86 kernel in QEMU and break it on purpose, at exact instructions.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=f"example:\n  {command.example}\n\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_argument("--json", action="store_true", help="print the result as JSON")
        command.arguments(one)
        one.set_defaults(run=command.run)
    return parser


def _exit_code(error: OnestackError) -> int:
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, GuestError | DeliveryError):
        return FOUND
    return ENVIRONMENT if isinstance(error, QemuError | GdbError) else INCOMPLETE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code. Errors of ours are one line on standard error."""
    try:
        options = _parser().parse_args(arguments)
        return int(options.run(options))
    except OnestackError as error:
        print(f"onestack: {error}", file=sys.stderr)
        return _exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has gone: nothing to complain of
        return OK
    except OSError as error:
        print(f"onestack: {error}", file=sys.stderr)
        return ENVIRONMENT


if __name__ == "__main__":
    sys.exit(main())
