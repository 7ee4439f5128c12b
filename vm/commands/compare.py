# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Compare two runs: python -m vm compare."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import TYPE_CHECKING, Any

from vm.commands.statuses import EXIT_USAGE
from vm.report import results
from vm.report.comparison import NoSuchRunError, changes, find

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the parser of `compare`."""
    parser = subparsers.add_parser(
        "compare",
        help="show the cases whose outcome or observed value changed between two runs",
        description="Show every case whose outcome, or what it observed, is not the same in both; end with 0 if there "
        "is none, with 1 if there are some.",
    )
    for name, which in (("run_a", "RUN_A[:KERNEL]"), ("run_b", "RUN_B[:KERNEL]")):
        parser.add_argument(
            name,
            metavar=which,
            help="a run: its directory or name under results/ (such as latest), and its kernel, if it had several",
        )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what changed."""
    try:
        before, after = (find(word, root=results.ROOT) for word in (args.run_a, args.run_b))
    except NoSuchRunError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    found = list(changes(before, after))
    for case, parts in groupby(found, key=lambda change: change.case):
        print(case)
        for change in parts:
            print(f"  {change.what:8}  {change.before}\n  {'':8}  {change.after}")
    total = len({case.id for kernel in (before, after) for case in kernel.cases})
    different = len({change.case for change in found})
    names = [f"{args.run_a} ({before.release or before.name})", f"{args.run_b} ({after.release or after.name})"]
    print(f"{different} of {total} cases changed between {names[0]} and {names[1]}")
    return 1 if found else 0
