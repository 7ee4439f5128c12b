# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make the reports of runs again, or merge runs into one: python -m vm report."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vm.commands.statuses import EXIT_INFRASTRUCTURE, EXIT_USAGE
from vm.report import history, kcidb, markdown, merging, publishing, results
from vm.report.comparison import NoSuchRunError, directory_of
from vm.report.ktap import ktap
from vm.report.summary import lines

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from vm.report.results import RunResult

_DESCRIPTION = """\
Make report.html, junit.xml, results.ktap, summary.md and results.json again from what a run left: of a run that was cut
off, from its journal. Of several runs one is made: the jobs of a CI matrix, the kernels of several days. A kernel that
two of them have is shown twice, a run that is given twice counts once. Prints the summary that ends a run. Exit status:
0, whatever the runs came to; 4 for a run that cannot be read; 13 where files cannot be written."""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the parser of `report`."""
    parser = subparsers.add_parser(
        "report", help="make the reports of a run again, or merge runs into one", description=_DESCRIPTION
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run: its directory or name under results/")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to write (default: where the run is; of several, a new directory under results/)",
    )
    parser.add_argument(
        "--history", type=Path, metavar="FILE", help="the file that says since when (default: results/history.json)"
    )
    parser.add_argument("--remember", action="store_true", help="add the run to the history, for the runs after it")
    for name, what in (
        ("--ktap", "KTAP"),
        ("--kcidb", "KCIDB's JSON, schema 5.3"),
        ("--markdown", "the summary for a CI job ($GITHUB_STEP_SUMMARY)"),
        ("--annotations", "a workflow command of GitHub's for each finding"),
    ):
        parser.add_argument(name, metavar="FILE", help=f"add {what} to FILE; - is the standard output")
    parser.add_argument(
        "--origin",
        default=kcidb.ORIGIN,
        help="who reports, in --kcidb: lower case, digits and _ (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the reports, and print the summary."""
    if not args.origin or args.origin.strip("abcdefghijklmnopqrstuvwxyz0123456789_"):
        print(f"error: --origin {args.origin!r}: KCIDB takes lower case letters, digits and _", file=sys.stderr)
        return EXIT_USAGE
    try:
        read = [(directory, merging.read(directory)) for directory in map(_find, args.runs)]
    except (NoSuchRunError, merging.MergeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        output = args.output or (read[0][0] if len(read) == 1 else _new_directory())
        with publishing.translate_oserror(output):
            output.mkdir(parents=True, exist_ok=True)
            merged, notes = _one(read, into=output)
            if args.history and not args.remember and not args.history.is_file():
                notes.append(f"there is no history {args.history}: --remember begins one")
            before = _history(args.history or results.ROOT / history.FILE, notes, merged if args.remember else None)
            publishing.write_reports(merged, output, before=before)
            said = _others(args, merged, before)
    except publishing.ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_INFRASTRUCTURE
    # With a report on the standard output, what is for people goes to the other.
    stream = sys.stderr if said else sys.stdout
    for line in [*lines(merged, before), *(f"note: {note}" for note in notes), f"results: {output}"]:
        print(line, file=stream)
    return 0


def _find(word: str) -> Path:
    return directory_of(word, root=results.ROOT)


def _new_directory() -> Path:
    return results.new_directory(results.ROOT, started=datetime.now(UTC))


def _one(read: list[tuple[Path, RunResult]], *, into: Path) -> tuple[RunResult, list[str]]:
    """Return the run as it is, or of several the one that they make."""
    if len(read) == 1 and read[0][0].resolve() == into.resolve():
        return read[0][1], []
    return merging.merge(read, into=into)


def _history(file: Path, notes: list[str], remembered: RunResult | None) -> history.History:
    """Return the history as it is, and add a run to it if there is one to be remembered."""
    try:
        if remembered is None:
            return history.read(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        before, complaint = history.update(file, remembered)
    except (OSError, ValueError) as error:
        before, complaint = history.History(), str(error)
    if complaint:
        notes.append(f"history: {complaint}")
    return before


def _others(args: argparse.Namespace, merged: RunResult, before: history.History) -> bool:
    """Write the forms that were asked for; return whether one of them went to the standard output."""
    forms: list[tuple[str | None, Callable[[], str]]] = [
        (args.ktap, lambda: ktap(merged)),
        (args.kcidb, lambda: kcidb.to_json(merged, origin=args.origin)),
        (args.markdown, lambda: markdown.summary(merged, before)),
        (args.annotations, lambda: "".join(f"{line}\n" for line in markdown.commands(merged, before))),
    ]
    for name, form in forms:
        if name == "-":
            sys.stdout.write(form())
        elif name:
            with Path(name).open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(form())
    return any(name == "-" for name, _ in forms)
