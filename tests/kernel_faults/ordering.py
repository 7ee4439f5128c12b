# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which cases may notice a fault first. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from .reach import Reach
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
    fault: Fault, cases: Sequence[Case], *, killers: Sequence[str], excluded: Collection[str], reach: Reach
) -> tuple[list[int], list[int], list[int]]:
    """Return the places of `cases` in three stages, each case once at most.

    First what noticed the fault before and what checks the promises that it breaks, then all else that comes to its
    code, what has a topic in common before what has none. Last all that does not come there. Cases that do not come
    there are tried only if a fixture does: what it makes under the fault may serve them. `excluded` are cases that fail
    without a fault.
    """
    broken, topics = set(fault.breaks), {promise.partition(".")[0] for promise in fault.breaks}
    places = [place for place, case in enumerate(cases) if case.id not in excluded]
    known = [place for id_ in killers for place in places if cases[place].id == id_]
    taken = set(known)

    def take(wanted: Callable[[Case], object]) -> list[int]:
        taking = [place for place in places if place not in taken and wanted(cases[place])]
        taken.update(taking)
        return _spread(taking, cases, reach)

    def meets(case: Case) -> bool:
        return reach.meets(case.id, fault)

    shared = reach.is_shared(fault)
    first = [*known, *take(lambda case: broken & set(case.promises) and (shared or meets(case)))]
    near = [*take(lambda case: topics & case.topics and meets(case)), *take(meets)]
    return first, near, take(lambda case: shared)


def _spread(places: Sequence[int], cases: Sequence[Case], reach: Reach) -> list[int]:
    """Return `places` so that the first parameters of each function come first, then the second ones, and so on.

    In each turn the quickest are first.
    """
    turns: dict[str, int] = {}
    keyed = []
    for place in places:
        function = cases[place].id.partition("[")[0]
        turns[function] = turns.get(function, -1) + 1
        keyed.append((turns[function], reach.seconds(cases[place].id), place))
    return [place for _, _, place in sorted(keyed)]
