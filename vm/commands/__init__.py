# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The commands of `python -m vm`: a module each, which registers here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from vm.report.outcomes import EXIT_STATUS, Verdict

EXIT_INFRASTRUCTURE = EXIT_STATUS[Verdict.INFRASTRUCTURE]
"""A kernel could not be fetched or built: nothing was learnt about it."""
EXIT_USAGE = 4
"""A word that names no kernel, a path that holds none; as pytest's usage error."""
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141
"""Nobody reads the output any more; as a shell has it for SIGPIPE."""

if TYPE_CHECKING:
    import argparse


class Command(Protocol):
    """What a module in this package has."""

    def add_parser(self, subparsers: argparse._SubParsersAction[Any], /) -> None:
        """Add the command's parser and set its default `run` to the function that does it.

        `run(args)` returns the exit status; it may raise KernelError, whose message is printed.
        """
        ...


# After the name that they import from here.
from vm.commands import accel, build, compare, fetch, list_kernels, prune, run, shell  # noqa: E402

COMMANDS: tuple[Command, ...] = (list_kernels, fetch, prune, build, run, shell, accel, compare)
