# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Write what a run on the running kernel came to as a selftest does: Documentation/dev-tools/ktap.rst.

The header is TAP's, as that of the kernel's own selftests: netdev's CI (nipa, parse_nested_tests()) looks for it, reads
the results on the level below, and takes time= from them. That level is a file of cases; the cases are nested in it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from vm.report.outcomes import CaseOutcome
from vm.report.tree import topic_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vm.report.results import CaseResult, KernelResult

PASS, FAIL, SKIP = 0, 1, 4
"""Exit statuses of a selftest (tools/testing/selftests/kselftest.h)."""

_FINE = {CaseOutcome.PASSED, CaseOutcome.SKIPPED, CaseOutcome.XFAILED}
_KINDS = ("pass", "fail", "xfail", "xpass", "skip", "error")
_KIND = {
    CaseOutcome.PASSED: "pass",
    CaseOutcome.SKIPPED: "skip",
    CaseOutcome.XFAILED: "xfail",
    CaseOutcome.XPASSED: "xpass",
    CaseOutcome.LOST: "error",
    CaseOutcome.HUNG: "error",
    CaseOutcome.NOT_RUN: "error",
}


def lines(kernel: KernelResult) -> Iterator[str]:
    """Yield the results of a kernel's cases, a file of cases a test."""
    topics: dict[str, list[CaseResult]] = {}
    for case in kernel.cases:
        topics.setdefault(topic_of(case.id), []).append(case)
    yield "TAP version 13"
    yield f"1..{len(topics)}"
    yield f"# Linux {kernel.release}"
    for number, (topic, cases) in enumerate(topics.items(), start=1):
        yield "  KTAP version 1"
        yield f"  # Subtest: {topic}"
        yield f"  1..{len(cases)}"
        for at, case in enumerate(cases, start=1):
            yield from (f"  {line}" for line in _case(at, case))
        yield _topic(number, topic, cases)
    counts = Counter(_KIND.get(case.outcome, "fail") for case in kernel.cases)
    yield "# Totals: " + " ".join(f"{kind}:{counts[kind]}" for kind in _KINDS)


def status(kernel: KernelResult) -> int:
    """Return the exit status for a kernel."""
    if any(case.outcome not in _FINE for case in kernel.cases):
        return FAIL
    return SKIP if all(case.outcome is CaseOutcome.SKIPPED for case in kernel.cases) else PASS


def _topic(number: int, topic: str, cases: Sequence[CaseResult]) -> str:
    good = all(case.outcome in _FINE for case in cases)
    milliseconds = round(1000 * sum(case.seconds for case in cases))
    line = f"{'ok' if good else 'not ok'} {number} {topic}"
    if all(case.outcome is CaseOutcome.SKIPPED for case in cases):
        return f"{line} # SKIP all cases"
    return f"{line} # time={milliseconds}ms"


def _case(number: int, case: CaseResult) -> Iterator[str]:
    good = case.outcome in _FINE
    if not good:
        yield from (f"# {line}" for line in (case.detail or case.reason).splitlines())
    name = case.id.partition("::")[2].replace("#", "_").replace("\n", " ")
    line = f"{'ok' if good else 'not ok'} {number} {name}"
    reason = " ".join(case.reason.split()).replace("#", "")
    match case.outcome:
        case CaseOutcome.SKIPPED:
            yield f"{line} # SKIP {reason}"
        case CaseOutcome.XFAILED:
            yield f"{line} # XFAIL {reason}"
        case CaseOutcome.NOT_RUN:
            yield f"{line} # ERROR {reason}"
        case _:
            yield line
