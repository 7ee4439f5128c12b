# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Search for an example in which kernel and model differ, for a while, with a seed, and shrink it. By hypothesis.

An example is a history's steps, or some packets: a sequence.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Flaky

from harness.campaign.difference import Difference, difference_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypothesis.database import ExampleDatabase
    from hypothesis.strategies import SearchStrategy

EXAMPLES = 50
"""Examples of one round; the clock is looked at after each example, a new seed begins each round."""

SHRINKING_SECONDS = 20.0
"""What an example that was found may take to become shorter."""

T = TypeVar("T")


class Search(Generic[T]):
    """A search on one kernel. `found` is the shortest example so far that showed a difference, and that difference.

    `run` runs an example and raises `Difference`; `read` makes the example of what the strategy drew; `before` is
    called with what was drawn before it is run.
    """

    def __init__(
        self,
        strategy: SearchStrategy[Any],
        run: Callable[[Sequence[T]], None],
        *,
        read: Callable[[Any], tuple[T, ...]] = tuple,
        before: Callable[[Any], None] | None = None,
    ) -> None:
        self._strategy, self._run, self._read, self._before = strategy, run, read, before
        self.found: tuple[tuple[T, ...], Difference] | None = None
        self.tried = 0
        """Examples that were run."""
        self.searched = ""
        """How many were run until a difference was found, and for how many seconds."""
        self._started = time.monotonic()
        self._found_at = 0.0
        self._limit: int | None = None

    def for_seconds(self, seconds: float, *, number: int, database: ExampleDatabase | None) -> None:
        """Search until something is found or the time is over. Shrinking takes what it takes."""
        end = time.monotonic() + seconds
        round_ = 0
        while self.found is None and time.monotonic() < end:
            self._round(settings(max_examples=EXAMPLES, database=database), number=number * 1_000_003 + round_, end=end)
            round_ += 1

    def derandomized(self, examples: int, *, seconds: float) -> None:
        """Try the first ones of a list of examples that is the same in every run.

        As many as are expected to take so long, by what the first one takes; at least two, at most `examples`.
        """
        started = time.monotonic()

        def limit() -> int:
            first = max(time.monotonic() - started, 1e-6)
            return min(max(int(seconds / first), 2), examples)

        self._round(
            settings(max_examples=examples, derandomize=True, database=None), number=None, end=None, limit=limit
        )

    def _round(
        self, profile: settings, *, number: int | None, end: float | None, limit: Callable[[], int] | None = None
    ) -> None:
        @settings(
            profile,
            deadline=None,
            phases=(Phase.reuse, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            verbosity=Verbosity.quiet,
            print_blob=False,
        )
        @given(self._strategy)
        def hold(drawn: Any) -> None:
            if self._is_over(end):
                return
            self._try(drawn)
            if limit is not None and self._limit is None:
                self._limit = limit()

        with suppress(Difference, Flaky):  # it is in `found`
            (hold if number is None else seed(number)(hold))()

    def _is_over(self, end: float | None) -> bool:
        """Return whether nothing is left to do: no time, or no example, to search or to make shorter what was found."""
        if self.found is None:
            return (end is not None and time.monotonic() > end) or self.tried == self._limit
        return time.monotonic() - self._found_at > SHRINKING_SECONDS

    def _try(self, drawn: Any) -> None:
        if self._before is not None:
            self._before(drawn)
        example = self._read(drawn)
        self.tried += 1
        try:
            self._run(example)
        except Difference as difference:
            shown = example[: difference.place]
            if self.found is None:
                self._found_at = time.monotonic()
                self.searched = f"{self.tried} tries, {self._found_at - self._started:.0f} s"
            if self.found is None or len(shown) <= len(self.found[0]):
                self.found = shown, difference
            raise


def without_idle(run: Callable[[Sequence[T]], None], example: tuple[T, ...]) -> tuple[tuple[T, ...], Difference] | None:
    """Leave out each part without which an example shows a difference as well; None if it shows none any more.

    What is left out may have been what another part was for, so all are tried again until none can go.
    """
    best = difference_of(run, example)
    if best is None:
        return None
    example, before = example[: best.place], None
    while len(example) != before:
        before = len(example)
        for place in range(len(example) - 1, -1, -1):
            shorter = example[:place] + example[place + 1 :]
            if (difference := difference_of(run, shorter)) is not None:
                example, best = shorter[: difference.place], difference
    return example, best
