# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Draw what cases measured, and how long they took: charts as SVG, to stand inside the page. Pure.

pygal draws them. Its styles and scripts are taken out: the page has one style for all charts, light and dark.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from xml.etree import ElementTree

from markupsafe import Markup

from harness.interface.measured import Cost, Moved, Shares, measured_from_json
from vm.report.pygal_loading import load_pygal
from vm.report.tree import topic_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.interface.measured import Measured
    from vm.report.results import RunResult

Kind = TypeVar("Kind", Shares, Moved, Cost)

COLOURS = 12
"""Colours of kernels; further kernels begin again with the first."""

_MOST_TOPICS = 12
_WIDTH, _HEIGHT, _BAR = 460, 250, 11
_SVG = "{http://www.w3.org/2000/svg}"
_UNWANTED = {"defs", "desc"}
"""Elements of pygal's: its style and script, and what its script shows under the pointer."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart for the page."""

    title: str
    note: str
    svg: Markup


def charts(run: RunResult) -> list[Chart]:
    """Return the charts of a run: only the times where its cases measured nothing."""
    found = list(_measured(run))
    return [*_of_shares(found), *_of_moved(found), *_of_cost(found), *_of_times(run)]


def colour(kernel: int) -> str:
    """Return the class that gives a kernel its colour, by the kernel's place in the run."""
    return f"k{kernel % COLOURS}"


def _measured(run: RunResult) -> Iterator[tuple[int, str, Measured]]:
    """Yield place and name of the kernel with each measurement, without those of another version of this program."""
    for place, kernel in enumerate(run.kernels):
        for case in kernel.cases:
            for data in case.measured:
                try:
                    yield place, kernel.name, measured_from_json(data)
                except ValueError:
                    continue


def _only(found: list[tuple[int, str, Measured]], kind: type[Kind]) -> list[tuple[int, str, Kind]]:
    return [(place, name, measured) for place, name, measured in found if isinstance(measured, kind)]


def _of_shares(found: list[tuple[int, str, Measured]]) -> Iterator[Chart]:
    """Yield a chart a program: a dot a member and kernel. Kernels with the same dots are drawn once."""
    programs: dict[str, list[tuple[int, str, Shares]]] = {}
    for place, name, shares in _only(found, Shares):
        programs.setdefault(shares.program, []).append((place, name, shares))
    for program, entries in programs.items():
        first = entries[0][2]
        alike: dict[tuple[int, ...], list[tuple[int, str]]] = {}
        for place, name, shares in entries:
            alike.setdefault(tuple(shares.received), []).append((place, name))
        last = len(first.received) - 1
        chart = load_pygal().XY(stroke=False, dots_size=2.2, **_options())
        most = max(first.high, *(max(received) for received in alike))
        chart.range = (0, most * 1.1)
        chart.x_labels = [0, *range(last // 4 + 1, last, last // 4 + 1), last]
        # A band without height would not be seen.
        thin = 0.03 * most if first.low == first.high else 0
        low, high = first.low - thin, first.high + thin
        band = [(0, low), (last, low), (last, high), (0, high), (0, low)]
        chart.add("expected", band, stroke=True, fill=True, show_dots=False)
        for received, kernels in alike.items():
            chart.add(", ".join(name for _, name in kernels), list(enumerate(received)))
        expected = f"{first.low} to {first.high}" if first.low < first.high else f"exactly {first.low}"
        spread = f"{sum(first.received)} packets over {last + 1} members"
        agree = (
            "" if len(alike) == len(entries) else "; kernels that agree in every member have the colour of the first"
        )
        yield _finish(
            chart,
            ["band", *(colour(kernels[0][0]) for kernels in alike.values())],
            title=f"Packets of each member: {program}",
            note=f"{spread}; expected of each: {expected} (the band){agree}.",
        )


def _of_moved(found: list[tuple[int, str, Measured]]) -> Iterator[Chart]:
    entries = _only(found, Moved)
    if not entries:
        return
    programs = list(dict.fromkeys(moved.program for _, _, moved in entries))
    kernels = dict.fromkeys((place, name) for place, name, _ in entries)
    share = {(place, moved.program): 100 * moved.others for place, _, moved in entries}
    rows = {(place, name): [share.get((place, program)) for program in programs] for place, name in kernels}
    clients, members = entries[0][2].clients, entries[0][2].members
    yield _bars(
        programs, rows, lambda value: f"{value:.3g} %",
        title="Clients of other members that move when one leaves",
        note=f"Of {clients} clients of {members} members. Consistent hashing moves few; the kernel's hash moves half.",
    )  # fmt: skip


def _of_cost(found: list[tuple[int, str, Measured]]) -> Iterator[Chart]:
    for what in dict.fromkeys(cost.what for _, _, cost in _only(found, Cost)):
        entries = [(place, name, cost) for place, name, cost in _only(found, Cost) if cost.what == what]
        sizes = sorted({size for _, _, cost in entries for size in cost.members})
        chart = load_pygal().Line(dots_size=3, **_options())
        chart.value_formatter = lambda value: f"{value:.3g} µs"
        chart.x_labels = [str(size) for size in sizes]
        for _, name, cost in entries:
            known = dict(zip(cost.members, cost.microseconds, strict=True))
            chart.add(name, [known.get(size) for size in sizes])
        chart.range = (0, 1.1 * max(max(cost.microseconds) for _, _, cost in entries))
        yield _finish(
            chart,
            [colour(place) for place, _, _ in entries],
            title=f"Cost of a packet by the number of members: {what}",
            note="Microseconds from the sender to the socket; across: the members of the group.",
        )


def _of_times(run: RunResult) -> Iterator[Chart]:
    """Yield the chart of the topics that took longest."""
    times: dict[int, dict[str, float]] = {}
    for place, kernel in enumerate(run.kernels):
        for case in kernel.cases:
            of_topic = times.setdefault(place, {})
            of_topic[topic_of(case.id)] = of_topic.get(topic_of(case.id), 0) + case.seconds
    total: dict[str, float] = {}
    for of_topic in times.values():
        for topic, seconds in of_topic.items():
            total[topic] = total.get(topic, 0) + seconds
    took = sorted((topic for topic in total if total[topic] > 0), key=lambda topic: -total[topic])
    topics, others = took[:_MOST_TOPICS], len(took[_MOST_TOPICS:])
    if not topics:
        return
    rows: dict[tuple[int, str], list[float | None]] = {}
    for place, of_topic in times.items():
        rows[place, run.kernels[place].name] = [of_topic.get(topic) for topic in topics]
    left_out = f" The other {others} topics took less; see the matrix." if others else ""
    yield _bars(
        topics, rows, lambda value: f"{value:.3g} s",
        title="Time of a topic", note=f"With set-up and tear-down of its cases.{left_out}",
    )  # fmt: skip


def _bars(
    labels: Sequence[str],
    rows: dict[tuple[int, str], list[float | None]],
    said: Callable[[float], str],
    *,
    title: str,
    note: str,
) -> Chart:
    """Draw a group of bars a label, with a bar a kernel."""
    height = 60 + len(labels) * (_BAR * len(rows) + 12)
    chart = load_pygal().HorizontalBar(
        **_options(height=height), print_values=len(rows) * len(labels) <= 60, print_values_position="top"
    )
    chart.value_formatter = said
    # What is added first is drawn lowest.
    chart.x_labels = list(reversed(labels))
    for (_, name), values in reversed(rows.items()):
        chart.add(name, list(reversed(values)))
    most = max(value for values in rows.values() for value in values if value is not None)
    chart.range = (0, most * 1.15 or 1)  # with room for the last number
    return _finish(chart, [colour(place) for place, _ in reversed(rows)], title=title, note=note)


def _finish(chart: Any, colours: Sequence[str], *, title: str, note: str) -> Chart:
    return Chart(title=title, note=note, svg=_bare(chart, colours, title=title))


def _options(*, height: int = _HEIGHT) -> dict[str, Any]:
    style = load_pygal().style.Style(label_font_size=11, major_label_font_size=11, value_font_size=10)
    return {
        "width": _WIDTH, "height": height, "show_legend": False, "style": style, "margin": 8, "js": [],
        "no_data_text": "nothing", "max_scale": 8, "truncate_label": -1, "no_prefix": True,
    }  # fmt: skip


def _bare(chart: Any, colours: Sequence[str], *, title: str) -> Markup:
    """Return the chart's SVG without styles and scripts; `colours` are the classes of its series."""
    root = ElementTree.fromstring(chart.render())
    for parent in list(root.iter()):
        parent.tag = parent.tag.removeprefix(_SVG)
        kinds = (parent.get("class") or "").split()
        said = [child.text for child in parent if child.get("class") == "value" and child.tag.endswith("desc")]
        for child in list(parent):
            if child.tag.removeprefix(_SVG) in _UNWANTED or (child.get("class") or "").split()[:1] == ["tooltip"]:
                parent.remove(child)
        if said and said[0] and {"dot", "bar", "dots"} & {*kinds}:
            shown = ElementTree.SubElement(parent, "title")  # what a browser shows under the pointer
            shown.text = said[0]
        if kinds:
            parent.set("class", " ".join(_renamed(kind, colours) for kind in kinds))
    for name in [name for name in root.attrib if name not in ("viewBox", "class")]:
        del root.attrib[name]
    root.set("class", "chart")
    root.set("role", "img")
    for child in root.findall("title"):
        child.text = title
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _renamed(kind: str, colours: Sequence[str]) -> str:
    """Return the class of a series' colour in the place of pygal's, and any other class as it is."""
    match = re.fullmatch(r"color-(\d+)", kind)
    return colours[int(match[1])] if match else kind
