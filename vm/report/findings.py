# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a run has that is not as expected: one function that fails alike on five kernels is one finding. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vm.report.functions import function_of
from vm.report.outcomes import AS_EXPECTED, CaseOutcome
from vm.report.tree import topic_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vm.report.history import History
    from vm.report.results import BugEntry, CaseResult, KernelResult, RunResult

_MOST_BUGS = 2
"""Bugs of the topic that a finding names where none is its own."""


@dataclass(kw_only=True)
class Finding:
    """One thing that is not as expected."""

    what: str  # the function of the cases, or what is wrong with a kernel
    outcome: str
    reason: str  # the first one
    says: str = ""  # the promise in words
    cases: dict[str, list[CaseResult]] = field(default_factory=dict)  # by kernel; empty: it is no case's
    of: int = 0  # cases that the function has on those kernels
    where: str = ""  # on which kernels of the run, and since which version
    since: str = ""  # since which run; empty if no earlier run is known
    smells: str = ""  # which bug of the ledger it may be

    @property
    def count(self) -> int:
        """Return how many cases on how many kernels it is."""
        return sum(map(len, self.cases.values()))


def findings(run: RunResult, history: History | None = None) -> list[Finding]:
    """Return what is not as expected: first of kernels, then of cases."""
    return [*_of_kernels(run), *_of_cases(run, history)]


def _of_kernels(run: RunResult) -> Iterator[Finding]:
    for kernel in run.kernels:
        if kernel.reason:
            yield Finding(
                what=f"kernel {kernel.name}", outcome=str(kernel.outcome), reason=kernel.reason.splitlines()[0],
                where=f"on {kernel.name}", cases={kernel.name: []},
            )  # fmt: skip
    complaints: dict[tuple[str, str], list[str]] = {}
    for kernel in run.kernels:
        for splat in kernel.splats:
            complaints.setdefault((splat.kind, _plain(splat.title)), []).append(kernel.name)
    for (kind, title), names in complaints.items():
        yield Finding(
            what=f"console: {kind}", outcome=str(CaseOutcome.SPLAT), reason=title,
            where=_where(run, list(dict.fromkeys(names)), ran=[kernel.name for kernel in run.kernels if kernel.vms]),
            cases={name: [] for name in names},
        )  # fmt: skip


def _of_cases(run: RunResult, history: History | None) -> Iterator[Finding]:
    found: dict[tuple[str, str], Finding] = {}
    ran: dict[str, dict[str, int]] = {}
    for kernel in run.kernels:
        for case in kernel.cases:
            function = function_of(case.id)
            if case.outcome not in (CaseOutcome.NOT_RUN, CaseOutcome.SKIPPED):
                ran.setdefault(function, {}).setdefault(kernel.name, 0)
                ran[function][kernel.name] += 1
            if case.outcome in AS_EXPECTED:
                continue
            not_run = case.outcome is CaseOutcome.NOT_RUN
            what = "cases that did not run" if not_run else function
            key = (case.reason if not_run else function, str(case.outcome))
            if key not in found:
                text = run.functions.get(function)
                says = text.says if text is not None and not not_run else ""
                found[key] = Finding(what=what, outcome=str(case.outcome), reason=case.reason, says=says)
            found[key].cases.setdefault(kernel.name, []).append(case)
    for finding in found.values():
        names = ran.get(finding.what, {})
        finding.of = sum(names.get(name, 0) for name in finding.cases)
        known = list(names) or [kernel.name for kernel in run.kernels]
        finding.where = _where(run, list(finding.cases), ran=known)
        finding.since = _since(finding, history, of_this_run={run.started, *run.merged})
        finding.smells = smell(run, finding)
        yield finding


def _where(run: RunResult, names: Sequence[str], *, ran: Sequence[str]) -> str:
    """Return on which kernels, and from which version on or up to which version where their order shows it."""
    there = "on " + ", ".join(names)
    order = sorted((kernel for kernel in run.kernels if kernel.name in ran and version_of(kernel)), key=version_of)
    bad = [kernel.name in names for kernel in order]
    if len(order) < 2 or not any(bad):
        return there
    if all(bad):
        return f"{there}: every kernel that ran it"
    if bad == sorted(bad):
        first = bad.index(True)
        return f"{there}: since {_version(order[first])}, not on {_version(order[first - 1])}"
    if bad == sorted(bad, reverse=True):
        last = bad.index(False)
        return f"{there}: up to {_version(order[last - 1])}, not on {_version(order[last])}"
    return there


def version_of(kernel: KernelResult) -> tuple[int, ...]:
    """Return the version of a kernel's source as numbers; empty if it is not known."""
    release = _numbers(kernel.release)
    package = _numbers(kernel.version)
    # Debian's kernels call themselves 6.1.0 whatever they are; the package has the point release.
    return package if package[:2] == release[:2] and package else release


def _numbers(text: str) -> tuple[int, ...]:
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in match.groups()) if match else ()


def _version(kernel: KernelResult) -> str:
    return ".".join(map(str, version_of(kernel)))


def _since(finding: Finding, history: History | None, *, of_this_run: set[str]) -> str:
    """Return since which run the first case behaves so, and how it behaved before.

    `of_this_run` are the starts of this run, which the history may have already: reports are made again.
    """
    if history is None:
        return ""
    for name, cases in finding.cases.items():
        for case in cases:
            entry = history.entry(name, case.id)
            if entry is None:
                continue
            if entry.outcome != str(case.outcome):
                return f"new: {entry.outcome} in the run before, on {entry.release or name}"
            if entry.since in of_this_run:
                return f"new: {entry.before} in the run before" if entry.before else ""
            before = f", {entry.before} before" if entry.before and entry.before != entry.outcome else ""
            return f"since the run of {entry.since[:16]} ({entry.release or name}){before}"
    return ""


def smell(run: RunResult, finding: Finding) -> str:
    """Return which bugs of the ledger a finding may be: those that its cases name, or else those of its topic."""
    named = {bug["name"]: bug for cases in finding.cases.values() for case in cases for bug in case.bugs}
    if named:
        return "; ".join(_named(bug, finding.outcome) for bug in named.values())
    kernels = [kernel for kernel in run.kernels if kernel.name in finding.cases]
    topics = {topic_of(case.id) for cases in finding.cases.values() for case in cases}
    near = {
        bug["name"]: bug
        for kernel in kernels
        for case in kernel.cases
        for bug in case.bugs
        if bug["state"] in ("affected", "unknown") and topic_of(case.id) in topics
    }
    if len(topics) > 1 or not near:
        return ""
    return "perhaps " + " or ".join(f"{bug['name']}, {_commit(bug)}" for bug in list(near.values())[:_MOST_BUGS])


def _named(bug: BugEntry, outcome: str) -> str:
    if outcome == str(CaseOutcome.XPASSED):
        return f"{bug['name']} is gone: this kernel seems to have {_commit(bug)}"
    if bug["state"] == "fixed":
        return f"{bug['name']} is back: the ledger has it fixed here by {_commit(bug)}"
    return f"{bug['name']}, {_commit(bug)}"


def _commit(bug: BugEntry) -> str:
    return f'{bug["commit"]} ("{bug["subject"]}")' if bug["commit"] else f'"{bug["subject"]}"'


def _plain(title: str) -> str:
    """Return a splat's title without what is another one each time: addresses, CPUs, process ids."""
    return re.sub(r"0x[0-9a-f]+|\b\d+\b", "N", title)
