# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Say in a screenful what a run came to: kernel by topic, and what is not the same on all kernels."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING

from vm.report.outcomes import CaseOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vm.report.results import KernelResult, RunResult

_SHORT = {
    CaseOutcome.PASSED: "",
    CaseOutcome.FAILED: "failed",
    CaseOutcome.SKIPPED: "skipped",
    CaseOutcome.XFAILED: "xfailed",
    CaseOutcome.XPASSED: "xpassed",
    CaseOutcome.FEATURE_MISSING: "feature missing",
    CaseOutcome.SPLAT: "splat",
    CaseOutcome.LOST: "lost",
    CaseOutcome.HUNG: "hung",
    CaseOutcome.NOT_RUN: "not run",
}


def topic_of(case: str) -> str:
    """Return the topic of a case: its file's name."""
    return PurePath(case.partition("::")[0]).stem.removeprefix("test_")


def lines(run: RunResult) -> Iterator[str]:
    """Yield the closing table, what the kernels lack, and the list of differences."""
    yield ""
    yield from table(run)
    if added := run.kernels[0].append if run.kernels else []:
        yield f"kernel parameters added: {' '.join(added)}"
    yield from (f"note: {kernel.name}: {note}" for kernel in run.kernels for note in kernel.notes)
    different = list(differences(run))
    if different:
        yield ""
        yield "not the same on all kernels:"
        yield from (f"  {line}" for line in different)


def table(run: RunResult) -> Iterator[str]:
    """Yield a row a topic and a column a kernel."""
    topics = list(dict.fromkeys(topic_of(case.id) for kernel in run.kernels for case in kernel.cases))
    rows = [["", *(kernel.name for kernel in run.kernels)]]
    rows += [["kernel", *(kernel.release or "-" for kernel in run.kernels)]]
    if any(kernel.machine for kernel in run.kernels):
        rows += [["machine", *(kernel.machine or "here" for kernel in run.kernels)]]
    rows += [[topic, *(_cell(kernel, topic) for kernel in run.kernels)] for topic in topics]
    rows += [["console", *(_splats(kernel) for kernel in run.kernels)]]
    rows += [["outcome", *(str(kernel.outcome) for kernel in run.kernels)]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def differences(run: RunResult) -> Iterator[str]:
    """Yield what is not the same on all kernels that ran any case: cases, or functions all of whose cases agree."""
    kernels = [kernel for kernel in run.kernels if kernel.cases]
    if len(kernels) < 2:
        return
    outcomes = {kernel.name: {case.id: str(case.outcome) for case in kernel.cases} for kernel in kernels}
    of_function: dict[str, dict[str, str]] = {}
    for case in dict.fromkeys(case.id for kernel in kernels for case in kernel.cases):
        found = {name: cases.get(case, "absent") for name, cases in outcomes.items()}
        of_function.setdefault(case.partition("[")[0], {})[case] = "" if len({*found.values()}) == 1 else _said(found)
    for function, cases in of_function.items():
        alike = len(cases) > 1 and len({*cases.values()}) == 1
        named = {f"{function}, all {len(cases)} cases": next(iter(cases.values()))} if alike else cases
        yield from (f"{case}: {said}" for case, said in named.items() if said)


def _said(found: Mapping[str, str]) -> str:
    """Return which outcome a case had on which kernels."""
    kernels: dict[str, list[str]] = {}
    for name, outcome in found.items():
        kernels.setdefault(outcome, []).append(name)
    return "; ".join(f"{outcome} on {', '.join(names)}" for outcome, names in kernels.items())


def _cell(kernel: KernelResult, topic: str) -> str:
    counts = Counter(case.outcome for case in kernel.cases if topic_of(case.id) == topic)
    if not counts:
        return "-"
    others = [f"{count} {_SHORT[outcome]}" for outcome, count in counts.items() if outcome is not CaseOutcome.PASSED]
    return ", ".join([str(counts[CaseOutcome.PASSED]), *others])


def _splats(kernel: KernelResult) -> str:
    if not kernel.vms:
        return "-"
    return f"{len(kernel.splats)} splats" if kernel.splats else "clean"
