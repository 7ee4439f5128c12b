# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Say in a screenful what a run came to: kernel by topic, and what is not the same on all kernels."""

from __future__ import annotations

from collections import Counter
from heapq import nlargest
from textwrap import shorten
from typing import TYPE_CHECKING

from vm.report.findings import findings
from vm.report.outcomes import AS_EXPECTED, CaseOutcome
from vm.report.tree import topic_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from vm.report.findings import Finding
    from vm.report.history import History
    from vm.report.results import KernelResult, RunResult

_WORTH_SAYING = 1.0
"""Seconds that make a case one of the slow ones."""

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


_LONGEST_REASON = 120

_MOST_FINDINGS, _MOST_DIFFERENCES, _MOST_NOTES, _MOST_SLOW, _MOST_TOPICS = 10, 6, 4, 10, 20
"""Lines of each part: a green run of eight kernels fits on a screen, and the page has all of it."""


def lines(run: RunResult, history: History | None = None) -> Iterator[str]:
    """Yield the closing table, what is not as expected, what differs between kernels, and what took longest."""
    yield ""
    yield from table(run)
    if added := run.kernels[0].append if run.kernels else []:
        yield f"kernel parameters added: {' '.join(added)}"
    yield from _first(_MOST_NOTES, list(_notes(run)), "notes")
    found = findings(run, history)
    if found:
        yield from ("", "not as expected:")
        yield from _first(_MOST_FINDINGS, [f"  {line_of(finding)}" for finding in found], "findings")
    different = list(differences(run, told={finding.what for finding in found}))
    if different:
        yield from ("", "not the same on all kernels:")
        yield from _first(_MOST_DIFFERENCES, [f"  {line}" for line in different], "differences")
    slow = list(_slowest(run, history))
    if slow:
        yield from ("", "slowest:", *slow)


def line_of(finding: Finding) -> str:
    """Return a finding on one line: what, how often, where, since when, and which known bug it may be."""
    of = f" in {finding.count} of {finding.of} cases" if finding.of else ""
    of = of or (f" ({finding.count})" if finding.count else "")
    told = (finding.since, finding.smells)
    more = "".join(f"; {text}" for text in told if text)
    # Of a bug that is gone pytest's reason says only again which one it is.
    said_already = finding.outcome == str(CaseOutcome.XPASSED) and finding.smells
    reason = "" if said_already else f": {shorten(finding.reason, _LONGEST_REASON, placeholder=' …')}"
    return f"{finding.outcome} {finding.what}{of} {finding.where}{more}{reason}"


def _first(most: int, found: list[str], what: str) -> Iterator[str]:
    yield from found[:most]
    if len(found) > most:
        yield f"  and {len(found) - most} more {what}: report.html has all"


def _notes(run: RunResult) -> Iterator[str]:
    notes: dict[str, list[str]] = {}
    for kernel in run.kernels:
        for note in kernel.notes:
            notes.setdefault(note, []).append(kernel.name)
    yield from (f"note: {', '.join(names)}: {note}" for note, names in notes.items())


def _slowest(run: RunResult, history: History | None) -> Iterator[str]:
    cases = ((case.seconds, kernel.name, case.id) for kernel in run.kernels for case in kernel.cases)
    slowest = nlargest(_MOST_SLOW, (entry for entry in cases if entry[0] >= _WORTH_SAYING))
    became = {(kernel, case): median for kernel, case, median, _ in history.slower(run)} if history else {}
    for seconds, kernel, case in slowest:
        before = f", {became[kernel, case]:.1f} s before" if (kernel, case) in became else ""
        yield f"  {seconds:6.1f} s{before}  {case} on {kernel}"


def table(run: RunResult) -> Iterator[str]:
    """Yield a row a topic and a column a kernel; of many topics some that are as expected are one row.

    First those of which every case passed, then those with skips and known bugs.
    """
    topics = list(dict.fromkeys(topic_of(case.id) for kernel in run.kernels for case in kernel.cases))
    counts = {kernel.name: _counts(kernel) for kernel in run.kernels}
    folded = _folded(topics, [counts[kernel.name] for kernel in run.kernels])
    rows = [["", *(kernel.name for kernel in run.kernels)]]
    rows += [["kernel", *(kernel.release or "-" for kernel in run.kernels)]]
    if any(kernel.machine for kernel in run.kernels):
        rows += [["machine", *(kernel.machine or "here" for kernel in run.kernels)]]
    rows += [
        [topic, *(_cell(counts[kernel.name].get(topic, Counter())) for kernel in run.kernels)]
        for topic in topics
        if topic not in folded
    ]
    if folded:
        passed = [
            sum((counts[kernel.name].get(topic, Counter()) for topic in folded), Counter()) for kernel in run.kernels
        ]
        rows += [[f"{len(folded)} others", *map(_cell, passed)]]
    rows += [["console", *(_splats(kernel) for kernel in run.kernels)]]
    rows += [["outcome", *(str(kernel.outcome) for kernel in run.kernels)]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _folded(topics: list[str], counts: list[dict[str, Counter[CaseOutcome]]]) -> set[str]:
    """Return the topics that have no row of their own; `counts` are each kernel's by topic."""
    if len(topics) <= _MOST_TOPICS:
        return set()
    found = {topic: {outcome for of_kernel in counts for outcome in of_kernel.get(topic, ())} for topic in topics}
    green = [topic for topic in topics if found[topic] <= {CaseOutcome.PASSED}]
    expected = [topic for topic in topics if topic not in green and found[topic] <= AS_EXPECTED]
    too_many = len(topics) - len(green) - _MOST_TOPICS
    return {*green, *expected[max(0, len(expected) - too_many) :]} if too_many > 0 else {*green}


def differences(run: RunResult, *, told: Collection[str] = ()) -> Iterator[str]:
    """Yield what is not the same on all kernels that ran any case: cases, or functions all of whose cases agree.

    Functions that are `told` of already are left out.
    """
    kernels = [kernel for kernel in run.kernels if kernel.cases]
    if len(kernels) < 2:
        return
    outcomes = {kernel.name: {case.id: str(case.outcome) for case in kernel.cases} for kernel in kernels}
    of_function: dict[str, dict[str, str]] = {}
    for case in dict.fromkeys(case.id for kernel in kernels for case in kernel.cases):
        found = {name: cases.get(case, "absent") for name, cases in outcomes.items()}
        of_function.setdefault(case.partition("[")[0], {})[case] = "" if len({*found.values()}) == 1 else _said(found)
    for function, cases in of_function.items():
        if function in told:
            continue
        alike = len(cases) > 1 and len({*cases.values()}) == 1
        named = {f"{function}, all {len(cases)} cases": next(iter(cases.values()))} if alike else cases
        yield from (f"{case}: {said}" for case, said in named.items() if said)


def _said(found: Mapping[str, str]) -> str:
    """Return which outcome a case had on which kernels."""
    kernels: dict[str, list[str]] = {}
    for name, outcome in found.items():
        kernels.setdefault(outcome, []).append(name)
    return "; ".join(f"{outcome} on {', '.join(names)}" for outcome, names in kernels.items())


def _counts(kernel: KernelResult) -> dict[str, Counter[CaseOutcome]]:
    counts: dict[str, Counter[CaseOutcome]] = {}
    for case in kernel.cases:
        counts.setdefault(topic_of(case.id), Counter())[case.outcome] += 1
    return counts


def _cell(counts: Counter[CaseOutcome]) -> str:
    if not counts:
        return "-"
    others = [f"{count} {_SHORT[outcome]}" for outcome, count in counts.items() if outcome is not CaseOutcome.PASSED]
    return ", ".join([str(counts[CaseOutcome.PASSED]), *others])


def _splats(kernel: KernelResult) -> str:
    if not kernel.vms:
        return "-"
    return f"{len(kernel.splats)} splats" if kernel.splats else "clean"
