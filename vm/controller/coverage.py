# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Keep what the kernels counted of their lines, and report it at the end of the run: --kernel-coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vm.controller.plan import kernel_of
from vm.guest.counters import COMPLAINT, COUNTS
from vm.kernels.flavours import COUNTED
from vm.report import gcovr, publishing
from vm.report.gcovr import Counted, CoverageError

if TYPE_CHECKING:
    import pytest

    from vm.controller.run import Run


class KernelCoverage:
    """The plugin that takes the counts from workers that have finished."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._complaints: list[str] = []
        self._lines: list[str] = []
        self._has: set[str] = set()

    def pytest_testnodedown(self, node: Any) -> None:
        """Write down what the worker of a VM handed over, if it came to its end."""
        output = getattr(node, "workeroutput", None) or {}
        name = kernel_of(node)
        if complaint := output.get(COMPLAINT):
            self._complaints.append(f"{name} handed over no counts: {complaint}")
        if counts := output.get(COUNTS):
            try:
                gcovr.keep(counts, self._run.directory / name, COUNTED)
            except OSError as error:
                self._complaints.append(str(publishing.results_error(self._run.directory, error)))
            else:
                self._has.add(name)

    def report(self, session: pytest.Session) -> None:
        """Write the reports; a run whose counts cannot be reported does not end with 0."""
        for name, kernel in self._run.plan.counted.items():
            state = self._run.kernels[name]
            if state.lost:
                self._lines.append(f"{name}: VMs that were lost took what they had counted with them: {state.lost}")
            if name not in self._has:
                self._complaints.append(f"there are no counts of {name}")
                continue
            counted = Counted(objects=kernel.objects, source=kernel.source, gcov=kernel.gcov, functions=COUNTED)
            directory = self._run.directory / name
            try:
                with publishing.translate_oserror(directory):
                    found = gcovr.make_reports(directory, counted)
            except (CoverageError, publishing.ResultsError) as error:
                self._complaints.append(f"{name}: {error}")
                continue
            self._lines += [*gcovr.describe(name, found), f"  {directory / gcovr.PAGE}"]
        if self._complaints:
            session.exitstatus = publishing.status_without_results(int(session.exitstatus))

    def sum_up(self, terminalreporter: Any) -> None:
        """Print it."""
        for line in self._lines:
            terminalreporter.write_line(line)
        for line in dict.fromkeys(self._complaints):
            terminalreporter.write_line(f"--kernel-coverage: {line}")
