# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What cases measured is drawn: the marks stand where the numbers say, and nothing of the library's own is left."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from planted import KERNELS, planted_run

from harness.interface.measured import KINDS, Cost, Moved, Shares, measured_from_json, measured_to_json
from vm.report.charts import charts, colour

if TYPE_CHECKING:
    from vm.report.results import RunResult

SHARES = Shares(program="<maglev>", received=[40, 60, 52, 48], low=30, high=70)
MOVED = Moved(program="maglev", clients=100, members=4, own=1.0, others=0.25, busiest=1.2)
COST = Cost(what="UDP", members=[2, 8, 32], microseconds=[4.0, 5.0, 8.0])


def run_with(*measured: Shares | Moved | Cost, kernels: int = 3) -> RunResult:
    run = planted_run()
    for number, kernel in enumerate(run.kernels):
        kernel.cases[0].measured = [measured_to_json(each) for each in measured if number < kernels]
    return run


def drawn(run: RunResult, title: str) -> ElementTree.Element:
    (chart,) = [chart for chart in charts(run) if chart.title.startswith(title)]
    return ElementTree.fromstring(chart.svg)


def with_class(root: ElementTree.Element, tag: str, kind: str) -> list[ElementTree.Element]:
    return [each for each in root.iter(tag) if kind in (each.get("class") or "").split()]


@pytest.mark.parametrize("measured", [SHARES, MOVED, COST], ids=KINDS)
def test_measurement_goes_through_json(measured: Shares | Moved | Cost) -> None:
    assert measured_from_json(measured_to_json(measured)) == measured


@pytest.mark.parametrize("data", [{}, {"kind": "other"}, {"kind": "moved", "program": "maglev"}])
def test_what_is_no_measurement_is_refused_and_not_drawn(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no measurement"):
        measured_from_json(data)
    run = run_with()
    run.kernels[0].cases[0].measured = [data]
    assert [chart.title for chart in charts(run)] == ["Time of a topic"]


def test_shares_are_dots_at_their_height_and_the_band_is_the_expected_one() -> None:
    root = drawn(run_with(SHARES, kernels=1), "Packets of each member: <maglev>")
    dots = [each for each in root.iter("circle") if float(each.get("r", 0)) > 0]
    at = sorted((float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in dots)
    assert len(at) == len(SHARES.received)
    # A straight line leads from packets to heights: by the first two, the others are where they have to be.
    slope = (at[1][1] - at[0][1]) / (60 - 40)
    assert slope < 0  # more packets are higher
    for (_, y), packets in zip(at, SHARES.received, strict=True):
        assert math.isclose(y, at[0][1] + slope * (packets - 40), abs_tol=0.01)
    (band_,) = [path for each in with_class(root, "g", "band") for path in each.iter("path")]
    heights = [float(number) for number in re.findall(r"[\d.]+", band_.get("d") or "")[1::2]]
    for edge in (SHARES.low, SHARES.high):
        assert any(math.isclose(height, at[0][1] + slope * (edge - 40), abs_tol=0.2) for height in heights), edge


def test_kernels_that_agree_are_drawn_once() -> None:
    root = drawn(run_with(SHARES), "Packets of each member")
    assert len([each for each in root.iter("circle") if float(each.get("r", 0)) > 0]) == len(SHARES.received)


def test_bars_are_as_long_as_the_numbers_and_have_the_kernel_s_colour() -> None:
    run = run_with(MOVED)
    run.kernels[0].cases[0].measured = [measured_to_json(replace(MOVED, others=0.5))]
    root = drawn(run, "Clients of other members")
    width = {}
    for place in range(len(KERNELS)):
        (bar,) = {each for group in with_class(root, "g", colour(place)) for each in with_class(group, "rect", "rect")}
        width[place] = float(bar.get("width", 0))
    assert math.isclose(width[0], 2 * width[1], rel_tol=0.01)
    assert math.isclose(width[2], width[1], rel_tol=0.01)


def test_cost_has_a_point_a_size_and_kernel() -> None:
    root = drawn(run_with(COST), "Cost of a packet")
    assert len([each for each in root.iter("circle") if float(each.get("r", 0)) > 0]) == len(COST.members) * len(
        KERNELS
    )
    assert {"2", "8", "32"} <= {text.text for text in root.iter("text")}


def test_charts_are_the_same_each_time_and_have_nothing_of_the_library_s_own() -> None:
    first, again = (charts(run_with(SHARES, MOVED, COST)) for _ in range(2))
    assert first == again
    for chart in first:
        root = ElementTree.fromstring(chart.svg)
        assert root.get("role") == "img"
        assert root.findtext("title") == chart.title
        assert not {"style", "script", "desc"} & {each.tag for each in root.iter()}
        assert "http" not in chart.svg
        assert "ygal" not in chart.svg


def test_drawing_leaves_imports_as_they_were() -> None:
    """Where warnings are errors, as in pytest, a finder of the old kind turns "no such module" into something else."""
    draw = "from planted import planted_run; from vm.report.charts import charts; assert list(charts(planted_run()))"
    missing = "import warnings; warnings.simplefilter('error')\ntry: import no_such\nexcept ModuleNotFoundError: pass"
    done = subprocess.run(
        [sys.executable, "-c", f"{draw}; {missing}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_run_without_cases_has_no_charts() -> None:
    run = planted_run()
    for kernel in run.kernels:
        kernel.cases = []
    assert charts(run) == []
