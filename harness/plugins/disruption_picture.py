# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The picture of what cases measured of consistent hashing. matplotlib draws it, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.interface.results_file import DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.model.disruption import Disruption

DATA = Path(DIRECTORY) / "disruption.json"
PICTURE = Path(DIRECTORY) / "disruption.png"
NO_MATPLOTLIB = "matplotlib is not installed: pip install 'matplotlib>=3.6'"


def draw(found: Sequence[Disruption], path: Path) -> None:
    """Draw two rows of bars for each kernel and program: clients that moved, and the busiest member's load.

    Raises ModuleNotFoundError without matplotlib, OSError if the file cannot be written.
    """
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
