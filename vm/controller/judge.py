# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Judge each kernel at the end of a run, by its cases, its VMs and its console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vm.controller.plan import Vm
from vm.report import console
from vm.report.outcomes import CaseOutcome, kernel_outcome
from vm.report.results import SplatResult

if TYPE_CHECKING:
    from vm.controller.run import Run


def judge(run: Run, name: str) -> None:
    """Complete the results of the kernel `name`: cases that did not run, splats, its outcome and the reason."""
    result, state, scheduling = run.recorder.kernels[name], run.kernels[name], run.scheduling
    run.consoles.merge(Vm(name), [vm for vm in run.vms if vm.kernel == name and vm.number > 1])
    why = "its kernel was given up" if state.given_up else "the run ended before"
    why = f"{state.lost} VMs were lost" if state.lost else why
    run.recorder.add_not_run(name, scheduling.left(name), reason=why)
    run.recorder.sort(name, scheduling.collection(name))
    _scan(run, name)
    lost_for_good = state.lost > 0 and (
        not scheduling.collected(name) or any(case.outcome is CaseOutcome.NOT_RUN for case in result.cases)
    )
    result.outcome = kernel_outcome(
        (case.outcome for case in result.cases),
        splats=bool(result.splats),
        lost=lost_for_good,
        broken=bool(state.trouble),
        unfinished=not scheduling.collected(name) or bool(scheduling.left(name)),
    )
    result.reason = "; ".join([*state.trouble, *([why] if lost_for_good else [])])
    run.board.show(name, f"done: {result.outcome}")


def _scan(run: Run, name: str) -> None:
    """Look for splats on a kernel's console; a kernel whose console cannot be searched has not been tested."""
    result, state = run.recorder.kernels[name], run.kernels[name]
    if not result.vms:
        return
    try:
        if unwritten := run.consoles.unwritten(name):
            raise console.ConsoleError(unwritten)
        found = console.scan(
            run.consoles.read(Vm(name)), ran=run.recorder.ran(name), allowances=console.load_allowances()
        )
    except console.ConsoleError as error:
        state.trouble.append(f"its console could not be scanned for splats: {error}")
        run.report_error(name, state.trouble[-1])
        return
    for splat in found:
        result.splats.append(SplatResult(kind=splat.kind, title=splat.title, case=splat.case, excerpt=splat.excerpt))
        if splat.case is not None:
            run.recorder.add_splat(name, splat.case, title=splat.title)
        during = f"while {splat.case} ran" if splat.case else "outside any case"
        run.report_error(name, f"{splat.title} ({during})", excerpt=splat.excerpt)
