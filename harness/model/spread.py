# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How evenly a good hash spreads packets over members: the band in which each member's share lies. Pure."""

from __future__ import annotations

import math
from functools import lru_cache

CHANCE = 1e-9
"""That any of the members is outside of the band though the hash is good: once in a billion runs."""


@lru_cache(maxsize=64)
def band(packets: int, members: int) -> tuple[int, int]:
    """Return the least and the most packets that a member may have of so many, thrown at random.

    A member's packets are binomial, B(packets, 1 / members). Each of the two tails beyond the band has at most
    CHANCE / 2 / members, so all members together are within it but for CHANCE.
    """
    if members == 1:
        return packets, packets
    most = CHANCE / 2 / members
    share = 1 / members
    below, low = 0.0, 0
    while (below := below + _chance(packets, low, share)) <= most:
        low += 1
    above, high = 0.0, packets
    while (above := above + _chance(packets, high, share)) <= most:
        high -= 1
    return low, high


def _chance(packets: int, count: int, share: float) -> float:
    """Return the chance of exactly so many, by logarithms: the coefficient alone is beyond a float."""
    ways = math.lgamma(packets + 1) - math.lgamma(count + 1) - math.lgamma(packets - count + 1)
    return math.exp(ways + count * math.log(share) + (packets - count) * math.log1p(-share))
