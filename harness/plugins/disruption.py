# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Print what the cases of consistent hashing measured, and keep it in results/disruption.json and a picture.

A case states it as the property `disruption`, a `Disruption` as a mapping; `python -m harness plot` draws the picture
again from the data.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.interface.keys import DISRUPTION
from harness.interface.results_file import DIRECTORY

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

NAME = "plot"
HELP = "draw what the last run measured of consistent hashing"
DESCRIPTION = """\
Draw results/disruption.png from results/disruption.json, which the cases of cases/test_consistent_hashing.py write:
for each kernel and program, how many clients of other members move when one member leaves, and how evenly clients are
spread. Needs matplotlib. Exit status: 0, or 1 when no run has measured anything or matplotlib is missing."""

RESULTS = Path(DIRECTORY)
NO_MATPLOTLIB = "matplotlib is not installed: pip install 'matplotlib>=3.6'"
DATA, PICTURE = "disruption.json", "disruption.png"
_FOUND = pytest.StashKey[list["Disruption"]]()


@dataclass(frozen=True, kw_only=True)
class Disruption:
    """How many clients moved when one member left, in parts of one, and how much the busiest member had."""

    kernel: str
    program: str
    clients: int
    members: int
    own: float
    """Of the clients of the member that left."""
    others: float
    """Of all other clients."""
    busiest: float
    """Clients of the busiest member, as a multiple of the mean."""

    def __str__(self) -> str:
        return (
            f"{self.kernel}: {self.program}: one of {self.members} members leaves: of {self.clients} clients "
            f"{self.own:.2%} of its own and {self.others:.2%} of the others' move; "
            f"the busiest had {self.busiest:.2f} times the mean"
        )


def pytest_configure(config: pytest.Config) -> None:
    """Collect what is measured."""
    config.stash[_FOUND] = []
    config.pluginmanager.register(_Collector(config.stash[_FOUND]))


class _Collector:
    def __init__(self, found: list[Disruption]) -> None:
        self._found = found

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a case measured, wherever it ran."""
        if report.when == "teardown":
            self._found += [Disruption(**value) for name, value in report.user_properties if name == DISRUPTION]  # type: ignore[arg-type]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the numbers, keep them, and draw them if matplotlib is installed."""
    found = config.stash[_FOUND]
    if not found:
        return
    terminalreporter.section("consistent hashing")
    for each in found:
        terminalreporter.line(str(each))
    directory = config.rootpath / RESULTS
    try:
        _keep(found, directory)
    except OSError as error:
        terminalreporter.line(f"not kept in {RESULTS / DATA}, and not drawn: {error}")
        return
    try:
        draw(found, directory / PICTURE)
        terminalreporter.line(f"drawn in {RESULTS / PICTURE}")
    except ModuleNotFoundError:
        terminalreporter.line("not drawn: " + NO_MATPLOTLIB)
    except OSError as error:
        terminalreporter.line(f"not drawn: {error}")


def _keep(found: Sequence[Disruption], directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    temporary = directory / f"{DATA}.tmp"
    try:
        temporary.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")
        temporary.rename(directory / DATA)
    finally:
        temporary.unlink(missing_ok=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take no arguments."""


def run(_: argparse.Namespace) -> int:
    """Draw the picture; return 1 if nothing was measured, or matplotlib is not installed."""
    try:
        found = [Disruption(**each) for each in json.loads((RESULTS / DATA).read_text())]
    except FileNotFoundError:
        print(f"there is no {RESULTS / DATA}: run the cases of cases/test_consistent_hashing.py first")
        return 1
    try:
        draw(found, RESULTS / PICTURE)
    except ModuleNotFoundError:
        print(NO_MATPLOTLIB)
        return 1
    print(RESULTS / PICTURE)
    return 0


def draw(found: Sequence[Disruption], path: Path) -> None:
    """Draw two rows of bars for each kernel and program: clients that moved, and the busiest member's load."""
    import matplotlib as mpl  # noqa: PLC0415  # a second to import

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    found = sorted(found, key=lambda each: (each.kernel, each.program))  # kernels that run at once report in turn
    labels = [f"{each.program}\n{each.kernel}" for each in found]
    figure, (moved, spread) = pyplot.subplots(2, 1, figsize=(max(6, 2 * len(found)), 8), layout="constrained")
    bars = moved.bar(labels, [100 * each.others for each in found])
    moved.bar_label(bars, [f"{each.others:.2%}" for each in found])
    moved.set(
        ylabel="% of the other members' clients",
        title=f"One of {found[0].members} members leaves: how many clients move",
    )
    bars = spread.bar(labels, [each.busiest for each in found])
    spread.bar_label(bars, [f"{each.busiest:.2f}" for each in found])
    spread.set(ylabel="times the mean", title="Clients of the busiest member")
    figure.savefig(path)
    pyplot.close(figure)
