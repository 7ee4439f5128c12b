# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How long cases took in earlier runs: an estimate, which may come from another kernel or another machine."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vm.report.history import History


def durations(history: History, kernel: str, cases: Iterable[str]) -> dict[str, float]:
    """Return the seconds of those cases that are known: on `kernel`, or else on another one.

    It is the median of a case's last runs. Where they ran is not known, so the seconds of different kernels may not be
    comparable; that makes VMs end apart, and no case run other than it should.
    """
    kernels = [history.kernels.get(kernel, {}), *(known for name, known in history.kernels.items() if name != kernel)]
    found = {}
    for case in cases:
        entry = next((known[case] for known in kernels if case in known and known[case].seconds), None)
        if entry is not None:
            found[case] = statistics.median(entry.seconds)
    return found
