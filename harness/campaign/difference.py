# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where kernel and model part."""

from __future__ import annotations


class Difference(AssertionError):  # noqa: N818 - what a search is for is no error of it
    """The kernel did something else than the model."""

    place: int
    """Which of the steps, or packets, showed it: the first is 1."""
    sentence: str
    """What the kernel did, without the place."""
