# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Deal the cases of one kernel to its VMs, so that all of them end together.

The cases of a file stay together, for they share fixtures: a VM takes the file that took longest of those that are
left, and is sent a few seconds of it at a time. When no file is left it takes half of what the slowest VM has not been
sent. Cases that need the machine to themselves (the mark `alone`) wait until all others have been dealt.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

PORTION = 2.0
"""Seconds of work that a VM is sent at once: a case that waits in a VM that dies has to be dealt again, and cannot be
taken by another."""

_PORTION_OF_UNKNOWN = 20  # cases, while nobody knows how long they take
_LEAST_AHEAD = 2  # cases: a worker begins one only when it knows the next, whose fixtures it may keep
_ENOUGH_TO_JUDGE = 20  # cases that have to have ended before their times say what the others will take


class Dealing:
    """The cases of a kernel that no VM has been sent; a VM is whatever has a hash."""

    def __init__(
        self,
        cases: Sequence[str],
        *,
        seconds: Mapping[str, float],
        alone: Collection[str] = (),
        whole: bool = False,
    ) -> None:
        """Deal `cases`, in the order in which they were collected.

        `seconds`: how long cases took in earlier runs, maybe on another machine; some or all may be missing. `alone`:
        those that need the machine to themselves. With `whole` there is one VM, which takes all of them in order.
        """
        known = sorted(seconds[case] for case in cases if case in seconds)
        usual = known[len(known) // 2] if known else 1.0
        self._weights = {case: max(seconds.get(case, usual), 0.001) for case in cases}
        self._place = {case: number for number, case in enumerate(cases)}
        self.whole = whole
        """Whether one VM takes all cases at once."""
        self._pace = 1.0 if len(known) * 2 > len(cases) else None
        self._ended = 0
        self._ended_weight = self._ended_seconds = 0.0
        self._waiting_weight = 0.0
        self._shares: dict[Hashable, list[str]] = {}
        self._blocks: list[list[str]] = []
        self._alone: list[str] = []
        self._only_alone = frozenset(alone) if not whole else frozenset()
        self._put(cases)

    @property
    def waiting(self) -> bool:
        """Return whether cases wait to be dealt, those aside that need the machine to themselves."""
        return bool(self._blocks) or any(self._shares.values())

    @property
    def waiting_seconds(self) -> float | None:
        """Return how long one VM would take for those, None while that cannot be said."""
        return None if self._pace is None else self._waiting_weight * self._pace

    @property
    def waiting_alone(self) -> bool:
        """Return whether cases wait that need the machine to themselves."""
        return bool(self._alone)

    def is_short(self, sent: Sequence[str]) -> bool:
        """Return whether a VM needs more, that has these cases still to run."""
        return len(sent) <= _LEAST_AHEAD or self._takes(sent) < PORTION / 2

    def take(self, vm: Hashable) -> list[str]:
        """Return the next cases for a VM, [] if there are none for it."""
        share = self._shares.get(vm) or self._next_share()
        end = len(share)
        if not self.whole:
            end = next((at for at in range(1, end) if self._is_portion(share[:at])), end)
        taken, self._shares[vm] = share[:end], share[end:]
        self._waiting_weight -= self._weight(taken)
        return taken

    def take_alone(self) -> list[str]:
        """Return all cases that need the machine to themselves, for the one VM that there is."""
        taken, self._alone = self._alone, []
        return taken

    def give_back(self, vm: Hashable, cases: Iterable[str]) -> None:
        """Have `cases`, which a VM was sent and has not begun, dealt again, and its share of the others."""
        share = self._shares.pop(vm, [])
        self._waiting_weight -= self._weight(share)
        self._put([*cases, *share])

    def note(self, case: str, seconds: float) -> None:
        """Take note of how long a case took in this run."""
        self._ended += 1
        self._ended_weight += self._weights.get(case, 0.0)
        self._ended_seconds += seconds
        if self._ended >= _ENOUGH_TO_JUDGE and self._ended_weight:
            self._pace = self._ended_seconds / self._ended_weight

    def _put(self, cases: Iterable[str]) -> None:
        """Add cases that wait to be dealt."""
        ordered = sorted(cases, key=self._place.__getitem__)
        if self.whole:
            self._blocks += [ordered] if ordered else []
        else:
            self._alone = [*self._alone, *(case for case in ordered if case in self._only_alone)]
            shared = [case for case in ordered if case not in self._only_alone]
            self._blocks += [list(block) for _, block in groupby(shared, key=lambda case: case.partition("::")[0])]
            self._blocks.sort(key=self._weight, reverse=True)
            ordered = shared
        self._waiting_weight += self._weight(ordered)

    def _next_share(self) -> list[str]:
        if self._blocks:
            return self._blocks.pop(0)
        slowest = max(self._shares, key=lambda vm: self._weight(self._shares[vm]), default=None)
        if slowest is None or not self._is_portion(self._shares[slowest]):
            return []
        share = self._shares[slowest]
        half, so_far, at = self._weight(share) / 2, 0.0, 0
        while so_far < half and at < len(share) - 1:
            so_far += self._weights[share[at]]
            at += 1
        self._shares[slowest] = share[:at]
        return share[at:]

    def _is_portion(self, cases: Sequence[str]) -> bool:
        if self._pace is None:
            return len(cases) >= _PORTION_OF_UNKNOWN
        return len(cases) >= _LEAST_AHEAD and self._takes(cases) >= PORTION

    def _takes(self, cases: Sequence[str]) -> float:
        return self._weight(cases) * (1.0 if self._pace is None else self._pace)

    def _weight(self, cases: Iterable[str]) -> float:
        return sum(self._weights[case] for case in cases)
