# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Write a run's results in the forms that others read: JUnit's XML and the kernel's KTAP."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from vm.report import results, stories
from vm.report.outcomes import CaseOutcome, KernelOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vm.report.results import CaseResult, KernelResult, RunResult

JUNIT, KTAP = "junit.xml", "results.ktap"

# What XML 1.0 cannot hold, not even escaped: a payload's bytes in a diff, a terminal's colours.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_FINE = {CaseOutcome.PASSED, CaseOutcome.SKIPPED, CaseOutcome.XFAILED}


def write(run: RunResult, directory: Path) -> None:
    """Write junit.xml and results.ktap into `directory`."""
    results.write_text(directory / JUNIT, junit(run, directory))
    results.write_text(directory / KTAP, ktap(run))


def junit(run: RunResult, directory: Path | None = None) -> str:
    """Return JUnit's XML: a suite a kernel, whose name begins the class name of its cases.

    Stories are read from `directory`, and left out without one.
    """
    document: Any = JUnitXml("reuseport-harness")
    for kernel in run.kernels:
        suite = TestSuite(_xml(kernel.name))
        suite.timestamp = run.started
        for name, value in _properties(kernel):
            suite.add_property(name, _xml(value))
        suite.add_testcases([_junit_case(kernel, case, directory) for case in kernel.cases])
        suite.add_testcases(list(_junit_kernel(kernel)))
        document.add_testsuite(suite)
    document.update_statistics()
    return str(document.tostring().decode())


def ktap(run: RunResult) -> str:
    """Return KTAP version 1 (Documentation/dev-tools/ktap.rst): a test a kernel, its cases nested in it."""
    lines = ["KTAP version 1", f"1..{len(run.kernels)}"]
    for number, kernel in enumerate(run.kernels, start=1):
        lines += ["  KTAP version 1", f"  1..{len(kernel.cases)}"]
        lines += [f"  {_ktap_case(at, case)}" for at, case in enumerate(kernel.cases, start=1)]
        lines += [f"  # --append {text}" for text in kernel.append]
        lines += [f"  # {splat.kind}: {splat.title}" for splat in kernel.splats]
        lines += [f"  # {line}" for line in kernel.reason.splitlines()]
        good = kernel.outcome is KernelOutcome.PASSED
        lines.append(f"{'ok' if good else 'not ok'} {number} {_name(kernel.name)}")
    return "\n".join(lines) + "\n"


def _properties(kernel: KernelResult) -> Iterator[tuple[str, str]]:
    yield from (("release", kernel.release), ("version", kernel.version), ("cmdline", kernel.cmdline))
    yield "accel", kernel.accel
    yield from (("append", text) for text in kernel.append)
    yield from ((name, str(size)) for name, size in (("memory", kernel.memory), ("cpus", kernel.cpus)) if size)


def _junit_case(kernel: KernelResult, case: CaseResult, directory: Path | None) -> TestCase:
    path, _, name = case.id.partition("::")
    classname = ".".join([kernel.name, *PurePath(path).with_suffix("").parts])
    entry = TestCase(_xml(name or path), classname=_xml(classname), time=case.seconds)
    if directory is not None and case.story:
        entry.system_out = _xml(stories.read_text(directory / case.story))
    reason, detail = _xml(case.reason), _xml(case.detail)
    match case.outcome:
        case CaseOutcome.PASSED:
            pass
        case CaseOutcome.SKIPPED | CaseOutcome.XFAILED:
            entry.result = [Skipped(reason, str(case.outcome))]
        case CaseOutcome.FAILED | CaseOutcome.XPASSED | CaseOutcome.FEATURE_MISSING:
            failure = Failure(reason, str(case.outcome))
            failure.text = detail
            entry.result = [failure]
        case _:
            error = Error(reason, str(case.outcome))
            error.text = detail
            entry.result = [error]
    return entry


def _junit_kernel(kernel: KernelResult) -> Iterator[TestCase]:
    """Yield what is wrong with a kernel and no case's: a kernel that never booted has no other entry."""
    for splat in kernel.splats:
        entry = TestCase(_xml(f"console: {splat.title}"), classname=_xml(kernel.name))
        error = Error(_xml(splat.title), str(CaseOutcome.SPLAT))
        error.text = _xml(splat.excerpt)
        entry.result = [error]
        yield entry
    if kernel.reason:
        entry = TestCase("kernel", classname=_xml(kernel.name))
        entry.result = [Error(_xml(kernel.reason), str(kernel.outcome))]
        yield entry


def _ktap_case(number: int, case: CaseResult) -> str:
    line = f"{'ok' if case.outcome in _FINE else 'not ok'} {number} {_name(case.id)}"
    reason = " ".join(case.reason.split())
    match case.outcome:
        case CaseOutcome.PASSED:
            return line
        case CaseOutcome.SKIPPED:
            return f"{line} # SKIP {reason}"
        case CaseOutcome.XFAILED:
            return f"{line} # XFAIL {reason}"
        case CaseOutcome.HUNG:
            return f"{line} # TIMEOUT {reason}"
        case CaseOutcome.LOST | CaseOutcome.NOT_RUN:
            return f"{line} # ERROR {reason}"
        case _:
            return line


def _name(text: str) -> str:
    return text.replace("#", "_").replace("\n", " ")


def _xml(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
