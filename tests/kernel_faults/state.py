# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What came of each fault: the file that a run writes after each, and the one that the next run begins with."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Outcome(StrEnum):
    """What came of a fault."""

    FAILED = "failed case"
    SPLAT = "splat"
    PANIC = "panic"
    HANG = "hang"
    RACE = "race"  # a case failed, and not each time
    SURVIVED = "survived"
    OPEN = "left open"  # by a quick run, in which the cases of its promises did not notice

    @property
    def is_kill(self) -> bool:
        """Tell whether the suite noticed, and would again."""
        return self not in {Outcome.RACE, Outcome.SURVIVED, Outcome.OPEN}


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one fault."""

    fault: str
    digest: str  # of the edit: another edit is another fault
    release: str  # of the kernel
    outcome: Outcome
    case: str = ""  # that noticed
    why: str = ""  # what it said
    seconds: float = 0.0  # from the first case to the one that noticed


def write(path: Path, results: Iterable[Result]) -> None:
    """Write `results` into a file of their own in the place of `path`, one a line in the order of their names."""
    lines = [json.dumps(asdict(result)) for result in sorted(results, key=lambda result: result.fault)]
    half = path.with_name(f"{path.name}.{os.getpid()}")
    half.parent.mkdir(parents=True, exist_ok=True)
    try:
        half.write_text("".join(f"{line}\n" for line in lines))
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def append(path: Path, result: Result) -> None:
    """Add `result` to what a run has written so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(result)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> dict[str, Result]:
    """Return the results in a file by their faults' names, the last of each; none where there is no file.

    A last line that was cut off, by a full disk or an end by force, is left out.
    """
    results: dict[str, Result] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            results[entry["fault"]] = Result(**{**entry, "outcome": Outcome(entry["outcome"])})
    return results
