# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A run in Markdown, for the summary of a CI job, and its failures as GitHub's annotations. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from vm.report.findings import findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.report.findings import Finding
    from vm.report.history import History
    from vm.report.results import RunResult

_MOST = 50
"""Findings that are listed: GitHub shows a megabyte of summary and ten annotations a step."""

_MARKS = {"passed": "\N{WHITE HEAVY CHECK MARK}", "not finished": "\N{BLACK SQUARE FOR STOP}"}


def summary(run: RunResult, history: History | None = None) -> str:
    """Return the run as Markdown: what is not as expected, and a row a kernel."""
    found = findings(run, history)
    lines = [f"## Reuseport: {_text(run.outcome)}", ""]
    lines += list(_findings(found)) if found else ["Everything is as expected.", ""]
    lines += ["| kernel | release | outcome | cases |", "|---|---|---|---|"]
    for kernel in run.kernels:
        counts = Counter(str(case.outcome) for case in kernel.cases)
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) or "none"
        mark = _MARKS.get(str(kernel.outcome), "\N{CROSS MARK}")
        lines.append(f"| {_text(kernel.name)} | {_text(kernel.release or '-')} | {mark} {kernel.outcome} | {said} |")
    return "\n".join(lines) + "\n"


def _findings(found: list[Finding]) -> Iterator[str]:
    yield "| not as expected | cases | where | since | it may be |"
    yield "|---|---|---|---|---|"
    for finding in found[:_MOST]:
        what = f"**{finding.outcome}** {_code(finding.what)}<br>{_text(finding.says or finding.reason)}"
        count = f"{finding.count} of {finding.of}" if finding.of else str(finding.count or "-")
        yield (
            f"| {what} | {count} | {_text(finding.where)} | {_text(finding.since) or '-'} | "
            f"{_text(finding.smells) or '-'} |"
        )
    if len(found) > _MOST:
        yield f"| and {len(found) - _MOST} more: see report.html | | | | |"
    yield ""


def commands(run: RunResult, history: History | None = None) -> Iterator[str]:
    """Yield a workflow command of GitHub's for each finding."""
    for finding in findings(run, history):
        file, _, name = finding.what.partition("::")
        title = f"{finding.outcome} {finding.where}: {name or finding.what}"
        place = f"file={_property(file)}," if name else ""
        message = "\n".join(filter(None, (finding.says, finding.reason, finding.since, finding.smells)))
        yield f"::error {place}title={_property(title)}::{_data(message)}"


def _text(text: str) -> str:
    """Return text that a cell of a table shows as it is."""
    for mark in "\\`*_[]<>|~":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return " ".join(text.split())


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
