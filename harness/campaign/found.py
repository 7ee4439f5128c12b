# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a campaign found, a history, packets or a pair of histories: what these share as files and as cases to paste."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, kw_only=True)
class Found(ABC):
    """A difference between kernel and model, and where it was found; subclasses add what shows it."""

    FORMAT: ClassVar[str]
    VERSION: ClassVar[int]
    KIND: ClassVar[str]
    """The name of the fixture that runs it again, and the word for it in names of files."""

    difference: str = ""
    """What the kernel did that the model did not expect; empty if nothing is known of it."""
    sentence: str = ""
    """The same, without the step or the packet that it is about."""
    kernel: str = ""
    unknown: tuple[str, ...] = ()
    """The entries of the ledger that the model was not told of."""
    seed: int = 0
    searched: str = ""
    """What it took to find: how many were tried, and the seconds. Making it shorter is not in it."""

    @abstractmethod
    def content(self) -> dict[str, Any]:
        """Return what shows the difference, as JSON."""

    @abstractmethod
    def rows(self) -> list[Any]:
        """Return the steps, or the packets, as JSON."""

    @property
    def name(self) -> str:
        """Return a name for its file: the kernel, and a digest of the steps or packets."""
        digest = hashlib.sha256(json.dumps(self.rows()).encode()).hexdigest()
        return f"{self.kernel or self.KIND}-{digest[:8]}"

    def text(self) -> str:
        """Return the file's content."""
        return json.dumps(self.to_json(), indent=1) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "format": self.FORMAT,
            "version": self.VERSION,
            "kernel": self.kernel,
            "seed": self.seed,
            "searched": self.searched,
            "unknown": list(self.unknown),
            "difference": self.difference,
            "sentence": self.sentence,
            **self.content(),
        }

    @classmethod
    def shared_fields(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields above of what `to_json` wrote; ValueError says what is wrong with it."""
        if given.get("version") != cls.VERSION:
            raise ValueError(f"it is of version {given.get('version')!r}, and this harness reads version {cls.VERSION}")
        return {
            "difference": str(given.get("difference", "")),
            "sentence": str(given.get("sentence", "")),
            "kernel": str(given.get("kernel", "")),
            "unknown": texts(given, "unknown"),
            "seed": number(given, "seed"),
            "searched": str(given.get("searched", "")),
        }

    def case(self, *, fixture_type: str, imports: Iterable[str], values: Iterable[str], more: str = "") -> str:
        """Return a case to paste into cases/, which fails where this did.

        `values` are the steps or packets as Python, `more` are further arguments of the fixture, each after a newline.
        """
        arguments = "\n".join(f"        {value}," for value in values)
        told = f"\n        unknown={self.unknown!r}," if self.unknown else ""
        return "\n".join([
            f"from harness.cases import {fixture_type}",
            *sorted(imports),
            "",
            "",
            f"def test_{self.KIND}({self.KIND}: {fixture_type}) -> None:",
            *([f'    """{self.sentence[0].upper()}{self.sentence[1:]}."""'] if self.sentence else []),
            f"    {self.KIND}(\n{arguments}{told}{more}\n    )",
        ])  # fmt: skip


def texts(given: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a list of texts in JSON; ValueError where it is something else."""
    values = given.get(name, [])
    if not (isinstance(values, list) and all(isinstance(value, str) for value in values)):
        raise ValueError(f'"{name}" is no list of texts')
    return tuple(values)


def number(given: Mapping[str, Any], name: str) -> int:
    """Return a number in JSON, 0 where there is none; ValueError where it is something else."""
    value = given.get(name, 0)
    if type(value) is not int:
        raise ValueError(f'"{name}" is no number')
    return value
