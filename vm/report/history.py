# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A file of digests across runs: since when a case behaves on a kernel as it does, and how long it took before."""

from __future__ import annotations

import hashlib
import json
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from vm.report.results import write_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vm.report.results import CaseResult, RunResult

FILE = "history.json"
FORMAT = 1
_DURATIONS = 5
"""Runs whose durations are kept for each case."""

_SLOWER, _SLOWER_SECONDS = 2.0, 0.5
"""A case is slower if it takes that many times its median, and that much longer."""


@dataclass(kw_only=True)
class Entry:
    """What is known of one case on one kernel."""

    digest: str  # of its outcome and what it observed
    outcome: str
    since: str  # the start of the first run of those that had this digest without a break
    release: str  # of the kernel in that run
    before: str = ""  # the outcome before that; empty if no earlier run is known
    seconds: list[float] = field(default_factory=list)  # the last durations, the oldest first


@dataclass(kw_only=True)
class History:
    """All that is known of earlier runs."""

    last: str = ""  # the start of the last run that was added
    kernels: dict[str, dict[str, Entry]] = field(default_factory=dict)

    def add(self, run: RunResult) -> bool:
        """Add a run that is later than all before; return whether it was."""
        if run.started <= self.last:
            return False
        self.last = run.started
        for kernel in run.kernels:
            known = self.kernels.setdefault(kernel.name, {})
            for case in kernel.cases:
                was, now = known.get(case.id), digest(case)
                if was is None or was.digest != now:
                    known[case.id] = Entry(
                        digest=now, outcome=str(case.outcome), since=run.started, release=kernel.release,
                        before=was.outcome if was is not None else "", seconds=was.seconds if was is not None else [],
                    )  # fmt: skip
                entry = known[case.id]
                entry.seconds = [*entry.seconds, round(case.seconds, 3)][-_DURATIONS:]
        return True

    def entry(self, kernel: str, case: str) -> Entry | None:
        """Return what is known of a case on a kernel."""
        return self.kernels.get(kernel, {}).get(case)

    def slower(self, run: RunResult) -> Iterator[tuple[str, str, float, float]]:
        """Yield kernel, case, median of the runs before and seconds now, of cases that became slower."""
        for kernel in run.kernels:
            for case in kernel.cases:
                entry = self.entry(kernel.name, case.id)
                if entry is None or len(entry.seconds) < 3:
                    continue
                median = statistics.median(entry.seconds)
                if case.seconds > max(median * _SLOWER, median + _SLOWER_SECONDS):
                    yield kernel.name, case.id, median, case.seconds


def digest(case: CaseResult) -> str:
    """Return a digest of what a case came to: its outcome and what it observed."""
    text = json.dumps([case.outcome, case.observed], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def read(path: Path) -> History:
    """Return the history in `path`; an empty one if there is none. Raises OSError, and ValueError for another file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return History()
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    try:
        if data["format"] != FORMAT:
            raise ValueError(f"{path} has format {data['format']}, this program reads {FORMAT}")
        kernels = {
            kernel: {case: _entry(row) for case, row in cases.items()} for kernel, cases in data["kernels"].items()
        }
        return History(last=data["last"], kernels=kernels)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no history of runs: {error!r}") from error


def write(history: History, path: Path) -> None:
    """Write the history, whole or not at all."""
    kernels = {
        kernel: {case: list(vars(entry).values()) for case, entry in cases.items()}
        for kernel, cases in history.kernels.items()
    }
    write_text(path, json.dumps({"format": FORMAT, "last": history.last, "kernels": kernels}) + "\n")


def update(path: Path, run: RunResult, *, seconds: float = 5) -> tuple[History, str]:
    """Add a run to the file; return the history as it was before, and why the file was not updated, if it was not.

    A damaged file is kept under another name, and a new one begun. `seconds`: how long to wait for another run that
    has the file locked.
    """
    complaint = ""
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=seconds):
            try:
                before = read(path)
            except ValueError as error:
                path.replace(path.with_name(f"{path.name}.damaged"))
                before, complaint = History(), f"{error}; it is kept as {path.name}.damaged, and a new one begun"
            after = History(
                last=before.last,
                kernels={
                    name: {case: Entry(**vars(entry)) for case, entry in cases.items()}
                    for name, cases in before.kernels.items()
                },
            )
            if after.add(run):
                write(after, path)
    except Timeout:
        return History(), f"{path} is locked by another run: this run is not in it"
    except OSError as error:
        return History(), f"{path} cannot be kept: {error.strerror or error}"
    return before, complaint


def _entry(row: Any) -> Entry:
    hash_, outcome, since, release, before, seconds = row
    return Entry(
        digest=hash_,
        outcome=outcome,
        since=since,
        release=release,
        before=before,
        seconds=[float(at) for at in seconds],
    )
