# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Draw the samples of a soak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vm.report.pygal_loading import load_pygal

from .judge import MEMORY, TOLERATED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .sample import Sample

_MINUTE = 60


def draw(samples: Sequence[Sample], directory: Path) -> list[Path]:
    """Write memory.svg (MiB) and counts.svg into `directory`, both over minutes; return their paths."""
    counts = tuple(name for name in TOLERATED if name not in MEMORY)
    return [
        _draw(samples, directory / "memory.svg", MEMORY, title="Memory after each round, MiB", unit=1024),
        _draw(samples, directory / "counts.svg", counts, title="Held after each round", unit=1),
    ]


def _draw(samples: Sequence[Sample], file: Path, names: Sequence[str], *, title: str, unit: int) -> Path:
    chart: Any = load_pygal().XY(title=title, x_title="minutes", js=[], include_x_axis=True, dots_size=2)
    for name in names:
        points = [(sample.seconds / _MINUTE, getattr(sample, name) / unit) for sample in samples]
        if any(value for _, value in points):
            chart.add(name, points)
    chart.render_to_file(str(file))
    return file
