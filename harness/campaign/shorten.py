# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Make a pair of histories shorter, though it depends on how their steps fall together whether it differs."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.campaign.difference import difference_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.campaign.difference import Difference
    from harness.campaign.pair import Pair
    from harness.model.life.steps import Step

TRIES = 10
"""How often a pair is lived through to see how often it differs."""

SECONDS = 60.0
"""What making a pair shorter may take."""


def differences_of(run: Callable[[Pair], None], pair: Pair, *, enough: int = TRIES) -> list[Difference]:
    """Live through a pair `TRIES` times, or until so many differences are `enough` or out of reach; return them."""
    found: list[Difference] = []
    for tried in range(TRIES):
        if len(found) >= enough or (enough < TRIES and len(found) + TRIES - tried < enough):
            break
        if (difference := difference_of(run, pair)) is not None:
            found.append(difference)
    return found


def shorter(run: Callable[[Pair], None], pair: Pair) -> Iterator[tuple[Pair, Difference]]:
    """Yield shorter and shorter pairs that differ, each at least half as often as the first, for `SECONDS` at most."""
    end = time.monotonic() + SECONDS
    enough = max(1, len(differences_of(run, pair)) // 2)
    before = None
    while pair != before:
        before = pair
        for side in ("second", "first"):
            for size in _sizes(len(getattr(pair, side))):
                start = 0
                while start < len(kept := getattr(pair, side)):
                    if time.monotonic() > end:
                        return
                    candidate = _with(pair, side, kept[:start] + kept[start + size :])
                    found = differences_of(run, candidate, enough=enough)
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
