# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Draw the conclusions when a VM, a relay or a connection ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from vm.controller.plan import kernel_of
from vm.controller.protocol import End
from vm.report import console
from vm.report.outcomes import CaseOutcome

if TYPE_CHECKING:
    from vm.controller.run import Run


class Ends:
    """The plugin for xdist's reports that a worker has ended."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @pytest.hookimpl(tryfirst=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any) -> None:
        """Report why the VM ended that ran a case, with the end of its console."""
        name = kernel_of(report.node)
        text = self._run.consoles.read(name)
        report.taken_as, what = self._outcome_and_reason(name, text)
        report.location = (report.location[0], None, crashitem.partition("::")[2] or crashitem)
        report.longrepr = f"{what} (the VM ended while the case ran)"
        report.sections.append((f"console of {name}", console.tail(text)))

    def _outcome_and_reason(self, name: str, text: str) -> tuple[CaseOutcome, str]:
        """Return the outcome of a case whose VM ended while it ran, and why it ended; `text` is its console's."""
        state = self._run.kernels[name]
        ending = state.ending
        if ending is None and self._run.connections.is_cut_off(name):
            return CaseOutcome.NOT_RUN, state.trouble[-1]
        if ending is not None and ending.how is End.HUNG:
            return CaseOutcome.HUNG, ending.why
        if panic := console.last_panic(text):
            return (CaseOutcome.HUNG if panic.is_hang else CaseOutcome.FAILED), f"Kernel panic - {panic.reason}"
        if ending is not None and ending.how is End.WORKER_DIED:
            return CaseOutcome.FAILED, f"the test process died in the guest: {ending.why}"
        return CaseOutcome.LOST, ending.why if ending is not None else "its relay on the host died"

    @pytest.hookimpl(tryfirst=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Decide what becomes of a kernel whose worker has ended."""
        name = kernel_of(node)
        state = self._run.kernels[name]
        self._run.admission.release(name)
        ending = state.ending
        if ending is None or ending.how in (End.DONE, End.STOPPED):
            if ending is None and error and self._run.connections.is_cut_off(name):
                self._connection_broke(name, node)
            elif ending is None and error:
                self._relay_died(name, error)
        elif ending.how is End.INFRASTRUCTURE:
            self._run.give_up(name, ending.why)
        else:
            self._vm_was_lost(name, ending.why)
        if state.started is not None:
            self._run.recorder.kernels[name].suite_seconds = round(time.monotonic() - state.started, 2)

    def _connection_broke(self, name: str, node: Any) -> None:
        connection = self._run.connections.connection(name)
        assert connection is not None
        self._run.give_up(name, f"{connection.host.word}: the connection broke: {connection.last_complaint}")
        # xdist is about to start another worker by this specification: on this machine, and without cases.
        node.gateway.spec.via = None

    def _relay_died(self, name: str, error: object) -> None:
        why = f"its relay on the host died: {str(error).strip().splitlines()[-1]}"
        if self._run.is_given_up(name):
            return  # it died without cases, and so will the next, until xdist replaces no more workers (`vm.plugin`)
        if self._run.kernels[name].started is None:
            self._run.give_up(name, why)
        else:
            self._vm_was_lost(name, why)

    def _vm_was_lost(self, name: str, why: str) -> None:
        """Count a lost VM; xdist starts another worker, with cases if the kernel is not given up."""
        state, scheduling = self._run.kernels[name], self._run.scheduling
        state.lost += 1
        if self._run.is_given_up(name):
            scheduling.give_up(name)
            if not scheduling.collected(name) or scheduling.left(name):
                self._run.report_error(name, f"{name} is given up: {state.lost} of its VMs were lost ({why})")
