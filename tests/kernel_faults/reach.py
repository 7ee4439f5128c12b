# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which case runs into the code of which fault. Where no case does, none can notice."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from .table import Fault


@dataclass(frozen=True, kw_only=True)
class CaseReach:
    """The faults, by their digests, whose code one case ran into with no fault on."""

    setup: frozenset[str]  # as its fixtures were set up, of which other cases use some
    own: frozenset[str]
    seconds: float

    @property
    def both(self) -> frozenset[str]:
        """Return all that it ran into."""
        return self.setup | self.own


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What each case ran into, by its id. A fault or case that was not there is taken to meet all."""

    cases: Mapping[str, CaseReach] = field(default_factory=dict)
    faults: frozenset[str] = frozenset()  # that were in the kernel, by their digests

    def meets(self, case: str, fault: Fault) -> bool:
        """Tell whether `case`, run alone, comes to the code of `fault`."""
        return fault.digest not in self.faults or case not in self.cases or fault.digest in self.cases[case].both

    def is_shared(self, fault: Fault) -> bool:
        """Tell whether a fixture comes to the code of `fault`: then a case may see it that does not come there."""
        return fault.digest not in self.faults or any(fault.digest in one.setup for one in self.cases.values())

    def seconds(self, case: str) -> float:
        """Return how long `case` took, 0 if that is not known."""
        return self.cases[case].seconds if case in self.cases else 0


def from_guest(said: Iterable[Mapping[str, Any]], *, cases: Mapping[int, str], faults: Iterable[Fault]) -> Reach:
    """Return the reach that a guest told, with bitmaps as the kernel prints them (`bitmap_print_to_pagebuf`).

    A kernel that tells of no fault at all cannot tell.
    """
    said = list(said)
    there = list(faults) if any(one["setup"] or one["own"] for one in said) else []
    digests = {fault.number: fault.digest for fault in there}

    def those_in(text: str) -> frozenset[str]:
        return frozenset(digests[number] for number in read_bitmap(text) if number in digests)

    return Reach(
        cases={
            cases[one["case"]]: CaseReach(
                setup=those_in(one["setup"]), own=those_in(one["own"]), seconds=one["seconds"]
            )
            for one in said
        },
        faults=frozenset(fault.digest for fault in there),
    )


def read_bitmap(text: str) -> Iterable[int]:
    """Yield the numbers in a list such as `1-3,7`."""
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            yield from range(int(first), int(last or first) + 1)


def write(path: Path, reach: Reach) -> None:
    """Write `reach` to a file of its own in the place of `path`."""
    cases = {
        name: {"setup": sorted(one.setup), "own": sorted(one.own), "seconds": one.seconds}
        for name, one in reach.cases.items()
    }
    half = path.with_name(f"{path.name}.{os.getpid()}")
    half.write_text(json.dumps({"cases": cases, "digests": sorted(reach.faults)}))
    half.replace(path)


def read(path: Path) -> Reach:
    """Return what `write` wrote; nothing for no file, or an older one. Raises OSError, ValueError."""
    if not path.exists():
        return Reach()
    content = json.loads(path.read_text())
    if "digests" not in content:  # it names faults, which have other names since
        return Reach()
    cases = {
        name: CaseReach(setup=frozenset(one["setup"]), own=frozenset(one["own"]), seconds=one["seconds"])
        for name, one in content["cases"].items()
    }
    return Reach(cases=cases, faults=frozenset(content["digests"]))
