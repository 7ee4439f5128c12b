# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a campaign searches for: a difference between kernel and model."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Difference(AssertionError):  # noqa: N818 - a search that finds one has succeeded
    """The kernel did something else than the model."""

    place: int
    """Which of the steps, or packets, showed it: the first is 1."""
    sentence: str
    """What the kernel did, without the place."""


def difference_of(run: Callable[[T], None], example: T) -> Difference | None:
    """Run an example; return the difference that it shows."""
    try:
        run(example)
    except Difference as difference:
        return difference
    return None
