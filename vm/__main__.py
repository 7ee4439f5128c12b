# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run one of the commands on kernels and their VMs: python -m vm COMMAND."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from vm.base.errors import BuildError, FetchError, KernelError
from vm.commands import COMMANDS
from vm.commands.statuses import EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED, EXIT_UNREAD, EXIT_USAGE

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m vm",
        description="Kernels to test on and the VMs that run them.",
        epilog="Kernels live under ~/.cache/reuseport-harness (XDG_CACHE_HOME moves it). "
        "'python -m vm COMMAND --help' explains each. Exit status: 0; 4 for what cannot be used, such as an unknown "
        "kernel; 13 if a kernel could not be fetched, built or booted; 130 after Ctrl-C (docs/exit-codes.md has all).",
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    args = parser.parse_args(arguments)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted: nothing unfinished is left, and the next run continues the downloads", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of the output (head, less) has ended. At exit Python would write to the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNREAD
    except KernelError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_INFRASTRUCTURE if isinstance(error, FetchError | BuildError) else EXIT_USAGE
    return status


if __name__ == "__main__":
    sys.exit(main())
