# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the CPU time of the reference cases goes to."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..measurement import MeasuringError
from ..spending import DELIVERIES, MARK
from .reference import run_cases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..measurement import Desk, Round, Take

ALL, ALL_DELIVERIES = "everything", "deliveries"


@contextmanager
def of_the_reference_cases(desk: Desk) -> Iterator[Take]:
    """Yield what runs the cases, and returns seconds of CPU time for each thing."""
    del desk

    def take() -> Round:
        _, output = run_cases("-p", "tests.bench.spending")
        lines = [line.removeprefix(MARK) for line in output.splitlines() if line.startswith(MARK)]
        if len(lines) != 1:
            raise MeasuringError(f"the run did not say what it spent:\n{output}")
        spent: dict[str, float] = json.loads(lines[0])
        deliveries = sum(spent[name] for name in DELIVERIES)
        return {ALL: sum(spent.values()), ALL_DELIVERIES: deliveries, **spent}

    yield take
