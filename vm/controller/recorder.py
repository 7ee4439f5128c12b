# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Gather pytest's reports into what each case came to on each kernel."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.interface.keys import MISSING_FEATURE, OBSERVED
from vm.report.outcomes import CaseOutcome
from vm.report.results import CaseResult, KernelResult

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

_BLAMELESS = {CaseOutcome.PASSED, CaseOutcome.SKIPPED, CaseOutcome.XFAILED}


class Recorder:
    """Hold the results of the kernels of a run."""

    def __init__(self, kernels: Iterable[str]) -> None:
        self.kernels = {name: KernelResult(name=name) for name in kernels}
        self.failed: Counter[str] = Counter()
        """How many cases of each kernel are not as they should be, so far."""
        self._cases: dict[tuple[str, str], CaseResult] = {}

    def add(self, kernel: str, report: pytest.TestReport, *, taken_as: CaseOutcome | None = None) -> CaseResult:
        """Take in one phase of a case; `taken_as` is what a failure of it counts as."""
        case = self._case(kernel, report.nodeid)
        case.seconds = round(case.seconds + (report.duration or 0), 4)
        properties = dict(report.user_properties)
        case.observed = properties.get(OBSERVED, case.observed)
        outcome = taken_as or _outcome_of(report)
        if outcome in (CaseOutcome.FAILED, CaseOutcome.FEATURE_MISSING) and MISSING_FEATURE in properties:
            outcome = CaseOutcome.FEATURE_MISSING
            case.missing_feature = str(properties[MISSING_FEATURE])
        # The first failure of a case is the one that counts; a phase that passes takes nothing back.
        if outcome is not CaseOutcome.PASSED and case.outcome in _BLAMELESS:
            case.outcome = outcome
            self.failed[kernel] += outcome not in _BLAMELESS
            case.reason = _reason_of(report)
            if report.failed:
                case.detail = report.longreprtext
        return case

    def add_not_run(self, kernel: str, cases: Iterable[str], *, reason: str) -> None:
        """Take note of cases that did not come to their turn."""
        for name in cases:
            case = self._case(kernel, name)
            case.outcome, case.reason = CaseOutcome.NOT_RUN, reason

    def add_splat(self, kernel: str, name: str, *, title: str) -> bool:
        """Hold a splat against the case that was running; tell whether it had been blameless until then."""
        case = self._cases.get((kernel, name))
        if case is None or case.outcome not in _BLAMELESS:
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
