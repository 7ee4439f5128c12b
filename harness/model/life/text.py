# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Histories as text: as JSON, and as Python. Pure."""

from __future__ import annotations

from dataclasses import MISSING, astuple, fields
from enum import Enum
from typing import TYPE_CHECKING, Any

from harness.model.layout import Family
from harness.model.life import foreign, segments, sockmap, steps
from harness.model.life.fast_open import Given
from harness.model.life.state import Keys, Program
from harness.model.plain import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STEPS = (
    steps.Open, steps.Bind, steps.Listen, steps.Shutdown, steps.Leave, steps.Connect, steps.Disconnect, steps.Close,
    steps.SetReuseport, steps.SetCpu, steps.Attach, steps.Detach, steps.Fill, steps.Empty, steps.Swap,
    steps.Withdraw, steps.Crowd, segments.Ask, segments.Answer, segments.Abort, segments.Cookies, segments.Migrate,
    segments.Refuse, segments.Name, segments.FillHeir, segments.EmptyHeir, segments.FastOpen,
    segments.FastOpenLimit, segments.FastOpenKeys, segments.NeedCookie, segments.AskFast, foreign.Foreign,
    foreign.LinkConnection, sockmap.Link, sockmap.Unlink, sockmap.LinkKey, sockmap.UnlinkKey,
)  # fmt: skip
_BY_NAME = {kind.__name__: kind for kind in STEPS}


def to_json(history: Iterable[steps.Step]) -> list[list[Any]]:
    """Return a history as JSON: each step is its name and its fields."""
    return [[type(step).__name__, *map(plain, astuple(step))] for step in history]


def from_json(rows: Any) -> tuple[steps.Step, ...]:
    """Return the history that `to_json` wrote; ValueError says what is wrong, and in which step."""
    if not isinstance(rows, list):
        raise ValueError("the steps are no list")
    return tuple(_steps(rows))


def _steps(rows: list[Any]) -> Iterator[steps.Step]:
    for place, row in enumerate(rows, 1):
        if not (isinstance(row, list) and row and row[0] in _BY_NAME):
            raise ValueError(f"step {place}, {row!r}, is none of {', '.join(_BY_NAME)}")
        kind, given = _BY_NAME[row[0]], row[1:]
        known = fields(kind)
        # Fewer are in a file from before the step had them: they are as usual.
        if not sum(item.default is MISSING for item in known) <= len(given) <= len(known):
            raise ValueError(f"step {place}, {row!r}: {kind.__name__} has {len(known)} fields")
        try:
            yield kind(*(_READ[str(item.type)](value) for item, value in zip(known, given, strict=False)))
        except (KeyError, ValueError) as error:
            raise ValueError(f"step {place}, {row!r}: {error}") from error


def _number(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no number")
    return value


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{value!r} is neither true nor false")
    return value


ENUMS = (Family, Program, foreign.Kind, Keys, Given)
"""The enums that are among the fields of steps."""

_READ: dict[str, Any] = {"int": _number, "bool": _truth} | {kind.__name__: kind for kind in ENUMS}


def spelled(step: steps.Step) -> str:
    """Return the step as Python that makes it, without what is as usual."""
    words = []
    for item in fields(step):
        value = getattr(step, item.name)
        if value != item.default or item.name == "socket":
            shown = f"{type(value).__name__}.{value.name}" if isinstance(value, Enum) else repr(value)
            words.append(shown if item.name == "socket" else f"{item.name}={shown}")
    return f"{type(step).__name__}({', '.join(words)})"
