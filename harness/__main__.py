# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`python -m harness`: the commands that look at programs and groups; each is a module with the names of `Command`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Protocol, cast

from harness.commands import ledger, programs, restart, rules, watch

if TYPE_CHECKING:
    from collections.abc import Sequence


_DESCRIPTION = """\
Commands on programs that select sockets, and on reuseport groups. The cases themselves are run by tox: 'tox -e vm' in
a VM, 'tox -e host' on the running kernel."""

_EPILOG = """\
'python -m harness COMMAND --help' tells what a command prints, what it needs, and its exit statuses; 130 is always
that of Ctrl-C. 'python -m vm --help' has the commands on kernels and their VMs."""


class Command(Protocol):
    """The names that a command's module has."""

    NAME: str
    HELP: str  # one line, for the list of commands
    DESCRIPTION: str  # for the command's own --help

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; return the exit code."""


COMMANDS = cast("tuple[Command, ...]", (programs, ledger, restart, rules, watch))


def main(words: Sequence[str] | None = None) -> int:
    """Run the command that the words name; return its exit code, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m harness", description=_DESCRIPTION, epilog=_EPILOG)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        sub = commands.add_parser(command.NAME, help=command.HELP, description=command.DESCRIPTION)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    arguments = parser.parse_args(words)
    try:
        return cast("int", arguments.run(arguments))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
