# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The search for an example in which kernel and model differ: what it keeps, when it ends, and what is left out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies

from harness.campaign.difference import Difference
from harness.campaign.search import Search, without_idle
from harness.campaign.straighten import straighten
from harness.model.bent import Bent
from harness.model.layout import Family

if TYPE_CHECKING:
    from collections.abc import Sequence

NUMBERS = strategies.lists(strategies.integers(0, 1000), min_size=5, max_size=10)


class FoundError(Difference):
    def __init__(self, place: int) -> None:
        super().__init__(f"number {place} is too large")
        self.place, self.sentence = place, "it is too large"


def refuse_large(numbers: Sequence[int]) -> None:
    for place, number in enumerate(numbers, 1):
        if number > 500:
            raise FoundError(place)


def test_shortest_example_is_kept() -> None:
    search: Search[int] = Search(NUMBERS, refuse_large)
    search.for_seconds(20, number=1, database=None)
    assert search.found is not None
    example, difference = without_idle(refuse_large, search.found[0]) or search.found
    assert (len(example), example[0] > 500, difference.place) == (1, True, 1)


def test_part_that_was_there_for_another_goes_with_it() -> None:
    """A socket that is opened and closed: once it is not opened, there is nothing to close."""

    def refuse(numbers: Sequence[int]) -> None:
        opened = 0
        for place, number in enumerate(numbers, 1):
            opened += {1: 1, 2: -opened}.get(number, 0)
            if number == 7 and not opened:
                raise FoundError(place)

    found = without_idle(refuse, (1, 2, 7, 7))
    assert found is not None
    assert found[0] == (7,)


def test_interrupted_search_keeps_what_it_found() -> None:
    calls = 0

    def interrupt(numbers: Sequence[int]) -> None:
        nonlocal calls
        calls += search.found is not None
        if calls > 3:
            raise KeyboardInterrupt
        refuse_large(numbers)

    search: Search[int] = Search(NUMBERS, interrupt)
    with pytest.raises(KeyboardInterrupt):
        search.for_seconds(20, number=1, database=None)
    assert search.found is not None
    assert search.found[0][-1] > 500


def test_short_search_tries_the_first_of_the_same_examples() -> None:
    """However many there is time for: what is tried is the same list, and ends earlier."""
    tried: list[list[tuple[int, ...]]] = []
    for seconds_each, most in ((0.0, 8), (0.05, 4)):
        seen: list[tuple[int, ...]] = []

        def run(numbers: Sequence[int], seen: list[tuple[int, ...]] = seen, each: float = seconds_each) -> None:
            seen.append(tuple(numbers))
            time.sleep(each)

        search: Search[int] = Search(NUMBERS, run)
        search.derandomized(8, seconds=0.2 if seconds_each else 1000.0)
        assert search.tried == len(seen) <= most
        tried.append(seen)
    whole, short = tried
    assert len(whole) == 8
    assert short == whole[: len(short)]
    assert len(short) >= 2


def test_bend_that_does_not_matter_is_taken_back() -> None:
    def refuse(packets: Sequence[Bent]) -> None:
        for place, bent in enumerate(packets, 1):
            if bent.family is Family.IPV6 and 3 in bent.vlans and bent.trailer > 10:
                raise FoundError(place)

    bent = Bent(family=Family.IPV6, index=4, vlans=(0, 3, 0), trailer=200, options=b"\1\1\1\1", hop_limit=1)
    (found,), _ = straighten(refuse, (bent,), FoundError(1))
    assert found == Bent(family=Family.IPV6, vlans=(3,), trailer=11)
