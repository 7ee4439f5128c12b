# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The state of a run in VMs, which the controller's plugins share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from vm.controller.admission import Admission
from vm.controller.board import Board
from vm.controller.consoles import Consoles
from vm.controller.dealing import Dealing
from vm.controller.durations import durations
from vm.controller.plan import Vm, kernel_of
from vm.controller.recorder import Recorder
from vm.controller.scheduling import KernelScheduling
from vm.remote.connections import Connections
from vm.report import console, publishing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from vm.controller.plan import Plan
    from vm.controller.protocol import Ending
    from vm.remote.hosts import Host


class KernelReport(pytest.TestReport):
    """An error about a kernel, not a test: it did not boot, it was lost, or its console has a splat."""


@dataclass
class KernelState:
    """One kernel while it runs."""

    total: int = 0  # cases
    started: float | None = None  # when its first VM was admitted, a time.monotonic()
    seconds_to_come_up: float | None = None  # from there to its collected cases
    seconds_before: float | None = None  # the same of the last run on its first machine; None: it has to boot first
    machines: list[str] = field(default_factory=list)  # that it ran on, as --on has them; "" for this one
    alone: tuple[str, ...] | None = None  # cases that need the machine to themselves; None: not known
    lost: int = 0  # VMs
    trouble: list[str] = field(default_factory=list)  # why it could not be tested, wholly or in part
    given_up: bool = False
    may_have_more: bool = True  # VMs: none of the further ones has failed to come up


@dataclass
class VmState:
    """One VM while it runs, and those that replace it."""

    status: Any = None  # the channel to its relay
    host: str = ""  # the machine, as its relay calls it
    boots: bool = False  # it was admitted, and has not ended
    over: bool = False  # it has ended, and none replaces it yet
    idle: bool = False  # there is nothing for it to do: it does not boot, or was told to end
    ending: Ending | None = None  # of the one that ended last


class Run:
    """Everything that is known of a run."""

    def __init__(self, config: pytest.Config, plan: Plan, *, directory: Path, started: datetime, file: TextIO) -> None:
        """Show on `file` how the run gets on; `directory` is for its results."""
        kernels = list(plan.kernels)
        self.config = config
        self.plan = plan
        self.directory = directory
        self.kernels = {name: KernelState() for name in kernels}
        self.vms = {Vm(name): VmState() for name in kernels}
        self.recorder = Recorder(kernels)
        self.publication = publishing.Publication(config, started=started)
        self.consoles = Consoles(directory)
        self.admission = Admission(plan.vms)
        self.board = Board(kernels, file=file)
        self.scheduling = KernelScheduling(kernels, name_of=kernel_of, deal=self._deal)
        self.found_here: tuple[str, ...] = ()
        """The cases that the host has collected, but for those that need the machine to themselves."""
        self.connections = Connections(
            {Vm(name): plan.hosts[name] for name in kernels},
            others=[host for name in kernels for host in plan.other_hosts[name]],
        )

    def where(self, vm: Vm) -> str:
        """Return " (on HOST)" for a VM on another machine, "" for one on this."""
        word = self.connections.word(vm)
        return f" (on {word})" if word else ""

    def machines(self, name: str) -> list[Host | None]:
        """Return the machines that may have VMs of a kernel, that of its first one first."""
        return list(dict.fromkeys([self.plan.hosts[name], *self.plan.other_hosts[name]]))

    def add(self, vm: Vm) -> None:
        """Take note of a further VM of a kernel."""
        self.vms = {**self.vms, vm: VmState()}

    def vms_of(self, name: str) -> list[Vm]:
        """Return the VMs of a kernel that run its cases, or are about to."""
        return [vm for vm, state in self.vms.items() if vm.kernel == name and not (state.over or state.idle)]

    def is_given_up(self, name: str) -> bool:
        """Return whether no more cases are to run on a kernel."""
        state = self.kernels[name]
        return state.given_up or state.lost >= self.plan.lost_vms

    def give_up(self, name: str, why: str, *, detail: str = "") -> None:
        """Run no more cases on a kernel that cannot be tested, and report why, with the whole error in `detail`."""
        self.kernels[name].given_up = True
        self.kernels[name].trouble.append(why)
        self.scheduling.give_up(name)
        self.board.show(name, f"failed: {why}")
        self.report_error(name, f"{name} could not run: {why}", detail=detail)

    def go_on_without(self, vm: Vm, why: str) -> None:
        """Have a kernel's other VMs run its cases, and start no further ones."""
        self.kernels[vm.kernel].may_have_more = False
        note = f"one of its VMs did not come up{self.where(vm)}, and the others ran its cases: {why}"
        self.recorder.kernels[vm.kernel].notes.append(note)
        self.publication.note_kernel(self.recorder.kernels[vm.kernel])
        self.board.tell(f"{vm.kernel}: {note}")

    def show_phase(self, vm: Vm, line: str) -> None:
        """Show what a VM does before it runs cases, unless another of its kernel runs some."""
        if vm.number == 1 and (not self.kernels[vm.kernel].total or len(self.vms_of(vm.kernel)) == 1):
            self.board.show(vm.kernel, line + self.where(vm))

    def show_count(self, name: str) -> None:
        """Show how many cases of a kernel have run and failed."""
        failed, vms = self.recorder.failed[name], self.scheduling.at_work(name)
        line = f"running {len(self.recorder.kernels[name].cases)}/{self.kernels[name].total}"
        line += f" on {vms} VMs" if vms > 1 else ""
        line += f", failed {failed}" if failed else ""
        self.board.show(name, line, counting=True)

    def _deal(self, name: str, cases: Sequence[str]) -> Dealing:
        """Return how the cases of a kernel are dealt: all to one VM where there is room for one alone."""
        alone = self.kernels[name].alone
        hosts = {state.host for vm, state in self.vms.items() if vm.kernel == name}
        one = len(self.machines(name)) == 1 and all(self.admission.capacity(host) == 1 for host in hosts)
        return Dealing(cases, seconds=self._known(name, cases), alone=alone or (), whole=one or alone is None)

    def expected_seconds(self, name: str) -> float | None:
        """Return how long one VM of a kernel would take for the cases that the host found; None: nobody knows."""
        return Dealing(self.found_here, seconds=self._known(name, self.found_here)).waiting_seconds

    def _known(self, name: str, cases: Sequence[str]) -> dict[str, float]:
        return durations(self.publication.known(self.directory), name, cases)

    def report_error(
        self, name: str, message: str, *, detail: str = "", excerpt: str | None = None, vm: Vm | None = None
    ) -> None:
        """Have pytest report an error about a kernel, with `excerpt` or the end of its console, or of its VM `vm`."""
        report = KernelReport(
            nodeid=f"kernel {name}",
            location=(f"kernel {name}", None, f"kernel {name}"),
            keywords={},
            outcome="failed",
            longrepr=f"{message}\n\n{detail}".rstrip(),
            when="setup",
        )
        excerpt = console.tail(self.consoles.read(vm or Vm(name))) if excerpt is None else excerpt
        if excerpt:
            report.sections.append((f"console of {name}", excerpt))
        self.board.tell(f"{name}: ERROR {message}")
        self.config.hook.pytest_runtest_logreport(report=report)
