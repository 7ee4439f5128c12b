# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run a command on a kernel: python -m vm run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vm.boot.options import add_options
from vm.boot.session import read_guest, run_command, take_kernel
from vm.commands.counting import run_counted
from vm.commands.fetch import MIRROR_HELP

if TYPE_CHECKING:
    import argparse

KERNEL_HELP = "a name of 'python -m vm list', or a path as --kernel takes it"


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the parser of `run`."""
    parser = subparsers.add_parser(
        "run",
        help="run a command in a VM with a kernel",
        description="Boot the kernel, run the command as root in the current directory of the host's files, print what "
        "it prints, and end with its exit status; 12 if the VM was lost, 13 if it did not boot. The command reads "
        "this command's input: give it </dev/null in a loop that reads. What it writes to files is gone when it ends.",
        usage="%(prog)s [-h] [--accel {kvm,tcg}] [--append 'PARAMETERS'] [--memory MIB] [--cpus N] [--mirror ADDRESS] "
        "[--kernel-coverage DIR] KERNEL -- COMMAND [ARGUMENT ...]",
    )
    parser.add_argument("kernel", metavar="KERNEL", help=KERNEL_HELP)
    parser.add_argument("command", metavar="COMMAND", nargs="+", help="the command and its arguments, after --")
    add_options(parser.add_argument)
    parser.add_argument("--mirror", metavar="ADDRESS", help=MIRROR_HELP)
    parser.add_argument(
        "--kernel-coverage",
        type=Path,
        metavar="DIR",
        help="write to DIR which lines and branches of the kernel's reuseport code ran, from its boot to the end of "
        "the command; KERNEL has to be a directory that was built with --flavour gcov",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run `args.command` and return its exit status."""
    guest = read_guest(args)
    if args.kernel_coverage is not None:
        return run_counted(args.kernel, args.command, guest=guest, directory=args.kernel_coverage.resolve())
    return run_command(take_kernel(args.kernel, mirror=args.mirror), args.command, guest=guest)
