# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Write the same results for a run on the running kernel as for one in VMs."""

from __future__ import annotations

import contextlib
import gc
import platform
from typing import TYPE_CHECKING, Any

import pytest

from vm.controller.recorder import Recorder
from vm.report import attachments, publishing
from vm.report.outcomes import kernel_outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

HOST = "host"
"""The running kernel's name in results."""


class HostRun:
    """The plugin of a run without VMs."""

    def __init__(self, config: pytest.Config, *, started: datetime) -> None:
        self._config = config
        self._started = started
        self._recorder = Recorder([HOST])
        self._directory: Path | None = None
        self._collected: list[str] = []
        self._publication = publishing.Publication(config, started=started)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take note of the cases, if they run in this process."""
        self._collected = [item.nodeid for item in session.items]
        # All of it stays to the end. The collector need not look at it each time, nor at the end.
        gc.freeze()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Take note of the cases, if they run in other processes, each of which collects all of them."""
        self._collected = list(ids)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """End the run at a file that other processes cannot import, as a run in this process ends."""
        option = self._config.option
        if report.failed and option.dist != "no" and not option.continue_on_collection_errors:
            raise pytest.Session.Interrupted("error during collection")

    def pytest_runtest_logstart(self) -> None:
        """Make the directory for the results when the first case begins."""
        if self._directory is None:
            try:
                self._directory = publishing.make_directory(self._config, started=self._started)
            except publishing.ResultsError as error:
                pytest.exit(str(error), returncode=publishing.UNPUBLISHED)
            kernel = self._recorder.kernels[HOST]
            kernel.release, kernel.accel = platform.release(), "native"
            self._publication.begin(self._directory, kernels=[kernel])
            self._publication.expect(kernel, self._collected)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a case's report."""
        assert self._directory is not None
        case = self._recorder.add(HOST, report)
        with contextlib.suppress(OSError):  # results cannot be written either, which is said once
            attachments.keep(report, case, kernel=HOST, directory=self._directory)
        if report.when == "teardown":
            self._publication.note(HOST, case)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Iterator[None]:
        """Write the results before pytest sums up; a run without a case that began leaves none."""
        result = yield
        kernel = self._recorder.kernels[HOST]
        if self._directory is None:
            return result
        ran = set(self._recorder.ran(HOST))
        left = [case for case in self._collected if case not in ran]
        self._recorder.add_not_run(HOST, left, reason="the run ended before")
        self._recorder.sort(HOST, self._collected)
        kernel.suite_seconds = self._publication.seconds
        kernel.outcome = kernel_outcome((case.outcome for case in kernel.cases), unfinished=exitstatus == 2)
        self._publication.publish(session, exitstatus, kernels=[kernel], directory=self._directory)
        return result

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table of topics."""
        self._publication.sum_up(terminalreporter)
