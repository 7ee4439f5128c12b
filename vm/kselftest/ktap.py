# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Write what a run on the running kernel came to as a selftest does: Documentation/dev-tools/ktap.rst.

The header is TAP's, as that of the kernel's own selftests: netdev's CI (nipa, parse_nested_tests()) looks for it, reads
the results on the level below, and takes time= from them. That level is a file of cases; the cases are nested in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vm.report.ktap import case_line, name_of, totals
from vm.report.outcomes import AS_EXPECTED, CaseOutcome
from vm.report.tree import topic_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vm.report.results import CaseResult, KernelResult

PASS, FAIL, SKIP = 0, 1, 4
"""Exit statuses of a selftest (tools/testing/selftests/kselftest.h)."""


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
        yield f"  # Subtest: {name_of(topic)}"
        yield f"  1..{len(cases)}"
        for at, case in enumerate(cases, start=1):
            if case.outcome not in AS_EXPECTED:
                yield from (f"  # {line}" for line in (case.detail or case.reason).splitlines())
            yield f"  {case_line(at, case, topic)}"
        yield _topic(number, topic, cases)
    yield totals(case.outcome for case in kernel.cases)


def status(kernel: KernelResult) -> int:
    """Return the exit status for a kernel."""
    if any(case.outcome not in AS_EXPECTED for case in kernel.cases):
        return FAIL
    return SKIP if all(case.outcome is CaseOutcome.SKIPPED for case in kernel.cases) else PASS


def _topic(number: int, topic: str, cases: Sequence[CaseResult]) -> str:
    good = all(case.outcome in AS_EXPECTED for case in cases)
    milliseconds = round(1000 * sum(case.seconds for case in cases))
    line = f"{'ok' if good else 'not ok'} {number} {topic}"
    if all(case.outcome is CaseOutcome.SKIPPED for case in cases):
        return f"{line} # SKIP all cases"
    return f"{line} # time={milliseconds}ms"
