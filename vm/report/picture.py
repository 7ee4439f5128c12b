# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Draw the path of one packet as a small sequence picture: an SVG to stand inside a page. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from markupsafe import Markup

from harness.interface.sentences import heading, topic
from harness.interface.steps import (
    ACTORS,
    CookieAccepted,
    CookieSent,
    Dropped,
    GroupFound,
    HashComputed,
    HelperCalled,
    IcmpSent,
    Migrated,
    MigrationStarted,
    ProgramReturned,
    Queued,
    RequestKept,
    ResetSent,
    SocketLookup,
    SocketSelected,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.interface.steps import Actor, SelectedBy, Step
    from harness.interface.story import Path

_COLUMN, _ROW, _TOP, _MARGIN = 210, 22, 34, 60
_WIDTH = 2 * _MARGIN + _COLUMN * (len(ACTORS) - 1)
_LONGEST = 36
"""Characters that fit between two lanes."""


def draw(path: Path) -> Markup:
    """Return the picture: a lane for each actor, an arrow or a dot for each step, and a label above it."""
    height = _TOP + _ROW * (len(path.steps) + 1)
    parts = [
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" width="{}" height="{}" role="img">'
            "<title>{}</title>"
        ).format(_WIDTH, height, _WIDTH, height, heading(path.start)),
        *_lanes(height),
        *_arrows(path),
        Markup("</svg>"),
    ]
    return Markup("").join(parts)


def label(step: Step) -> str:
    """Return what stands above a step's arrow: its details, as far as they fit."""
    text = _details(step)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _details(step: Step) -> str:  # noqa: PLR0912  # a table
    match step:
        case SocketLookup():
            return step.function
        case GroupFound():
            return f"{step.members} member{'s' * (step.members != 1)}"
        case HashComputed():
            return f"hash: position {step.position}"
        case HelperCalled():
            return f"key {step.key}: {step.result if step.socket is None else step.socket}"
        case ProgramReturned():
            return step.verdict if step.verdict == "SK_DROP" or step.socket else "SK_PASS, none selected"
        case SocketSelected():
            return _selected(step.socket, step.by)
        case Queued():
            return step.socket
        case RequestKept():
            return f"SYN-ACK by {step.socket}"
        case CookieSent():
            return "SYN cookie"
        case CookieAccepted():
            return f"SYN cookie for {step.socket}"
        case MigrationStarted():
            return f"{step.socket} closes"
        case Migrated():
            return step.socket or "none: given up"
        case Dropped():
            return step.reason or step.function
        case IcmpSent():
            return "ICMP port unreachable" if step.port_unreachable else f"ICMP {step.type}/{step.code}"
        case ResetSent():
            return "RST"
        case _:
            assert_never(step)


def _selected(socket: str | None, by: SelectedBy) -> str:
    match by:
        case "program":
            return f"{socket} by the program"
        case "hash" | "hash after program":
            return f"{socket} by the hash"
        case "classic program or hash":
            return f"{socket}"
        case "drop":
            return "none: drop"
        case "lookup":
            return "none: lookup goes on"
        case _:
            assert_never(by)


def _lanes(height: int) -> Iterator[Markup]:
    for actor in ACTORS:
        x = _place(actor)
        yield Markup('<text class="lane" x="{}" y="14">{}</text><path class="life" d="M{} 20V{}"/>').format(
            x, actor, x, height
        )


def _arrows(path: Path) -> Iterator[Markup]:
    at: Actor = "wire"
    for number, step in enumerate(path.steps, start=1):
        y, start, end = _TOP + number * _ROW, _place(at), _place(step.actor)
        kind = topic(step)
        if start == end:
            yield Markup('<circle class="{}" cx="{}" cy="{}" r="3"/>').format(kind, start, y - 4)
            side, x = ("left", start - 7) if step.actor == ACTORS[-1] else ("right", start + 7)
            yield Markup('<text class="{} {}" x="{}" y="{}">{}</text>').format(kind, side, x, y, label(step))
        else:
            tip = end - 5 if end > start else end + 5
            yield Markup('<path class="{}" d="M{} {}H{}"/><path class="{} tip" d="M{} {}l{} -4v8z"/>').format(
                kind, start, y, tip, kind, end, y, -7 if end > start else 7
            )
            yield Markup('<text class="{}" x="{}" y="{}">{}</text>').format(kind, (start + end) / 2, y - 4, label(step))
        at = step.actor


def _place(actor: Actor) -> int:
    return _MARGIN + _COLUMN * ACTORS.index(actor)
