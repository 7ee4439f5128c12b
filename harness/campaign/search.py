# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Search for a history in which kernel and model part, for a while, with a seed, and shrink it. By hypothesis."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Flaky

from harness.campaign.history import DifferenceError
from harness.campaign.strategy import histories
from harness.campaign.table import step_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.database import ExampleDatabase

    from harness.campaign.history import Run
    from harness.model.life.steps import Step

EXAMPLES = 50
"""Histories of one round; the clock is looked at after each history, a new seed begins each round."""

SHRINKING_SECONDS = 20.0
"""What a history that was found may take to become shorter."""

SHORTEST, LONGEST = 25, 60
"""Steps of a history."""


class Search:
    """A search on one kernel. `found` is the shortest history so far that showed a difference, and that difference."""

    def __init__(self, run: Run, *, before: Callable[[list[int]], None] | None = None) -> None:
        self._run, self._before = run, before
        self.found: tuple[tuple[Step, ...], DifferenceError] | None = None
        self._found_at = 0.0

    def for_seconds(self, seconds: float, *, number: int, database: ExampleDatabase | None) -> None:
        """Search until something is found or the time is over. Shrinking takes what it takes."""
        end = time.monotonic() + seconds
        round_ = 0
        while self.found is None and time.monotonic() < end:
            self._round(settings(max_examples=EXAMPLES, database=database), number=number * 1_000_003 + round_, end=end)
            round_ += 1

    def derandomized(self, examples: int) -> None:
        """Try the same histories in every run."""
        self._round(settings(max_examples=examples, derandomize=True, database=None), number=None, end=None)

    def _round(self, profile: settings, *, number: int | None, end: float | None) -> None:
        @settings(
            profile,
            deadline=None,
            phases=(Phase.reuse, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            verbosity=Verbosity.quiet,
            print_blob=False,
        )
        @given(histories(shortest=SHORTEST, longest=LONGEST))
        def hold(numbers: list[int]) -> None:
            if self._is_over(end):
                return
            self._try(numbers)

        with suppress(DifferenceError, Flaky):  # it is in `found`
            (hold if number is None else seed(number)(hold))()

    def _is_over(self, end: float | None) -> bool:
        """Return whether there is no time left: to search, or to make shorter what was found."""
        if self.found is None:
            return end is not None and time.monotonic() > end
        return time.monotonic() - self._found_at > SHRINKING_SECONDS

    def _try(self, numbers: list[int]) -> None:
        if self._before is not None:
            self._before(numbers)
        history = tuple(step_of(number, self._run.protocol) for number in numbers)
        try:
            self._run.run(history)
        except DifferenceError as difference:
            shown = history[: difference.place]
            if self.found is None:
                self._found_at = time.monotonic()
            if self.found is None or len(shown) <= len(self.found[0]):
                self.found = shown, difference
            raise


def without_idle_steps(run: Run, history: tuple[Step, ...]) -> tuple[tuple[Step, ...], DifferenceError] | None:
    """Leave out each step without which a history shows a difference as well; None if it shows none any more."""
    best = _difference(run, history)
    if best is None:
        return None
    history = history[: best.place]
    for place in range(len(history) - 1, -1, -1):
        shorter = history[:place] + history[place + 1 :]
        if (difference := _difference(run, shorter)) is not None:
            history, best = shorter[: difference.place], difference
    return history, best


def _difference(run: Run, history: tuple[Step, ...]) -> DifferenceError | None:
    try:
        run.run(history)
    except DifferenceError as difference:
        return difference
    return None
