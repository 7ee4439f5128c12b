# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The state of a run in VMs, which the controller's plugins share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from vm.controller.admission import Admission
from vm.controller.board import Board
from vm.controller.consoles import Consoles
from vm.controller.plan import kernel_of
from vm.controller.recorder import Recorder
from vm.controller.scheduling import KernelScheduling
from vm.remote.connections import Connections
from vm.report import console, publishing

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from vm.controller.plan import Plan
    from vm.controller.protocol import Ending


class KernelReport(pytest.TestReport):
    """An error about a kernel, not a test: it did not boot, it was lost, or its console has a splat."""


@dataclass
class KernelState:
    """One kernel while it runs."""

    total: int = 0  # cases
    started: float | None = None  # when its first VM was admitted, a time.monotonic()
    ending: Ending | None = None  # of the VM that ended last
    lost: int = 0  # VMs
    trouble: list[str] = field(default_factory=list)  # why it could not be tested
    status: Any = None  # the channel to its relay


class Run:
    """Everything that is known of a run."""

    def __init__(self, config: pytest.Config, plan: Plan, *, directory: Path, started: datetime, file: TextIO) -> None:
        """Show on `file` how the run gets on; `directory` is for its results."""
        kernels = list(plan.kernels)
        self.config = config
        self.plan = plan
        self.directory = directory
        self.kernels = {name: KernelState() for name in kernels}
        self.recorder = Recorder(kernels)
        self.publication = publishing.Publication(config, started=started)
        self.consoles = Consoles(directory)
        self.admission = Admission(plan.vms)
        self.board = Board(kernels, file=file)
        self.scheduling = KernelScheduling(kernels, name_of=kernel_of)
        self.connections = Connections(plan.hosts)

    def where(self, name: str) -> str:
        """Return " (on HOST)" for a kernel on another machine, "" for one on this."""
        word = self.connections.word(name)
        return f" (on {word})" if word else ""

    def is_given_up(self, name: str) -> bool:
        """Return whether no more cases are to run on a kernel."""
        state = self.kernels[name]
        return bool(state.trouble) or state.lost >= self.plan.lost_vms

    def give_up(self, name: str, why: str) -> None:
        """Run no more cases on a kernel that cannot be tested, and report why."""
        self.kernels[name].trouble.append(why)
        self.scheduling.give_up(name)
        self.board.show(name, f"failed: {why}")
        self.report_error(name, f"{name} could not run: {why}")

    def show_count(self, name: str) -> None:
        """Show how many cases of a kernel have run and failed."""
        failed = self.recorder.failed[name]
        line = f"running {len(self.recorder.kernels[name].cases)}/{self.kernels[name].total}"
        line += f", failed {failed}" if failed else ""
        self.board.show(name, line, counting=True)

    def report_error(self, name: str, message: str, *, excerpt: str | None = None) -> None:
        """Have pytest report an error about a kernel, with `excerpt` or the end of its console."""
        report = KernelReport(
            nodeid=f"kernel {name}",
            location=(f"kernel {name}", None, f"kernel {name}"),
            keywords={},
            outcome="failed",
            longrepr=message,
            when="setup",
        )
        excerpt = console.tail(self.consoles.read(name)) if excerpt is None else excerpt
        if excerpt:
            report.sections.append((f"console of {name}", excerpt))
        self.board.tell(f"{name}: ERROR {message}")
        self.config.hook.pytest_runtest_logreport(report=report)
