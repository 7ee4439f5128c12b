# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`tox -e bench`: measure how fast it is, as ratios of one run, against what is asked for."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from vm.base.progress import progress_on

from . import building, page, plot
from .measurement import MeasuringError, Place, Spread, parts, ratios, shortly
from .running import ROOT, Running
from .table import MEASUREMENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .kept import Bench

EXIT_USAGE, EXIT_INTERRUPTED = 4, 130

_DESCRIPTION = """\
Measure on the running kernel, or on another in a VM, and print each ratio with its parts, as the median of its rounds
(and the smallest and largest). What is divided was measured one right after the other: a ratio means something on a
busy machine, a number of seconds does not. Writes bench.json and pictures into results/bench-TIME/. Exit status: 0,
also where a ratio is not what is asked for; 4 for what cannot be used, and where the cases could not run; 12 if the VM
was lost, 13 if it did not boot; 130 after Ctrl-C, with what was measured until then."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    args = _parser().parse_args(arguments)
    if args.page is not None:
        return page.main(args.page)
    if unknown := [name for name in args.only if name not in MEASUREMENTS]:
        print(f"error: --only {unknown[0]}: there is {', '.join(MEASUREMENTS)}", file=sys.stderr)
        return EXIT_USAGE
    possible = [name for name, one in MEASUREMENTS.items() if args.kernel is not None or one.place is Place.INSIDE]
    chosen = [MEASUREMENTS[name] for name in args.only or possible]
    directory = ROOT / "results" / f"bench-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    directory.mkdir(parents=True)
    with ExitStack() as undo:
        progress = undo.enter_context(progress_on(sys.stderr))
        # Not in /tmp, where a guest has files of its own.
        built = Path(undo.enter_context(tempfile.TemporaryDirectory(dir=directory)))
        running = Running(directory, built, args.kernel, args.rounds or 0, progress)
        try:
            building.build(built, tell=progress)
            status = running.measure(chosen)
        except MeasuringError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_USAGE
        except KeyboardInterrupt:
            status = EXIT_INTERRUPTED
    if running.bench is not None:
        Console().print(_table(running.bench))
        for path in plot.draw(running.bench, directory):
            print(f"picture: {path}")
    print(f"results: {directory}")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tox -e bench --", description=_DESCRIPTION)
    parser.add_argument(
        "--kernel", metavar="KERNEL", help="measure in a VM with this kernel: a name of 'python -m vm list', or a path"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help=f"measure this; may be given more than once: {', '.join(MEASUREMENTS)}",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each (default: what the table says)")
    parser.add_argument(
        "--page",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="measure nothing: put what these bench.json have into docs/performance.json, and write the page",
    )
    return parser


def _table(bench: Bench) -> Table:
    shown = Table("what", "ratio", "asked for", "parts", title=f"Linux {bench.machine.kernel}")
    for name, rounds in bench.rounds.items():
        measurement = MEASUREMENTS[name]
        ratio = Spread.of(ratios(measurement, rounds))
        bound = measurement.bound(emulated=bench.machine.emulated)
        asked = "" if bound is None else f"{bound}{'' if bound.holds(ratio.median) else ', missed'}"
        told = list(parts(rounds))
        lines = [
            f"{part}: {spread if len(told) == 2 else shortly(spread.median)} {measurement.unit}".rstrip()
            for part, spread in told
        ]
        shown.add_row(f"{name}: {measurement.says}", str(ratio), asked, "\n".join(lines))
    return shown


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
