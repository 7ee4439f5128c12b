# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""JUnit's XML: a suite a kernel, whose name begins the class name of its cases. Jenkins' and GitLab's forms of it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from vm.report import stories
from vm.report.functions import function_of
from vm.report.outcomes import CaseOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vm.report.results import CaseResult, FunctionResult, KernelResult, RunResult

# What XML 1.0 cannot hold, not even escaped: a payload's bytes in a diff, a terminal's colours.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(run: RunResult, directory: Path | None = None) -> str:
    """Return the document. Stories are read from `directory`, and left out without one."""
    document: Any = JUnitXml("reuseport-harness")
    for kernel in run.kernels:
        suite = TestSuite(_xml(kernel.name))
        suite.timestamp = run.started
        for name, value in _properties(kernel):
            suite.add_property(name, _xml(value))
        suite.add_testcases(
            [_case(kernel, case, run.functions.get(function_of(case.id)), directory) for case in kernel.cases]
        )
        suite.add_testcases(list(_of_kernel(kernel)))
        document.add_testsuite(suite)
    document.update_statistics()
    # junitparser counts what was skipped for all suites together too, where Jenkins' schema has no such attribute.
    return re.sub(r'(<testsuites [^>]*?) skipped="\d+"', r"\1", str(document.tostring().decode()), count=1)


def _properties(kernel: KernelResult) -> Iterator[tuple[str, str]]:
    yield from (("release", kernel.release), ("version", kernel.version), ("cmdline", kernel.cmdline))
    yield "accel", kernel.accel
    yield from (("append", text) for text in kernel.append)
    yield from ((name, str(size)) for name, size in (("memory", kernel.memory), ("cpus", kernel.cpus)) if size)
    yield from (("note", note) for note in kernel.notes)
    if kernel.console:
        yield "console", kernel.console


def _case(kernel: KernelResult, case: CaseResult, function: FunctionResult | None, directory: Path | None) -> TestCase:
    path, _, name = case.id.partition("::")
    entry = TestCase(_xml(name or path), classname=_xml(f"{kernel.name}.{_module(path)}"), time=case.seconds)
    if said := "\n\n".join(_said(kernel, case, function, directory)):
        entry.system_out = _xml(said)
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


def _said(
    kernel: KernelResult, case: CaseResult, function: FunctionResult | None, directory: Path | None
) -> Iterator[str]:
    """Yield what stands under a case beside its result: for one that is not as it should be, and one with a story.

    Files are named as Jenkins' attachments plugin and GitLab read it, relative to the results.
    """
    if directory is None or not (case.story or case.pcap or case.detail):
        return
    if function is not None and function.says:
        yield f"promise: {function.says}"
    for bug in case.bugs:
        state = f"{bug['state']} on {kernel.release}"
        yield f"known bug: {bug['name']} ({state}): {bug['subject']} {bug['commit']}".rstrip()
    yield from (f"[[ATTACHMENT|{file}]]" for file in (case.story, case.pcap) if file)
    if case.story:
        yield stories.read_text(directory / case.story)


def _of_kernel(kernel: KernelResult) -> Iterator[TestCase]:
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


@cache
def _module(path: str) -> str:
    return ".".join(PurePath(path).with_suffix("").parts)


def _xml(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
