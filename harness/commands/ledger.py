# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`python -m harness ledger`: print which kernels have which bugs, and what the runs say of it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from harness.commands.runs import function_of, kernels_of
from harness.interface.marks import ROOT, marked
from harness.interface.results_file import DIRECTORY, LATEST
from harness.kernel.ledger import Bug, State, bugs
from harness.kernel.release import running

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from harness.kernel.release import Release

NAME = "ledger"
HELP = "print the known bugs of reuseport groups in the kernel, and which kernels have them"
DESCRIPTION = """\
Print the kernel's known bugs in reuseport groups, those of harness/kernel/ledger.toml: the commit that mended each, the
releases that have it, and a column for every kernel of the runs: whether its release has the bug, and whether the cases
found it so. Without a run, the column is the running kernel. Needs no root. Exit status: 0, or 2 when results cannot be
read."""

_AS_EXPECTED = {"passed", "xfailed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the runs to read."""
    parser.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="directories under results/ (default: results/latest, if there is one)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print one row a bug, one column a kernel; return 2 where a run cannot be read."""
    latest = ROOT / DIRECTORY / LATEST
    paths = arguments.runs or ([latest] if latest.exists() else [])
    try:
        kernels = [kernel for path in paths for kernel in kernels_of(path)]
    except (OSError, ValueError) as error:
        print(f"cannot read the results: {error}", file=sys.stderr)
        return 2
    columns = [(f"{kernel.name} ({kernel.release})", kernel.release, kernel.outcomes) for kernel in kernels]
    columns = columns or [(f"this kernel ({running()})", running(), {})]
    table = Table("bug", "commit", "subject", "in", "fixed in", "tried on", *(name for name, _, _ in columns))
    functions = cases_of_bugs()
    for bug in bugs().values():
        table.add_row(
            bug.name,
            "\n".join((bug.commit or "-", *(each.partition(" ")[0] for each in bug.also))),
            "\n".join((bug.subject, *(each.partition(" ")[2] for each in bug.also))),
            str(bug.introduced),
            ", ".join(map(str, (*([bug.fixed] if bug.fixed else []), *bug.backports))) or "-",
            ", ".join(f"{release} {_came_out(bug, release)}" for release in bug.tried) or "-",
            *(cell(bug, release, outcomes, functions.get(bug.name, set())) for _, release, outcomes in columns),
        )
    console = Console()
    if not console.is_terminal:
        console.width = 240
    console.print(table)
    return 0


def cell(bug: Bug, release: Release, outcomes: Mapping[str, str], functions: set[str]) -> str:
    """Return how a kernel stands to a bug, and what its cases came to: `outcomes` by the cases' ids.

    "as tested" counts the cases that came out as the state wants it, of all that ran.
    """
    state = bug.state(release)
    if bug.unchecked:
        return f"{state}, no case"
    ran = Counter(
        outcome for case, outcome in outcomes.items() if function_of(case) in functions and outcome != "skipped"
    )
    if not ran:
        return f"{state}, not tried"
    if bug.race:
        return f"{state}, {'no splat' if set(ran) <= _AS_EXPECTED else 'FAILED'}"
    good = sum(count for outcome, count in ran.items() if outcome in _AS_EXPECTED)
    words = "shown" if state is State.AFFECTED else "as tested"
    return f"{state}, {words}" if good == ran.total() else f"{state}, but {ran.total() - good} of {ran.total()} differ"


def _came_out(bug: Bug, release: Release) -> str:
    """Return what the cases of a bug came to on a release that the ledger says they were tried on."""
    if bug.race:
        return "no splat"
    return "shown" if bug.state(release) is State.AFFECTED else "not there"


def cases_of_bugs() -> dict[str, set[str]]:
    """Return the test functions that each bug's marks name, as cases/FILE::FUNCTION."""
    return {name: {case.id for case in cases} for name, cases in marked("ledger").items()}
