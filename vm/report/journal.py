# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A line for each case as it ends, so that a run that is cut off leaves what it found: results/<run>/journal.jsonl.

The file is there while the run goes on. `python -m vm report RUN` makes the reports from it where there is no
results.json.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from vm.report.outcomes import KernelOutcome, kernel_outcome
from vm.report.results import CaseResult, KernelResult, RunResult, case_to_json, read_case, read_kernel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import TextIO

FILE = "journal.jsonl"

CUT_OFF = "the run was cut off before"
"""Why a kernel of such a run is not finished."""


class Journal:
    """The file while the run goes on. A file system that refuses it is no reason to end the run."""

    def __init__(self, directory: Path, *, command: Iterable[str], started: str, kernels: Iterable[str]) -> None:
        self._path = directory / FILE
        self._file: TextIO | None = None
        with contextlib.suppress(OSError):
            self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace")
        self._write({"command": list(command), "started": started, "kernels": list(kernels)})

    def note_kernel(self, kernel: KernelResult) -> None:
        """Write what is known of a kernel besides its cases."""
        self._write({"kernel": kernel.name, "known": {**vars(kernel), "cases": [], "splats": []}})

    def note_case(self, kernel: str, case: CaseResult) -> None:
        """Write a case that has come to its end; a later line of the same case counts."""
        self._write_line(f'{{"kernel": {json.dumps(kernel)}, "case": {case_to_json(case)}}}')

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def remove(self) -> None:
        """Delete the file: results.json has it all."""
        self.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self, entry: dict[str, Any]) -> None:
        self._write_line(json.dumps(entry, default=str))

    def _write_line(self, line: str) -> None:
        if self._file is not None:
            try:
                self._file.write(f"{line}\n")
                self._file.flush()
            except OSError:
                self._file = None


def read(directory: Path) -> RunResult:
    """Return what the journal in `directory` holds, as the results of a run that was not finished.

    A last line that is not whole is left out. Raises OSError, and ValueError for a file that is no journal.
    """
    path = directory / FILE
    head, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    try:
        begun = json.loads(head)
        kernels = {name: KernelResult(name=name) for name in begun["kernels"]}
        cases: dict[str, dict[str, CaseResult]] = {name: {} for name in kernels}
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
            except ValueError:
                if number == len(lines):
                    break
                raise
            name = entry["kernel"]
            if "known" in entry:
                kernels[name] = read_kernel({**entry["known"], "outcome": str(KernelOutcome.PASSED)})
            else:
                case = read_case(entry["case"])
                cases[name][case.id] = case
        for name, kernel in kernels.items():
            kernel.cases = list(cases[name].values())
            kernel.reason = kernel.reason or CUT_OFF
            kernel.outcome = kernel_outcome([case.outcome for case in kernel.cases], unfinished=True)
        return RunResult(
            command=begun["command"],
            started=begun["started"],
            duration=round(sum(case.seconds for kernel in kernels.values() for case in kernel.cases), 2),
            exit=2,
            outcome=str(KernelOutcome.UNFINISHED),
            tools={},
            kernels=list(kernels.values()),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no journal of a run: {error!r}") from error
