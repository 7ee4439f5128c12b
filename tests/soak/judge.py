# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Tell from the samples of a soak what grew. Pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .sample import Sample

LEAST_ROUNDS = 5
"""The first round fills caches and pools and is left out; a slope of fewer than four values says nothing."""

TOLERATED = {
    "used": 512.0,
    "unreclaimable": 128.0,
    "percpu": 32.0,
    "host": 1024.0,
    "files": 0.0,
    "sockets": 0.0,
    "programs": 0.0,
    "maps": 0.0,
    "links": 0.0,
}
"""What a round may add, in KiB or pieces. A suite that loses one socket a case adds some 2,000 KiB of slabs a round."""

MEMORY = ("used", "unreclaimable", "percpu", "host")
"""The values in KiB; the others are counts."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a value went over the rounds."""

    name: str
    first: int  # after the second round
    last: int
    most: int
    a_round: float  # what a round adds: the median of the slopes between any two rounds (Theil and Sen)

    @property
    def is_flat(self) -> bool:
        """Return whether a round adds no more than what is tolerated."""
        return self.a_round <= TOLERATED[self.name]


def courses(samples: Sequence[Sample]) -> list[Course]:
    """Return the course of each value. ValueError for fewer than LEAST_ROUNDS samples."""
    if len(samples) < LEAST_ROUNDS:
        raise ValueError(
            f"{len(samples)} rounds were run, and {LEAST_ROUNDS} are needed to tell a slope: give more --minutes, or "
            "fewer cases by -k"
        )
    found = []
    for name in TOLERATED:
        values = [int(getattr(sample, name)) for sample in samples[1:]]
        slopes = [(late - early) / (b - a) for (a, early), (b, late) in combinations(enumerate(values), 2)]
        found.append(
            Course(name=name, first=values[0], last=values[-1], most=max(values), a_round=statistics.median(slopes))
        )
    return found
