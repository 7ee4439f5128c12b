# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Record what pytest reports of cases, and show it by kernel."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from vm.controller.plan import kernel_of
from vm.controller.run import KernelReport
from vm.report import attachments

if TYPE_CHECKING:
    from vm.controller.run import Run


class Cases:
    """The plugin that reads the reports of cases."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.ended = False
        """Whether the run has ended, and pytest sums up."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a case's report, and name its kernel where the terminal shows it."""
        if isinstance(report, KernelReport):
            return
        name = kernel_of(report.node)
        case = self._run.recorder.add(name, report, taken_as=getattr(report, "taken_as", None))
        with contextlib.suppress(OSError):  # the results cannot be written either, which is reported at the end
            attachments.keep(report, case, kernel=name, directory=self._run.directory)
        if report.when not in ("setup", "call"):  # a case that took its VM down has one report, of no phase
            self._run.publication.note(name, case)
        path, line, domain = report.location
        report.location = (path, line, f"{domain} on {name}")
        if report.failed:
            self._run.board.tell(f"{name}: FAILED {case.id} - {case.reason}")
        if report.when != "setup":
            self._run.show_count(name)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any, config: pytest.Config) -> tuple[str, str, str] | None:
        """Leave pytest's dots out: the board shows how each kernel gets on."""
        if config.option.verbose > 0 or self.ended or isinstance(report, pytest.CollectReport):
            return None  # at the end pytest asks again, for the word in its short summary
        outcome = report.outcome
        if report.when in ("collect", "setup", "teardown"):
            outcome = "error" if report.failed else "skipped" if report.skipped else ""
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if report.skipped else "xpassed" if report.passed else outcome
        return outcome, "", ""
