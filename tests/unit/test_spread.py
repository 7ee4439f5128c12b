# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The band of a member's share is that of the binomial distribution, computed here in whole numbers and exactly."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest

from harness.model.spread import band

OUTSIDE = Fraction(1, 10**9)
"""The chance that any member is outside of the band: once in a billion runs."""


def exact(packets: int, members: int, outside: Fraction = OUTSIDE) -> tuple[int, int]:
    """Return the least and the most packets: beyond each of them half of a member's part of `outside`."""
    ways = [comb(packets, count) * (members - 1) ** (packets - count) for count in range(packets + 1)]
    total, part = members**packets, outside / 2 / members

    def left_out(chances: list[int]) -> int:
        """Return how many of the first chances are no more than the part, together."""
        return next(count for count in range(len(chances)) if Fraction(sum(chances[: count + 1]), total) > part)

    return left_out(ways), packets - left_out(ways[::-1])


@pytest.mark.parametrize(
    ("packets", "members"),
    [
        (1, 2),
        (10, 2),
        (29, 2),
        (31, 2),
        (32, 2),
        (33, 2),
        (100, 2),
        (40, 3),
        (64, 3),
        (160, 4),
        (500, 5),
        (1000, 16),
        (200, 8),
        (2048, 32),
    ],
)
def test_band_is_the_exact_one(packets: int, members: int) -> None:
    assert band(packets, members) == exact(packets, members)


def test_one_member_has_all() -> None:
    assert band(7, 1) == (7, 7)


def test_band_is_that_of_once_in_a_billion() -> None:
    """Another chance is another band, for some numbers of packets: these are among them."""
    numbers = range(20, 200)
    assert any(exact(number, 2) != exact(number, 2, 2 * OUTSIDE) for number in numbers)
    assert [band(number, 2) for number in numbers] == [exact(number, 2) for number in numbers]
