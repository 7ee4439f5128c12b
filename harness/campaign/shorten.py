# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make a pair of histories shorter, though it depends on how their steps fall together whether it differs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.campaign.difference import difference_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.campaign.difference import Difference
    from harness.campaign.pair import Pair
    from harness.model.life.steps import Step

TRIES = 10
"""How often a pair is lived through to see how often it differs, if there is time."""

SECONDS, SHORTENING_SECONDS = 20.0, 40.0
"""What those tries may take, and making a pair shorter: a VM in which nothing happens for two minutes is ended."""


@dataclass(frozen=True)
class Tries:
    """How often a pair was lived through, and what differed."""

    tried: int
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        """Return how often it differed."""
        return f"it differed in {len(self.differences)} of {self.tried} tries"


def tries_of(run: Callable[[Pair], None], pair: Pair, *, enough: int = TRIES, seconds: float = SECONDS) -> Tries:
    """Live through a pair `TRIES` times, or until so many differences are `enough` or out of reach, or for so long."""
    end = time.monotonic() + seconds
    found: list[Difference] = []
    tried = 0
    while tried < TRIES and len(found) < enough and (tried == 0 or time.monotonic() < end):
        if enough < TRIES and len(found) + TRIES - tried < enough:
            break
        tried += 1
        if (difference := difference_of(run, pair)) is not None:
            found.append(difference)
    return Tries(tried, tuple(found))


def shorter(run: Callable[[Pair], None], pair: Pair) -> Iterator[tuple[Pair, Difference]]:
    """Yield shorter and shorter pairs that differ, each at least half as often as the first, while there is time."""
    enough = max(1, len(tries_of(run, pair).differences) // 2)
    end, before = time.monotonic() + SHORTENING_SECONDS, None
    while pair != before:
        before = pair
        for side in ("second", "first"):
            for size in _sizes(len(getattr(pair, side))):
                start = 0
                while start < len(kept := getattr(pair, side)):
                    left = end - time.monotonic()
                    if left < 0:
                        return
                    candidate = _with(pair, side, kept[:start] + kept[start + size :])
                    found = tries_of(run, candidate, enough=enough, seconds=left).differences
                    if len(found) >= enough:
                        pair = candidate
                        yield pair, found[-1]
                    else:
                        start += size


def _sizes(length: int) -> Iterator[int]:
    """Yield how many steps are left out at once: all, half of them, a quarter, down to one."""
    while length:
        yield length
        length //= 2


def _with(pair: Pair, side: str, steps: tuple[Step, ...]) -> Pair:
    return replace(pair, first=steps) if side == "first" else replace(pair, second=steps)
