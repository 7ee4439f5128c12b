# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Histories as hypothesis makes and shrinks them: lists of numbers, each of which is a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies

from harness.campaign.table import NUMBERS_OF_STEPS

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def histories(*, shortest: int, longest: int) -> SearchStrategy[list[int]]:
    """Return the strategy for histories of so many steps, as numbers.

    A shortest history is demanded because hypothesis prefers short lists, in which little happens. It shrinks the steps
    that are not needed to ones that do nothing; `search.without_idle_steps` leaves them out.
    """
    return strategies.lists(strategies.integers(0, NUMBERS_OF_STEPS - 1), min_size=shortest, max_size=longest)
