# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which cases may notice a fault first. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from .table import Fault


@dataclass(frozen=True, kw_only=True)
class Case:
    """A case that was collected."""

    id: str  # pytest's node id
    promises: tuple[str, ...]

    @property
    def topics(self) -> set[str]:
        """Return what stands before the dots of its promises."""
        return {promise.partition(".")[0] for promise in self.promises}


def stages(
    fault: Fault, cases: Sequence[Case], *, killers: Sequence[str], excluded: Collection[str]
) -> tuple[list[int], list[int], list[int]]:
    """Return the places of `cases` in three stages, each case once.

    First what noticed the fault before and what checks the promises that it breaks, then what has a topic with these
    in common, then all else. `excluded` are cases that fail without a fault.
    """
    broken, topics = set(fault.breaks), {promise.partition(".")[0] for promise in fault.breaks}
    places = [place for place, case in enumerate(cases) if case.id not in excluded]
    known = [place for id_ in killers for place in places if cases[place].id == id_]
    first = [place for place in places if broken & set(cases[place].promises)]
    near = [place for place in places if topics & cases[place].topics]
    taken = set(known)
    first = [*known, *(place for place in _spread(first, cases) if place not in taken)]
    taken |= set(first)
    near = [place for place in near if place not in taken]
    taken |= set(near)
    return first, near, [place for place in places if place not in taken]


def _spread(places: Sequence[int], cases: Sequence[Case]) -> list[int]:
    """Return `places` so that the first parameters of each function come first, then the second ones, and so on."""
    turns: dict[str, int] = {}
    keyed = []
    for place in places:
        function = cases[place].id.partition("[")[0]
        turns[function] = turns.get(function, -1) + 1
        keyed.append((turns[function], place))
    return [place for _, place in sorted(keyed)]
