# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make the harness one of a kernel tree's selftests: python -m vm export-kselftest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vm.kselftest.export import export

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the parser of `export-kselftest`."""
    parser = subparsers.add_parser(
        "export-kselftest",
        help="make the harness one of a kernel tree's selftests",
        description="Write a selftest into DIR, which lies in tools/testing/selftests of a kernel tree: a Makefile, a "
        "script that runs the cases on the running kernel and prints KTAP, and a copy of this project. An older export "
        "is replaced. Then: make -C ~/linux/tools/testing/selftests TARGETS=reuseport run_tests",
    )
    parser.add_argument(
        "directory", type=Path, metavar="DIR", help="such as ~/linux/tools/testing/selftests/reuseport; need not exist"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export, and say how to run it."""
    directory: Path = args.directory.absolute()
    export(directory, python=sys.executable)
    print(f"make -C {directory.parent} TARGETS={directory.name} run_tests")
    return 0
