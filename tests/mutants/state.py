# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What came of each mutant: one line of JSON each, appended as it is known."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from harness.interface.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Outcome(StrEnum):
    """What came of a mutant."""

    FAILED = "failed case"
    LATE = "time"  # a case did not end
    DIED = "died"  # the process that ran the cases did
    RACE = "race"  # a case failed, and not each time
    SURVIVED = "survived"
    SAME = "same object"  # the compiler makes the same of it
    BROKEN = "does not compile"

    @property
    def is_kill(self) -> bool:
        """Return whether the mutant was noticed, and would be again."""
        return self in {Outcome.FAILED, Outcome.LATE, Outcome.DIED}

    @property
    def is_mutant(self) -> bool:
        """Return whether there is anything to notice."""
        return self not in {Outcome.SAME, Outcome.BROKEN}


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one mutant."""

    digest: str
    mutant: str
    change: str
    outcome: Outcome
    case: str = ""
    why: str = ""
    tried: int = 0
    """Cases that ran until then."""
    seconds: float = 0.0


def read(path: Path) -> dict[str, Result]:
    """Return the results in a file by digest, the last of each; a line that was cut off is left out."""
    results = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        results[entry["digest"]] = Result(**{**entry, "outcome": Outcome(entry["outcome"])})
    return results


def append(path: Path, result: Result) -> None:
    """Add a result to what a run has written so far."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(result)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def write(path: Path, results: Iterable[Result]) -> None:
    """Write `results` in the place of a file, in the order of the mutants' names."""
    ordered = sorted(results, key=lambda result: (result.mutant.partition(":")[0], result.change, result.digest))
    write_text(path, "".join(json.dumps(asdict(result)) + "\n" for result in ordered))
