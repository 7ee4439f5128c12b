# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a bench has measured, as it is kept in a file: bench.json of a run, and docs/performance.json."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harness.interface.atomic import write_text
from harness.kernel.release import running

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_EMULATED = "QEMU TCG"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where something was measured."""

    kernel: str
    processor: str
    cpus: int
    memory: int  # MiB
    emulated: bool

    @classmethod
    def present(cls) -> Self:
        """Return this one."""
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        processor = names[0] if names else "unknown"
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        return cls(
            kernel=str(running()),
            processor=processor,
            cpus=len(os.sched_getaffinity(0)),
            memory=memory,
            emulated=processor.startswith(_EMULATED),
        )


@dataclass(kw_only=True)
class Bench:
    """What was measured in one run on one kernel; `rounds` and `failures` by the measurement's name."""

    machine: Machine
    day: str  # as date(1) has it by -I
    rounds: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Why something could not be measured."""

    def put(self, other: Bench) -> None:
        """Take over what another run on the same kernel and machine has measured later."""
        for name in (*other.rounds, *other.failures):
            self.rounds.pop(name, None)
            self.failures.pop(name, None)
        self.rounds |= other.rounds
        self.failures |= other.failures
        self.day = other.day


def read(file: Path) -> list[Bench]:
    """Return the runs in a file. Raises OSError, and ValueError for a file that is none of these."""
    try:
        return [_bench(one) for one in json.loads(file.read_text())["runs"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} is not what tox -e bench writes: {error!r}") from error


def write(file: Path, runs: Iterable[Bench]) -> None:
    """Write runs into a file."""
    write_text(file, json.dumps({"runs": [asdict(run) for run in runs]}, indent=1) + "\n")


def joined(runs: Iterable[Bench]) -> list[Bench]:
    """Return the runs with one for each kernel and machine: what was measured last counts."""
    found: dict[Machine, Bench] = {}
    for run in runs:
        if run.machine in found:
            found[run.machine].put(run)
        else:
            found[run.machine] = run
    return list(found.values())


def _bench(content: Mapping[str, Any]) -> Bench:
    return Bench(
        machine=Machine(**content["machine"]),
        day=content["day"],
        rounds=dict(content["rounds"]),
        failures=dict(content["failures"]),
    )
