# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Histories as hypothesis makes and shrinks them: bytes that are the numbers of steps.

hypothesis draws bytes, as it does for packets (`bends`). Of numbers it prefers those at an end, and those that it drew
before: then a few steps are made over and over.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hypothesis import strategies

from harness.campaign.table import BYTES, numbers_of, step_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from harness.model.layout import Protocol
    from harness.model.life.steps import Step


def histories(protocol: Protocol) -> SearchStrategy[list[int]]:
    """Return the strategy for histories, as numbers.

    hypothesis shrinks the steps that are not needed to ones that do nothing; `search.without_idle` leaves them out.
    """
    return strategies.binary(min_size=BYTES, max_size=BYTES).map(partial(numbers_of, protocol=protocol))


def reader(protocol: Protocol) -> Callable[[list[int]], tuple[Step, ...]]:
    """Return the function that makes the steps of the numbers."""
    return lambda numbers: tuple(step_of(number, protocol) for number in numbers)
