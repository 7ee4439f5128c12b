# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Leave the same results for a run on the running kernel as for one in VMs."""

from __future__ import annotations

import contextlib
import platform
import time
from typing import TYPE_CHECKING, Any

import pytest

from vm import publishing, stories, summary
from vm.outcomes import conclude, verdict_of
from vm.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from vm.results import RunResult

HOST = "host"
"""What the running kernel is called in results."""


class HostRun:
    """The plugin of a run without VMs."""

    def __init__(self, config: pytest.Config, *, started: datetime) -> None:
        self._config = config
        self._started = started
        self._clock = time.monotonic()
        self._recorder = Recorder([HOST])
        self._directory: Path | None = None
        self._run: RunResult | None = None
        self._unpublished = ""  # why there are no results

    def pytest_runtest_logstart(self) -> None:
        """Make room for the results when the first case has its turn."""
        if self._directory is None:
            try:
                self._directory = publishing.make_directory(self._config, started=self._started)
            except publishing.ResultsError as error:
                pytest.exit(str(error), returncode=publishing.UNPUBLISHED)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a case's report."""
        assert self._directory is not None
        case = self._recorder.add(HOST, report)
        with contextlib.suppress(OSError):  # results cannot be written either, which is said once
            story = stories.keep(report.user_properties, case.id, kernel=HOST, directory=self._directory)
            case.story = story or case.story

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Iterator[None]:
        """Write the results before pytest sums up; a run in which no case had its turn leaves none."""
        result = yield
        kernel = self._recorder.kernels[HOST]
        if self._directory is None:
            return result
        ran = set(self._recorder.ran(HOST))
        left = [item.nodeid for item in session.items if item.nodeid not in ran]
        self._recorder.add_not_run(HOST, left, reason="the run ended before")
        duration = round(time.monotonic() - self._clock, 2)
        kernel.release, kernel.accel, kernel.suite_seconds = platform.release(), "native", duration
        kernel.outcome = verdict_of((case.outcome for case in kernel.cases), unfinished=exitstatus == 2)
        outcome, session.exitstatus = conclude(kernel.outcome, exitstatus)
        self._run = publishing.run_result(
            self._config,
            started=self._started,
            duration=duration,
            exit_status=int(session.exitstatus),
            outcome=outcome,
            kernels=[kernel],
        )
        try:
            publishing.publish(self._run, self._directory)
        except publishing.ResultsError as error:
            self._unpublished = str(error)
            session.exitstatus = publishing.status_without_results(int(session.exitstatus))
        return result

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table of topics."""
        if self._run is not None:
            for line in summary.lines(self._run):
                terminalreporter.write_line(line)
            terminalreporter.write_line(self._unpublished or f"results: {self._directory}")
