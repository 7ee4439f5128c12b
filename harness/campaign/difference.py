# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a campaign searches for: a difference between kernel and model."""

from __future__ import annotations


class Difference(AssertionError):  # noqa: N818 - a search that finds one has succeeded
    """The kernel did something else than the model."""

    place: int
    """Which of the steps, or packets, showed it: the first is 1."""
    sentence: str
    """What the kernel did, without the place."""
