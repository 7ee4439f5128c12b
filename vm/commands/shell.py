# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Open a shell on a kernel: python -m vm shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vm.boot.options import add_options
from vm.boot.session import read_guest, run_shell, take_kernel
from vm.commands.fetch import MIRROR_HELP
from vm.commands.run import KERNEL_HELP

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the parser of `shell`."""
    parser = subparsers.add_parser(
        "shell",
        help="open a shell in a VM with a kernel",
        description="Boot the kernel and open a root shell in the current directory of the host's files: the project "
        "is at hand, so `python -m pytest cases/test_reference.py` runs there. What you write to files is gone when "
        "you leave.",
    )
    parser.add_argument("kernel", metavar="KERNEL", help=KERNEL_HELP)
    add_options(parser.add_argument)
    parser.add_argument("--mirror", metavar="ADDRESS", help=MIRROR_HELP)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open the shell and return its exit status."""
    guest = read_guest(args)
    return run_shell(take_kernel(args.kernel, mirror=args.mirror), guest=guest)
