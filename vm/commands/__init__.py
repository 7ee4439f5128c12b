# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The commands of `python -m vm`: a module each, which registers here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from vm.commands import accel, build, compare, export_kselftest, fetch, list_kernels, prune, report, run, shell

if TYPE_CHECKING:
    import argparse


class Command(Protocol):
    """A module of this package that is a command."""

    def add_parser(self, subparsers: argparse._SubParsersAction[Any], /) -> None:
        """Add the command's parser and set its default `run` to the function that does it.

        `run(args)` returns the exit status; it may raise KernelError, whose message is printed.
        """
        ...


COMMANDS: tuple[Command, ...] = (
    list_kernels,
    fetch,
    prune,
    build,
    run,
    shell,
    accel,
    report,
    compare,
    export_kselftest,
)
