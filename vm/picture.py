# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Draw the way of one packet as a small sequence picture: an SVG to stand inside a page. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.stories import Way

LANES = ("wire", "lookup", "group", "program", "socket")

_COLUMN, _ROW, _TOP, _MARGIN = 150, 22, 34, 60
_WIDTH = 2 * _MARGIN + _COLUMN * (len(LANES) - 1)

_LANE_OF = {
    "lookup": "lookup",
    "group": "group",
    "hash": "group",
    "helper": "program",
    "program": "program",
    "selected": "group",
    "queued": "socket",
    "request": "socket",
    "migrate": "group",
    "migrated": "socket",
    "dropped": "wire",
    "answered": "wire",
}
_SHORT = (
    (r".*select_reuseport\(.*key (\d+)\) = (-?\d+).*", r"key \1: \2"),
    (r"SK_PASS with (.*)", r"SK_PASS"),
    (r"SK_PASS, .*", "SK_PASS, none selected"),
    (r"not SK_PASS.*", "drop"),
    (r"id (\d+): (\d+ members?).*", r"\2"),
    (r"(0x\w+), which falls on place (\d+).*", r"hash: place \2"),
    (r"on the (\w+) queue of (.*)", r"\2"),
    (r"kept for (.*), answered.*", r"\1"),
    (r"(.*), by the (program|hash).*", r"\1 by the \2"),
    (r"none: .*", "none"),
    (r".*\((\w+)\)$", r"\1"),
    (r"(\w+) in \w+", r"\1"),
    (r"with (.*)", r"\1"),
    (r"to (.*)", r"\1"),
)


def draw(way: Way) -> Markup:
    """Return the picture: a lane for each party, an arrow for each step, its short words above it."""
    height = _TOP + _ROW * (len(way.steps) + 1)
    parts = [
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" width="{}" height="{}" role="img">'
            "<title>{}</title>"
        ).format(_WIDTH, height, _WIDTH, height, way.title),
        *_lanes(height),
        *_arrows(way),
        Markup("</svg>"),
    ]
    return Markup("").join(parts)


def short(text: str) -> str:
    """Return a sentence's gist, short enough for an arrow."""
    for pattern, gist in _SHORT:
        if re.fullmatch(pattern, text):
            return re.sub(pattern, gist, text)
    return text if len(text) <= 24 else f"{text[:23]}…"


def _lanes(height: int) -> Iterator[Markup]:
    for lane in LANES:
        x = _place(lane)
        yield Markup('<text class="lane" x="{}" y="14">{}</text><path class="life" d="M{} 20V{}"/>').format(
            x, lane, x, height
        )


def _arrows(way: Way) -> Iterator[Markup]:
    at = "wire"
    for number, (topic, text) in enumerate(way.steps, start=1):
        lane = _LANE_OF.get(topic, at)
        y, start, end = _TOP + number * _ROW, _place(at), _place(lane)
        if start == end:
            yield Markup('<circle class="{}" cx="{}" cy="{}" r="3"/>').format(topic, start, y - 4)
            yield Markup('<text class="{} own" x="{}" y="{}">{}</text>').format(topic, start + 7, y, short(text))
        else:
            tip = end - 5 if end > start else end + 5
            yield Markup('<path class="{}" d="M{} {}H{}"/><path class="{} tip" d="M{} {}l{} -4v8z"/>').format(
                topic, start, y, tip, topic, end, y, -7 if end > start else 7
            )
            label = Markup('<text class="{}" x="{}" y="{}">{}</text>')
            yield label.format(topic, (start + end) / 2, y - 4, short(text))
        at = lane


def _place(lane: str) -> int:
    return _MARGIN + _COLUMN * LANES.index(lane)
