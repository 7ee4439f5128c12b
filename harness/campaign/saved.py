# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Histories as text: a file that `--replay` takes, a case to paste into cases/, and a line of the kernel's log."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.campaign.table import step_of
from harness.model.layout import Family, Protocol
from harness.model.life.state import Program
from harness.model.life.text import from_json, spelled, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.model.life.steps import Step

FORMAT, VERSION = "reuseport history", 1
_LINE = re.compile(rf"{FORMAT} {VERSION}: (udp|tcp) ([0-9 ]+)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A history with what it showed, and where."""

    steps: tuple[Step, ...]
    difference: str = ""
    """What the kernel did that the model did not expect; empty if nothing is known of it."""
    sentence: str = ""
    """The same without the step."""
    kernel: str = ""
    protocol: Protocol = Protocol.UDP
    unknown: tuple[str, ...] = ()
    """The entries of the ledger that the model was not told of."""
    seed: int = 0
    frame: str = ""
    """The frame that showed the difference, in hexadecimal; empty if a call did."""

    @property
    def frames(self) -> tuple[str, ...]:
        """Return the frame, if there is one."""
        return (self.frame,) if self.frame else ()

    @property
    def name(self) -> str:
        """Return a name for its file: the kernel, and a digest of the steps."""
        digest = hashlib.sha256(json.dumps(to_json(self.steps)).encode()).hexdigest()
        return f"{self.kernel or 'history'}-{digest[:8]}"

    def text(self) -> str:
        """Return the file's content."""
        return json.dumps(self.to_json(), indent=1) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "kernel": self.kernel,
            "protocol": self.protocol,
            "seed": self.seed,
            "unknown": list(self.unknown),
            "difference": self.difference,
            "sentence": self.sentence,
            "frame": self.frame,
            "steps": to_json(self.steps),
        }

    @classmethod
    def from_json(cls, given: Any) -> Saved:
        """Return what `to_json` wrote; ValueError says what is wrong with it."""
        if not isinstance(given, dict) or given.get("format") != FORMAT:
            raise ValueError(f'it is no {FORMAT}: "format" is not there')
        if given.get("version") != VERSION:
            raise ValueError(f"it is of version {given.get('version')!r}, and this harness reads version {VERSION}")
        unknown = given.get("unknown", [])
        if not (isinstance(unknown, list) and all(isinstance(name, str) for name in unknown)):
            raise ValueError('"unknown" is no list of names')
        seed = given.get("seed", 0)
        if type(seed) is not int:
            raise ValueError('"seed" is no number')
        return cls(
            steps=from_json(given.get("steps")),
            difference=str(given.get("difference", "")),
            sentence=str(given.get("sentence", "")),
            kernel=str(given.get("kernel", "")),
            protocol=Protocol(given.get("protocol", Protocol.UDP)),
            unknown=tuple(unknown),
            seed=seed,
            frame=str(given.get("frame", "")),
        )

    def as_case(self) -> str:
        """Return a case to paste into cases/, which fails where this did."""
        words = sorted({type(step).__name__ for step in self.steps})
        values = "\n".join(f"        {spelled(step)}," for step in self.steps)
        told = f"\n        unknown={self.unknown!r}," if self.unknown else ""
        if self.protocol is not Protocol.UDP:
            told += f"\n        protocol=Protocol.{self.protocol.name},"
        used = [kind.__name__ for kind in (Family, Program, Protocol) if f"{kind.__name__}." in values + told]
        imports = [f"from harness.model.life.steps import {', '.join(words)}"]
        imports += [f"from harness.model.layout import {name}" for name in used if name != "Program"]
        imports += [f"from harness.model.life.state import {name}" for name in used if name == "Program"]
        return "\n".join(
            [
                "from harness.cases import History",
                *sorted(imports),
                "",
                "",
                "def test_history(history: History) -> None:",
                *([f'    """{self.sentence[0].upper()}{self.sentence[1:]}."""'] if self.sentence else []),
                f"    history(\n{values}{told}\n    )",
            ]
        )


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
