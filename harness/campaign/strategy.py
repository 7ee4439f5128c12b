# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Histories as hypothesis makes and shrinks them: lists of numbers, each of which is a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies

from harness.campaign.table import LONGEST, NUMBERS_OF_STEPS, SHORTEST, step_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from harness.model.layout import Protocol
    from harness.model.life.steps import Step


def histories() -> SearchStrategy[list[int]]:
    """Return the strategy for histories, as numbers.

    A shortest history is demanded because hypothesis prefers short lists, in which little happens. It shrinks the steps
    that are not needed to ones that do nothing; `search.without_idle` leaves them out.
    """
    return strategies.lists(strategies.integers(0, NUMBERS_OF_STEPS - 1), min_size=SHORTEST, max_size=LONGEST)


def reader(protocol: Protocol) -> Callable[[list[int]], tuple[Step, ...]]:
    """Return the function that makes the steps of the numbers."""
    return lambda numbers: tuple(step_of(number, protocol) for number in numbers)
