# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""KTAP version 1 (Documentation/dev-tools/ktap.rst): kernels, in them topics, promises and cases.

tools/testing/kunit/kunit_parser.py reads it: a test that failed is not the same there as one that is missing, and a
subtest without cases is an error. nipa takes subtests by their "# Subtest" and "ok" lines.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from vm.report.outcomes import AS_EXPECTED, CaseOutcome, KernelOutcome
from vm.report.tree import tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vm.report.results import CaseResult, FunctionResult, KernelResult, RunResult

_DIRECTIVES = {
    CaseOutcome.SKIPPED: "SKIP",
    CaseOutcome.XFAILED: "XFAIL",
    CaseOutcome.HUNG: "TIMEOUT",
    CaseOutcome.LOST: "ERROR",
    CaseOutcome.NOT_RUN: "ERROR",
}

_DETAIL = 40
"""Lines of a failure's report that stand above its result."""


def ktap(run: RunResult) -> str:
    """Return the whole document."""
    lines = list(head(len(run.kernels)))
    for number, kernel in enumerate(run.kernels, start=1):
        lines += kernel_lines(number, kernel, run.functions)
    lines.append(totals(case.outcome for kernel in run.kernels for case in kernel.cases))
    return "\n".join(lines) + "\n"


def head(kernels: int) -> Iterator[str]:
    """Yield what the document begins with."""
    yield "KTAP version 1"
    yield f"1..{kernels}"


def kernel_lines(number: int, kernel: KernelResult, functions: Mapping[str, FunctionResult]) -> Iterator[str]:
    """Yield a kernel's test, the `number`th of the document, with its topics nested in it."""
    found = {case.id: case for case in kernel.cases}
    topics = tree(found, functions)
    if topics:
        yield from begin(kernel.name, len(topics), depth=1)
    for at, (name, promises) in enumerate(topics.items(), start=1):
        topic = apart(name, kernel.name, "topic")
        yield from begin(topic, len(promises), depth=2)
        for place, (promise, names) in enumerate(promises.items(), start=1):
            yield from promise_lines(place, apart(promise, topic, "promise"), [found[each] for each in names])
        cases = [found[each] for names in promises.values() for each in names]
        yield from end(at, topic, cases, depth=2)
    yield from kernel_end(number, kernel)


def promise_lines(number: int, promise: str, cases: list[CaseResult]) -> Iterator[str]:
    """Yield a promise's test with its cases."""
    yield from begin(promise, len(cases), depth=3)
    for at, case in enumerate(cases, start=1):
        if case.outcome not in AS_EXPECTED:
            yield from (f"        # {line}".rstrip() for line in case.detail.splitlines()[:_DETAIL])
        yield f"        {case_line(at, case, promise)}"
    yield from end(number, promise, cases, depth=3)


def kernel_end(number: int, kernel: KernelResult) -> Iterator[str]:
    """Yield what a kernel's test ends with: notes on the whole kernel, and its result."""
    if kernel.cases:
        yield f"  {totals(case.outcome for case in kernel.cases)}"
    yield from (f"  # --append {text}" for text in kernel.append)
    yield from (f"  # {splat.kind}: {one_line(splat.title)}" for splat in kernel.splats)
    yield from (f"  # {line}" for line in kernel.reason.splitlines())
    good = kernel.outcome is KernelOutcome.PASSED
    if good and all(case.outcome is CaseOutcome.SKIPPED for case in kernel.cases):
        why = "every case was skipped" if kernel.cases else "no cases"
        yield f"ok {number} {name_of(kernel.name)} # SKIP {why}"
    elif good or kernel.cases:
        yield f"{'ok' if good else 'not ok'} {number} {name_of(kernel.name)}"
    else:
        yield f"not ok {number} {name_of(kernel.name)} # ERROR {one_line(kernel.reason) or kernel.outcome}"


def begin(name: str, count: int, *, depth: int) -> Iterator[str]:
    """Yield the head of a test that has others nested in it; `depth` is theirs."""
    indent = "  " * depth
    yield from (f"{indent}KTAP version 1", f"{indent}# Subtest: {name_of(name)}", f"{indent}1..{count}")


def end(number: int, name: str, cases: list[CaseResult], *, depth: int) -> Iterator[str]:
    """Yield the totals and the result of a test that has others nested in it."""
    outcomes = [case.outcome for case in cases]
    yield "  " * depth + totals(outcomes)
    line = f"{'ok' if AS_EXPECTED.issuperset(outcomes) else 'not ok'} {number} {name_of(name)}"
    skipped = " # SKIP every case was skipped" if {*outcomes} == {CaseOutcome.SKIPPED} else ""
    yield "  " * (depth - 1) + line + skipped


def totals(outcomes: Iterator[CaseOutcome] | list[CaseOutcome]) -> str:
    """Return the line of totals, in the words of tools/testing/selftests/kselftest.h."""
    counts = Counter(outcomes)
    failed = counts[CaseOutcome.FAILED] + counts[CaseOutcome.FEATURE_MISSING] + counts[CaseOutcome.SPLAT]
    errors = counts[CaseOutcome.LOST] + counts[CaseOutcome.HUNG] + counts[CaseOutcome.NOT_RUN]
    return (
        f"# Totals: pass:{counts[CaseOutcome.PASSED]} fail:{failed} xfail:{counts[CaseOutcome.XFAILED]} "
        f"xpass:{counts[CaseOutcome.XPASSED]} skip:{counts[CaseOutcome.SKIPPED]} error:{errors}"
    )


def apart(name: str, parent: str, kind: str) -> str:
    """Return a name that is not that of the test it is nested in: kunit_parser.py takes such a one for its end."""
    return f"{name} ({kind})" if name_of(name) == name_of(parent) else name


def case_line(number: int, case: CaseResult, promise: str) -> str:
    """Return a case's result: its name within the promise, and why it is not a plain one."""
    name = apart(case.id.partition("::")[2] or case.id, promise, "case")
    line = f"{'ok' if case.outcome in AS_EXPECTED else 'not ok'} {number} {name_of(name)}"
    reason = one_line(case.reason.replace("#", ""))
    directive = _DIRECTIVES.get(case.outcome)
    if directive is not None:
        return f"{line} # {directive} {reason}".rstrip()
    if case.outcome in (CaseOutcome.PASSED, CaseOutcome.FAILED):
        return line
    return f"{line} # {case.outcome}: {reason}"


def name_of(text: str) -> str:
    """Return text as KTAP can hold it in a name: on one line, without the mark that begins a directive."""
    return one_line(text.replace("#", "_"))


def one_line(text: str) -> str:
    """Return text on one line."""
    return " ".join(text.split())
