# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run the cases on several kernels at once: the plugin of the process that the user started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

import pytest

from vm.controller.cases import Cases
from vm.controller.coverage import KernelCoverage
from vm.controller.ends import Ends
from vm.controller.judge import judge
from vm.controller.run import Run
from vm.controller.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from vm.controller.plan import Plan


class Controller:
    """The plugin of a run in VMs; it registers those for workers, cases and ends."""

    def __init__(self, config: pytest.Config, plan: Plan, *, directory: Path, started: datetime, file: TextIO) -> None:
        """Show on `file` how the run gets on; `directory` is for its results."""
        self._run = Run(config, plan, directory=directory, started=started, file=file)
        self._publication = self._run.publication
        self._workers, self._cases = Workers(self._run), Cases(self._run)
        config.pluginmanager.register(self._workers, "vm-workers")
        config.pluginmanager.register(self._cases, "vm-cases")
        config.pluginmanager.register(Ends(self._run), "vm-ends")
        self._coverage: KernelCoverage | None = None
        if plan.counted:
            self._coverage = KernelCoverage(self._run)
            config.pluginmanager.register(self._coverage, "vm-coverage")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        """Have pytest know how many cases there were on all kernels, not on the last that collected."""
        result = yield
        session.testscollected = sum(state.total for state in self._run.kernels.values())
        return result

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Iterator[None]:
        """End what still runs, judge every kernel, and write the results before pytest sums up."""
        self._workers.stop()
        result = yield
        self._run.connections.close()
        self._run.board.stop()
        for name in self._run.plan.kernels:
            judge(self._run, name)
        if exitstatus == pytest.ExitCode.INTERRUPTED and session.shouldfail:
            # By -x or --maxfail, not by the user.
            exitstatus = pytest.ExitCode.TESTS_FAILED
        kernels = list(self._run.recorder.kernels.values())
        self._publication.publish(session, exitstatus, kernels=kernels, directory=self._run.directory)
        if self._coverage is not None:
            self._coverage.report(session)
        self._cases.ended = True
        return result

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table of kernels and topics, and what differs between kernels."""
        self._publication.sum_up(terminalreporter)
        if self._coverage is not None:
            self._coverage.sum_up(terminalreporter)
