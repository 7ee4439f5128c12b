# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Draw the conclusions when a VM, a relay or a connection ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from vm.controller.plan import Vm, vm_of
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
        vm = vm_of(report.node)
        text = self._run.consoles.read(vm)
        report.taken_as, what = self._outcome_and_reason(vm, text)
        ending = self._run.vms[vm].ending
        report.location = (report.location[0], None, crashitem.partition("::")[2] or crashitem)
        moment = "before the case began" if report.taken_as is CaseOutcome.NOT_RUN else "while the case ran"
        report.longrepr = f"{what} (the VM ended {moment})"
        if ending is not None and ending.detail:
            report.longrepr += f"\n\n{ending.detail}"
        report.sections.append((f"console of {vm.kernel}", console.tail(text)))

    def _outcome_and_reason(self, vm: Vm, text: str) -> tuple[CaseOutcome, str]:
        """Return the outcome of a case whose VM ended while it ran, and why it ended; `text` is its console's."""
        ending = self._run.vms[vm].ending
        if ending is None and self._run.connections.is_cut_off(vm):
            return CaseOutcome.NOT_RUN, self._run.kernels[vm.kernel].trouble[-1]
        if ending is not None and ending.how is End.HUNG:
            return CaseOutcome.HUNG, ending.why
        if panic := console.last_panic(text):
            return (CaseOutcome.HUNG if panic.is_hang else CaseOutcome.FAILED), f"Kernel panic - {panic.reason}"
        if ending is not None and ending.how is End.WORKER_DIED:
            return CaseOutcome.FAILED, f"the test process died in the guest: {ending.why}"
        if ending is not None and ending.how is End.WORKER_FAILED:
            return CaseOutcome.FAILED, ending.why
        if ending is not None and ending.how is End.INFRASTRUCTURE:
            # It had been sent cases, and began none. Where other VMs of the kernel run the rest, this one has failed.
            return (CaseOutcome.NOT_RUN if self._run.is_given_up(vm.kernel) else CaseOutcome.FAILED), ending.why
        return CaseOutcome.LOST, ending.why if ending is not None else "its relay on the host died"

    @pytest.hookimpl(tryfirst=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Decide what becomes of a kernel one of whose workers has ended."""
        vm = vm_of(node)
        kernel, state = self._run.kernels[vm.kernel], self._run.vms[vm]
        self._run.admission.release(vm)
        ending, had_booted = state.ending, state.boots
        state.over, state.boots = True, False
        if ending is None or ending.how in (End.DONE, End.STOPPED):
            if ending is None and error and self._run.connections.is_cut_off(vm):
                self._connection_broke(vm, node)
            elif ending is None and error:
                self._relay_died(vm, error, had_booted=had_booted)
        elif ending.how is End.INFRASTRUCTURE:
            self._did_not_come_up(vm, ending.why, detail=ending.detail)
        else:
            self._vm_was_lost(vm, ending.why)
        if kernel.started is not None:
            self._run.recorder.kernels[vm.kernel].suite_seconds = round(time.monotonic() - kernel.started, 2)

    def _connection_broke(self, vm: Vm, node: Any) -> None:
        connection = self._run.connections.connection(vm)
        assert connection is not None
        why = f"{connection.host.word}: the connection broke: {connection.last_complaint}"
        if self._run.vms_of(vm.kernel):
            self._run.kernels[vm.kernel].may_have_more = False
            self._run.kernels[vm.kernel].trouble.append(why)
            self._run.report_error(vm.kernel, f"{vm.kernel} lost a VM: {why}", vm=vm)
        else:
            self._run.give_up(vm.kernel, why)
        # xdist is about to start another worker by this specification: on this machine, and without cases.
        node.gateway.spec.via = None

    def _did_not_come_up(self, vm: Vm, why: str, *, detail: str = "") -> None:
        """Give a kernel up that does not boot; one that has a VM goes on with that."""
        if self._run.vms_of(vm.kernel):
            self._run.go_on_without(vm, why)
        else:
            self._run.give_up(vm.kernel, why, detail=detail)

    def _relay_died(self, vm: Vm, error: object, *, had_booted: bool) -> None:
        why = f"its relay on the host died: {str(error).strip().splitlines()[-1]}"
        if self._run.is_given_up(vm.kernel):
            return  # it died without cases, and so will the next, until xdist replaces no more workers (`vm.plugin`)
        if had_booted or (self._run.kernels[vm.kernel].started is not None and not self._run.vms_of(vm.kernel)):
            self._vm_was_lost(vm, why)
        else:
            self._did_not_come_up(vm, why)

    def _vm_was_lost(self, vm: Vm, why: str) -> None:
        """Count a lost VM; xdist starts another worker, with cases if the kernel is not given up."""
        name = vm.kernel
        state, scheduling = self._run.kernels[name], self._run.scheduling
        state.lost += 1
        if self._run.is_given_up(name):
            scheduling.give_up(name)
            if not scheduling.collected(name) or scheduling.left(name):
                self._run.report_error(name, f"{name} is given up: {state.lost} of its VMs were lost ({why})", vm=vm)
