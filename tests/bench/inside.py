# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Measure on the running kernel, and print each round as it ends: what `tests.bench` starts natively or in a VM.

A line is "bench " and JSON; any other line is for the user.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.kernel.preflight import missing_requirement

from .kept import Machine
from .measurement import Desk, MeasuringError
from .table import MEASUREMENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

MARK = "bench "


def main(arguments: Sequence[str]) -> int:
    """Measure: the arguments are the directory of what was compiled, the number of rounds (0: the usual), and names."""
    built, rounds, *names = arguments
    if reason := missing_requirement():
        print(reason, file=sys.stderr)
        return 4
    _say(machine=asdict(Machine.present()))
    for name in names:
        measurement = MEASUREMENTS[name]
        try:
            with measurement.prepare(Desk(built=Path(built), kernel="")) as take:
                for number in range(int(rounds) or measurement.rounds):
                    _say(name=name, number=number, round=take())
        except MeasuringError as error:
            _say(name=name, failure=str(error))
    return 0


def _say(**content: object) -> None:
    print(MARK + json.dumps(content), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
