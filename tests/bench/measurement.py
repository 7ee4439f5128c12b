# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a measurement is, and what its rounds come to. Pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    Round = Mapping[str, float]
    """What one round came to: a value a part."""
    Take = Callable[[], Round]


class MeasuringError(Exception):
    """Something cannot be measured here; the message says why, and what to do."""


class Place(StrEnum):
    """Where a measurement runs."""

    INSIDE = "inside"
    """On the kernel under test, natively or in a VM."""
    OUTSIDE = "outside"
    """On the host: it boots VMs with the kernel itself."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a ratio has to be; one of the two is given."""

    at_least: float | None = None
    at_most: float | None = None

    def holds(self, ratio: float) -> bool:
        """Return whether a ratio is within the bound."""
        return (self.at_least is None or ratio >= self.at_least) and (self.at_most is None or ratio <= self.at_most)

    def __str__(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What a measurement finds: the directory of what was compiled for it, and the kernel of VMs that it boots."""

    built: Path
    kernel: str


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One ratio, of two parts that are measured in turn."""

    name: str
    """What `--only` calls it."""
    says: str
    """What is divided by what."""
    unit: str
    """Of the parts."""
    ratio: tuple[str, str]
    """The part that is divided, and the one that it is divided by."""
    prepare: Callable[[Desk], AbstractContextManager[Take]]
    """Set up; the function that it yields takes one round. Both raise MeasuringError."""
    place: Place = Place.INSIDE
    rounds: int = 7
    native: Bound | None = None
    """What the median of the ratios has to be on the running kernel."""
    emulated: Bound | None = None
    """The same in a VM without KVM."""

    def bound(self, *, emulated: bool) -> Bound | None:
        """Return what the ratio has to be there, None where nothing is asked."""
        return self.emulated if emulated else self.native


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The median of some values, the smallest and the largest."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(median=statistics.median(values), least=min(values), most=max(values))

    def __str__(self) -> str:
        return f"{shortly(self.median)} ({shortly(self.least)} to {shortly(self.most)})"


def ratios(measurement: Measurement, rounds: Sequence[Round]) -> list[float]:
    """Return the ratio of each round: its two parts were measured one right after the other."""
    over, under = measurement.ratio
    return [taken[over] / taken[under] for taken in rounds]


def parts(rounds: Sequence[Round]) -> Iterator[tuple[str, Spread]]:
    """Yield each part's name and spread."""
    for name in rounds[0]:
        yield name, Spread.of([taken[name] for taken in rounds])


def shortly(value: float) -> str:
    """Return a number with three digits that count, or all of those before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
