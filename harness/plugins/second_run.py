# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run a case without reporting it, and then once more: with parts of pytest that are not public, read in pytest 9.2.0.

Where one of them has gone, a case runs as ever, and one that failed has no witness; `--witness all` needs none of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    from _pytest.runner import runtestprotocol
except ImportError:
    runtestprotocol = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import pytest

UNAVAILABLE = "this version of pytest cannot run a case twice: --witness all traces every case in its only run"


def is_possible(item: pytest.Item) -> bool:
    """Return whether `run` and `run_again` work on this case."""
    return runtestprotocol is not None and hasattr(item, "_initrequest")


def run(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Run a case with its fixtures; return the reports of its phases, which nobody else has seen."""
    return runtestprotocol(item, log=False, nextitem=nextitem)


def run_again(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Run a case that has run before, with new values of its fixtures; return the reports as `run` does."""
    item._initrequest()  # type: ignore[attr-defined]
    return run(item, nextitem)
