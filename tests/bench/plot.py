# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Draw what was measured: how far each ratio is from its bound, and what a packet costs by the group's size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vm.report.pygal_loading import load_pygal

from .measured.selection import SIZES, WAYS, part
from .measurement import Spread, ratios
from .table import MEASUREMENTS

if TYPE_CHECKING:
    from pathlib import Path

    from .kept import Bench


def draw(bench: Bench, directory: Path) -> list[Path]:
    """Write ratios.svg and selection.svg into `directory`, of what was measured; return the paths of those written."""
    return [*_draw_ratios(bench, directory / "ratios.svg"), *_draw_selection(bench, directory / "selection.svg")]


def _draw_ratios(bench: Bench, file: Path) -> list[Path]:
    """Draw each ratio over its bound, upside down where a bound is the most: from 1 on it is met."""
    points = []
    for name, rounds in bench.rounds.items():
        measurement = MEASUREMENTS[name]
        bound = measurement.bound(emulated=bench.machine.emulated)
        if bound is None:
            continue
        median = Spread.of(ratios(measurement, rounds)).median
        points.append((name, median / bound.at_least if bound.at_least else (bound.at_most or 1) / median))
    if not points:
        return []
    chart: Any = load_pygal().HorizontalBar(
        title=f"Linux {bench.machine.kernel}: what is reached of what is asked for (1: all)",
        js=[], show_legend=False, logarithmic=True, x_labels_major=[1], height=120 + 30 * len(points),
    )  # fmt: skip
    chart.x_labels = [name for name, _ in reversed(points)]
    chart.add("", [round(value, 3) for _, value in reversed(points)])
    chart.render_to_file(str(file))
    return [file]


def _draw_selection(bench: Bench, file: Path) -> list[Path]:
    shown = [way for way in WAYS if f"packets-{way.name}" in bench.rounds]
    if not shown:
        return []
    chart: Any = load_pygal().XY(
        title=f"Linux {bench.machine.kernel}: microseconds a packet, by members of the group",
        x_title="members", js=[], logarithmic=True, xrange=(SIZES[0], SIZES[-1]), truncate_legend=-1,
        legend_at_bottom=True,
    )  # fmt: skip
    chart.x_labels = list(SIZES)
    for way in shown:
        rounds = bench.rounds[f"packets-{way.name}"]
        chart.add(way.says, [(size, Spread.of([taken[part(size)] for taken in rounds]).median) for size in SIZES])
    chart.render_to_file(str(file))
    return [file]
