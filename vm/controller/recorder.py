# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Turn pytest's reports into the outcome of each case on each kernel."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.interface.keys import MISSING_FEATURE, OBSERVED
from vm.report.outcomes import AS_EXPECTED, CaseOutcome
from vm.report.results import CaseResult, KernelResult

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest


class Recorder:
    """The results of each kernel so far."""

    def __init__(self, kernels: Iterable[str]) -> None:
        self.kernels = {name: KernelResult(name=name) for name in kernels}
        self.failed: Counter[str] = Counter()
        """How many cases of each kernel have failed in any way, so far."""
        self._cases: dict[tuple[str, str], CaseResult] = {}

    def add(self, kernel: str, report: pytest.TestReport, *, taken_as: CaseOutcome | None = None) -> CaseResult:
        """Add the report of one phase of a case; return the case. `taken_as` replaces the outcome of a failure."""
        case = self._case(kernel, report.nodeid)
        case.seconds = round(case.seconds + (report.duration or 0), 4)
        properties = dict(report.user_properties)
        case.observed = properties.get(OBSERVED, case.observed)
        outcome = taken_as or _outcome_of(report)
        if outcome in (CaseOutcome.FAILED, CaseOutcome.FEATURE_MISSING) and MISSING_FEATURE in properties:
            outcome = CaseOutcome.FEATURE_MISSING
            case.missing_feature = str(properties[MISSING_FEATURE])
        # The first failure of a case counts, even if a later phase passes.
        if outcome is not CaseOutcome.PASSED and case.outcome in AS_EXPECTED:
            case.outcome = outcome
            self.failed[kernel] += outcome not in AS_EXPECTED
            case.reason = _reason_of(report)
            if report.failed:
                case.detail = report.longreprtext
        return case

    def add_not_run(self, kernel: str, cases: Iterable[str], *, reason: str) -> None:
        """Add cases that did not begin."""
        for name in cases:
            case = self._case(kernel, name)
            case.outcome, case.reason = CaseOutcome.NOT_RUN, reason

    def sort(self, kernel: str, order: Iterable[str]) -> None:
        """Put the cases of `kernel` into an order, in which several VMs did not end them."""
        places = {case: number for number, case in enumerate(order)}
        self.kernels[kernel].cases.sort(key=lambda case: places.get(case.id, len(places)))

    def add_splat(self, kernel: str, name: str, *, title: str) -> bool:
        """Mark the case that was running as one with a splat; return False if it had failed already."""
        case = self._cases.get((kernel, name))
        if case is None or case.outcome not in AS_EXPECTED:
            return False
        case.outcome, case.reason = CaseOutcome.SPLAT, title
        return True

    def ran(self, kernel: str) -> list[str]:
        """Return the cases of `kernel` that began."""
        return [case.id for case in self.kernels[kernel].cases if case.outcome is not CaseOutcome.NOT_RUN]

    def _case(self, kernel: str, name: str) -> CaseResult:
        if (kernel, name) not in self._cases:
            case = CaseResult(id=name, outcome=CaseOutcome.PASSED, seconds=0)
            self._cases[kernel, name] = case
            self.kernels[kernel].cases.append(case)
        return self._cases[kernel, name]


def _outcome_of(report: pytest.TestReport) -> CaseOutcome:
    if hasattr(report, "wasxfail"):
        return CaseOutcome.XFAILED if report.skipped else CaseOutcome.XPASSED
    if report.failed:
        strict = isinstance(report.longrepr, str) and report.longrepr.startswith("[XPASS(strict)]")
        return CaseOutcome.XPASSED if strict else CaseOutcome.FAILED
    return CaseOutcome.SKIPPED if report.skipped else CaseOutcome.PASSED


def _reason_of(report: pytest.TestReport) -> str:
    longrepr: Any = report.longrepr
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail)
    if isinstance(longrepr, tuple):
        return str(longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(longrepr, "reprcrash", None)
    text = str(longrepr if crash is None else crash.message)
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
