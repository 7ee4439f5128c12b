# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Histories as text: a file that `--replay` takes, a case to paste into cases/, and a line of the kernel's log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.campaign.found import Found
from harness.campaign.table import step_of
from harness.model.layout import Protocol
from harness.model.life.text import ENUMS, from_json, spelled, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.model.life.steps import Step

FORMAT, VERSION = "reuseport history", 1
_LINE = re.compile(rf"{FORMAT} {VERSION}: (udp|tcp) ([0-9 ]+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Saved(Found):
    """A history with what it showed, and where."""

    FORMAT: ClassVar[str] = FORMAT
    VERSION: ClassVar[int] = VERSION
    KIND: ClassVar[str] = "history"

    steps: tuple[Step, ...]
    protocol: Protocol = Protocol.UDP
    frame: str = ""
    """The frame that showed the difference, in hexadecimal; empty if a call did."""

    @property
    def frames(self) -> tuple[str, ...]:
        """Return the frame, if there is one."""
        return (self.frame,) if self.frame else ()

    def rows(self) -> list[Any]:
        """Return the steps as JSON."""
        return to_json(self.steps)

    def content(self) -> dict[str, Any]:
        """Return the protocol, the frame and the steps as JSON."""
        return {"protocol": str(self.protocol), "frame": self.frame, "steps": self.rows()}

    @classmethod
    def from_json(cls, given: Any) -> Saved:
        """Return what `to_json` wrote; ValueError says what is wrong with it."""
        if not isinstance(given, dict) or given.get("format") != FORMAT:
            raise ValueError(f'it is no {FORMAT}: "format" is not there')
        return cls(
            **cls.shared_fields(given),
            steps=from_json(given.get("steps")),
            protocol=Protocol(given.get("protocol", Protocol.UDP)),
            frame=str(given.get("frame", "")),
        )

    def as_case(self) -> str:
        """Return a case to paste into cases/, which fails where this did."""
        values = [spelled(step) for step in self.steps]
        more = "" if self.protocol is Protocol.UDP else f"\n        protocol=Protocol.{self.protocol.name},"
        imports = imports_of(self.steps, "".join(values) + more)
        return self.case(fixture_type="History", imports=imports, values=values, more=more)


def imports_of(steps: Iterable[Step], text: str) -> list[str]:
    """Return the lines that import what Python text with those steps needs."""
    names: dict[str, set[str]] = {}
    used = (kind for kind in (*ENUMS, Protocol) if f"{kind.__name__}." in text)
    for kind in (*map(type, steps), *used):
        names.setdefault(kind.__module__, set()).add(kind.__name__)
    return [f"from {module} import {', '.join(sorted(kinds))}" for module, kinds in names.items()]


def from_log(text: str) -> Saved | None:
    """Return the history that was to be run last, by a console's log; None if it has none."""
    lines = _LINE.findall(text)
    if not lines:
        return None
    protocol, numbers = Protocol(lines[-1][0]), lines[-1][1].split()
    return Saved(steps=tuple(step_of(int(number), protocol) for number in numbers), protocol=protocol)


def log_line(protocol: Protocol, numbers: Iterable[int]) -> str:
    """Return the line that stands in the kernel's log before a history is run: the numbers of its steps."""
    return f"{FORMAT} {VERSION}: {protocol} {' '.join(map(str, numbers))}"
